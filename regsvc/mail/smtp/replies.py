"""The table of what a mail server's reply means, by stage.

Codes: RFC 5321, 4.2.3; RFC 4954, 6; RFC 7504. Enhanced codes: RFC 3463, IANA's registry, and those of Exchange
Online, Gmail, Amazon SES and others. Where codes say nothing, the words decide: large providers send `554` or
`5.7.1` for everything. `tests/mail/test_replies.py` has the replies of real servers.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from regsvc.mail.outcome import Bounced, Delayed, Reason, Refused, Stage

Verdict: TypeAlias = type[Delayed] | type[Bounced] | type[Refused]

_ANY: Final = ""

# Words, in lower case, of refusals because of the account, the sender or the host, for any recipient.
_LIMIT: Final = (
    r"daily (user |sending |message |smtp |relay )*(limit|quota)|sending (limit|quota|rate)|hourly (limit|quota)"
    r"|(limit|quota).{0,40}(per|a|an) (hour|day|minute)"
    r"|(message|mail|email|send|sending) (rate|quota|limit).{0,20}exceed"
    r"|exceed\w* .{0,40}(sending|messages|emails|daily|rate|maximum credits)|too many (messages|emails|mails)"
    r"|maximum (send|sending|number of (messages|emails))|out of (credits|quota)|message send limit"
    r"|throttl|quota for (sending|outgoing)"
)
_SENDER: Final = (
    r"sendasdenied|send ?as|storedrv\.submission|not (been )?verified|unverified (sender|address|domain)"
    r"|from address (does not|doesn't|must)|does not match .{0,30}(sender|from|account|domain|identity)"
    r"|sender (address |domain |identity )?(is )?(rejected|not |does not|verify|unknown|denied|refused|blocked|invalid)"
    r"|sender verif|not (owned|allowed|authori[sz]ed|permitted) .{0,40}(send|from)|domain of sender|invalid sender"
    r"|mail from .{0,60}(not|denied|rejected|invalid)|sending domain|from (header|domain).{0,30}(not|invalid|missing)"
    r"|header from|(must|can) be .{0,20}sender signature|sender signature|no (such )?sender"
)
_POLICY: Final = (
    r"relay|spamhaus|spamcop|barracuda|black ?list|block ?list|blocked using|is blocked"
    r"|listed (in|at|on|by)|\brbl\b|dnsbl"
    r"|reputation|reverse dns|\bptr\b|\brdns\b|\bspf\b|\bdkim\b|\bdmarc\b|unauthenticated|not authenticated"
    r"|authenticat\w+ (is )?(required|fail)|helo|ehlo|your (ip|host|server|network|account|mail server|mailserver)"
    r"|(ip|host|client|server|connection)( address)?( \S+)? (is |was )?(blocked|rejected|banned|denied|not allowed)"
    r"|client host|suspend|account .{0,30}(disabled|blocked|locked|suspended|restricted)|access denied"
    r"|policy (reasons?|restrictions?|violation)|local policy|against (our )?policy|nemesis|bad dns"
    r"|spam|unsolicited|bulk|suspicious|not rfc 5322|rfc ?5322|email feature|tls (is )?required|must issue a starttls"
    r"|postmaster for help|contact tosa|permission(s)? to"
)
# Words of refusals because of the recipient, with any code.
_RECIPIENT: Final = (
    r"resolver\.(rst|adr|ovrsizemsg)|(user|recipient|mailbox|account|address|alias)( \S+)?( is| was)? ?"
    r"(unknown|not found|unavailable|disabled|inactive|invalid|does ?n[o']t exist|expired|over ?quota|full)"
    r"|no such (user|recipient|mailbox|person|address|account|domain)|unknown (user|recipient|mailbox|address)"
    r"|does ?n[o']t have an? \S+ account|recipient (address )?rejected|invalid (recipient|mailbox)|no mailbox"
    r"|mailbox (for|not)|user lookup success|not a valid mailbox|account that you tried to reach|over ?quota"
    r"|out of storage|recipientnotfound|unroutable|undeliverable address|no longer (on|accepts|valid|available)"
    r"|only accepts? (mail|messages) from|restricted (group|recipient)"
)

_LATE: Final = "rcpt|data|dot"
_ALL: Final = "mail|rcpt|data|dot"

# The first row that matches decides. Stages, codes and enhanced codes ("-" for none) are regular expressions for the
# whole word (an enhanced code has only two dots and digits, so that an unescaped dot matches nothing else); words may
# occur anywhere in the reply.
_TABLE: Final[tuple[tuple[str, str, str, str, Verdict, Reason], ...]] = (
    # 4yz: a retry may succeed (RFC 5321, 4.2.1); 421 ends the session at any stage (3.8).
    (".*", "421", ".*", _ANY, Delayed, "service_unavailable"),
    ("auth", "4..", ".*", _ANY, Delayed, "auth_unavailable"),
    (".*", "4..", "4.2.2", _ANY, Delayed, "mailbox_full"),
    ("rcpt|dot", "450", ".*", _ANY, Delayed, "mailbox_busy"),
    (".*", "4..", ".*", _ANY, Delayed, "temporary_failure"),
    # Before the first mail every refusal is about us.
    ("greeting|ehlo", "5..", ".*", _ANY, Refused, "session_refused"),
    ("starttls", "5..", ".*", _ANY, Refused, "starttls_refused"),
    ("auth", "5..", ".*", _ANY, Refused, "auth_failed"),
    # Credentials required, at any command (RFC 4954, 6).
    (_ALL, "530|534|535|538", ".*", _ANY, Refused, "auth_required"),
    # Only a recipient with a non-ASCII local part makes us ask for SMTPUTF8 (RFC 6531, 3.5; X.6.7, X.6.9).
    (_ALL, "5..", "5.6.[79]", _ANY, Bounced, "smtputf8_not_supported"),
    # Limits of our account: X.4.5 is Gmail's, X.1.90 and X.7.232, 233, 236 are Exchange Online's.
    (_ALL, "5..", r"5.4.5|5.1.90|5.7.(232|233|236|508|705)", _ANY, Refused, "sending_limit_reached"),
    # The sender's address: X.1.7, X.1.8; Exchange's X.2.252 (SendAsDenied), X.7.60.
    (_ALL, "5..", r"5.1.[78]|5.2.252|5.7.60", _ANY, Refused, "sender_refused"),
    # A refusal at MAIL is about us. All our mails have about one size, so a limit applies to every one (RFC 1870, 6.1).
    ("mail", "552", ".*", _ANY, Refused, "message_too_large"),
    ("mail", "5..", "5.7..*", _ANY, Refused, "policy_refused"),
    ("mail", "5..", ".*", _LIMIT, Refused, "sending_limit_reached"),
    ("mail", "5..", ".*", _ANY, Refused, "sender_refused"),
    # Codes that name the recipient's own mailbox or domain (RFC 3463, 3.2), whatever the words say.
    ("rcpt", "5..", r"5.1.([12346]|10)|5.2.1", _ANY, Bounced, "recipient_refused"),
    (_LATE, "5..", r"5.1.([1236]|10)|5.2.1", _ANY, Bounced, "recipient_refused"),
    # Lists and mailboxes that accept only some senders: X.7.2, X.7.17, X.7.18; Exchange's X.7.12x and X.7.13x.
    (_LATE, "5..", r"5.7.(2|13|17|18|12[0-9]|13[0-9])", _ANY, Bounced, "recipient_refused"),
    (_LATE, "5..", r"5.7..*", r"resolver\.", Bounced, "recipient_refused"),
    # The rest of X.7.z is policy and security, about us. Postfix refuses clients and senders at RCPT.
    (_LATE, "5..", "5.7..*", _LIMIT, Refused, "sending_limit_reached"),
    (_LATE, "5..", "5.7..*", _SENDER, Refused, "sender_refused"),
    (_LATE, "5..", "5.7..*", _ANY, Refused, "policy_refused"),
    # A full mailbox. 552 to RCPT is treated as 452 (RFC 5321, 4.5.3.1.10) ...
    ("rcpt", "552", ".*", _ANY, Delayed, "mailbox_full"),
    # ... but 552 to the dot is permanent like any 5yz (4.2.1): a user with room again can sign up again.
    ("dot", "5..", "5.2.2", _ANY, Bounced, "mailbox_full"),
    ("dot", "5..", "5.(3.4|2.3)", _ANY, Bounced, "message_too_large"),
    ("rcpt", "500|502|503|504", ".*", _ANY, Refused, "command_refused"),
    # Words, where codes say nothing.
    (_LATE, "5..", ".*", _RECIPIENT, Bounced, "recipient_refused"),
    (_LATE, "5..", ".*", _LIMIT, Refused, "sending_limit_reached"),
    (_LATE, "5..", ".*", _SENDER, Refused, "sender_refused"),
    (_LATE, "5..", ".*", _POLICY, Refused, "policy_refused"),
    ("rcpt", "5..", ".*", _ANY, Bounced, "recipient_refused"),
    ("data", "5..", "5.[12]..*", _ANY, Bounced, "recipient_refused"),
    ("data", "5..", ".*", _ANY, Refused, "command_refused"),
    ("dot", "552", "-", _ANY, Bounced, "mailbox_full"),
    ("dot", "5..", "5.[12]..*", _ANY, Bounced, "recipient_refused"),
    ("dot", "5..", ".*", _ANY, Bounced, "message_refused"),
)
_ROWS: Final = tuple(
    (re.compile(stages), re.compile(codes), re.compile(statuses), re.compile(words), verdict, reason)
    for stages, codes, statuses, words, verdict, reason in _TABLE
)


def classify(stage: Stage, code: int, enhanced: str | None, words: str = "") -> tuple[Verdict, Reason]:
    """Return what a negative reply means for the mail.

    Args:
        stage: stage that the reply belongs to.
        code: the three digits.
        enhanced: the enhanced status code such as "5.1.1", or None; ignored when it contradicts `code`.
        words: the text of the reply.

    Returns:
        The kind of outcome and its reason; "protocol_error" for an impossible reply, such as 2yz to DATA.
    """
    if enhanced is None or enhanced[:1] != str(code)[:1]:
        enhanced = "-"
    words = words.lower()
    for stages, codes, statuses, said, verdict, reason in _ROWS:
        if (
            stages.fullmatch(stage)
            and codes.fullmatch(str(code))
            and statuses.fullmatch(enhanced)
            and said.search(words)
        ):
            return verdict, reason
    return Delayed, "protocol_error"
