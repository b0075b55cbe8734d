"""What real mail servers say, at the stage at which they say it, and whom it is about.

US is never a reason to bounce a person, RECIPIENT never one to stop another, LATER is tried again.
"""

# ruff: noqa: E501 - a table, and what servers say is long

from __future__ import annotations

import pytest

from regsvc.mail.outcome import Bounced, Delayed, Refused, Stage
from regsvc.mail.smtp import dialogue
from regsvc.mail.smtp.dialogue import Reply

US, RECIPIENT, LATER = Refused, Bounced, Delayed

# fmt: off
REPLIES: list[tuple[str, Stage, str, type[Delayed | Bounced | Refused]]] = [
    # Gmail
    ("gmail log-in", "auth", "535 5.7.8 Username and Password not accepted. For more information, go to", US),
    ("gmail app password", "auth", "534 5.7.9 Application-specific password required. - gsmtp", US),
    ("gmail log-in needed", "mail", "530 5.7.0 Authentication Required. For more information, go to - gsmtp", US),
    ("gmail daily limit", "dot", "550 5.4.5 Daily user sending limit exceeded. For more information - gsmtp", US),
    ("gmail daily limit at MAIL", "mail", "550 5.4.5 Daily SMTP relay sending limit exceeded for customer.", US),
    ("gmail unauthenticated", "dot", "550 5.7.26 This mail has been blocked because the sender is unauthenticated.", US),
    ("gmail unsolicited", "dot", "550 5.7.1 [192.0.2.1 12] Our system has detected that this message is likely unsolicited mail.", US),
    ("gmail no PTR", "dot", "550 5.7.25 The IP address sending this message does not have a PTR record setup", US),
    ("gmail RFC 5322", "dot", "550 5.7.1 Messages missing a valid messageId header are not accepted. RFC 5322", US),
    ("gmail relay", "rcpt", "550 5.7.1 Invalid credentials for relay [192.0.2.1].", US),
    ("gmail no such user", "rcpt", "550 5.1.1 The email account that you tried to reach does not exist. - gsmtp", RECIPIENT),
    ("gmail disabled", "rcpt", "550 5.2.1 The email account that you tried to reach is disabled. - gsmtp", RECIPIENT),
    ("gmail full", "rcpt", "452 4.2.2 The recipient's inbox is out of storage space. - gsmtp", LATER),
    ("gmail full for good", "rcpt", "552 5.2.2 The recipient's inbox is out of storage space and inactive.", LATER),
    ("gmail rate of one recipient", "rcpt", "450 4.2.1 The user you are trying to contact is receiving mail at a rate", LATER),
    ("gmail rate", "dot", "421 4.7.28 Our system has detected an unusual rate of unsolicited mail", LATER),
    ("gmail connection rate", "greeting", "421 4.7.0 Try again later, closing connection.", LATER),
    # Exchange Online and Outlook.com
    ("exchange daily limit", "dot", "550 5.1.90 Your message can't be sent because you've reached your daily limit for message recipients", US),
    ("exchange send as", "dot", "554 5.2.252 SendAsDenied; no-reply@example.org not allowed to send as news@example.org", US),
    ("exchange submission", "dot", "554 5.2.0 STOREDRV.Submission.Exception:SendAsDeniedException.MapiExceptionSendAsDenied;", US),
    ("exchange submission quota", "dot", "554 5.2.0 STOREDRV.Submission.Exception:OutboundSpamException; Failed to process message", US),
    ("exchange no permission", "dot", "550 5.7.60 SMTP; Client does not have permissions to send as this sender", US),
    ("exchange log-in off", "auth", "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant.", US),
    ("exchange log-in needed", "mail", "530 5.7.57 Client not authenticated to send mail.", US),
    ("exchange basic auth off", "mail", "550 5.7.30 Basic authentication is not supported for Client Submission.", US),
    ("exchange basic auth off at the dot", "dot", "550 5.7.30 Basic authentication is not supported for Client Submission.", US),
    ("exchange DMARC", "dot", "550 5.7.509 Access denied, sending domain example.org does not pass DMARC verification", US),
    ("outlook authentication level", "dot", "550 5.7.515 Access denied, sending domain example.org doesn't meet the required authentication level.", US),
    ("exchange SPF", "rcpt", "550 5.7.23 The message was rejected because of Sender Policy Framework violation", US),
    ("exchange tenant limit", "dot", "550 5.7.233 Your message can't be sent because your trial tenant has exceeded its daily limit", US),
    ("exchange tenant rate", "dot", "550 5.7.705 Access denied, tenant has exceeded threshold", US),
    ("exchange blocked sender", "dot", "550 5.1.8 Access denied, bad outbound sender AS(42003)", US),
    ("outlook blocked", "mail", "550 5.7.1 Unfortunately, messages from [192.0.2.1] weren't sent. part of their network is on our block list (S3140)", US),
    ("exchange blocked", "rcpt", "550 5.7.606 Access denied, banned sending IP [192.0.2.1].", US),
    ("exchange connector", "rcpt", "550 5.7.64 TenantAttribution; Relay Access Denied", US),
    ("exchange restricted group", "rcpt", "550 5.7.133 RESOLVER.RST.SenderNotAuthenticatedForGroup; authentication required", RECIPIENT),
    ("exchange restricted recipient", "rcpt", "550 5.7.129 RESOLVER.RST.RestrictedToRecipientsPermission; not authorized", RECIPIENT),
    ("exchange restricted, old code", "dot", "550 5.7.1 RESOLVER.RST.AuthRequired; authentication required", RECIPIENT),
    ("exchange not found", "rcpt", "550 5.1.10 RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", RECIPIENT),
    ("exchange at the edge", "rcpt", "550 5.4.1 Recipient address rejected: Access denied. AS(201806281)", RECIPIENT),
    ("outlook unavailable", "rcpt", "550 5.5.0 Requested action not taken: mailbox unavailable", RECIPIENT),
    ("exchange throttled", "dot", "451 4.7.500 Server busy. Please try again later from [192.0.2.1]. (S77719)", LATER),
    ("exchange concurrent", "mail", "432 4.3.2 Concurrent connections limit exceeded.", LATER),
    # Amazon SES and other relays
    ("ses not verified", "dot", "554 Message rejected: Email address is not verified. The following identities failed the check", US),
    ("ses rate", "dot", "454 Throttling failure: Maximum sending rate exceeded.", LATER),
    ("ses quota", "dot", "454 Throttling failure: Daily message quota exceeded.", LATER),
    ("ses suspended", "dot", "554 Message rejected: Sending suspended for this account. For more information", US),
    ("ses access", "dot", "554 Access denied: User arn:aws:iam::1:user/x is not authorized to perform ses:SendRawEmail", US),
    ("ses log-in", "auth", "535 Authentication Credentials Invalid", US),
    ("sendgrid identity", "dot", "550 The from address does not match a verified Sender Identity. Mail cannot be sent until", US),
    ("sendgrid credits", "auth", "451 Authentication failed: Maximum credits exceeded", LATER),
    ("sendgrid credits at MAIL", "mail", "550 Maximum credits exceeded", US),
    ("mailgun unverified", "dot", "550 Domain mg.example.org is not allowed to send: Please verify the sending domain", US),
    ("mailgun limit", "dot", "550 5.7.1 Hourly sending limit exceeded", US),
    ("postmark signature", "dot", "550 5.7.1 The 'From' address you supplied is not a Sender Signature on your account.", US),
    ("postmark account", "dot", "550 Your account is pending approval; recipient domains must match the From domain. Account restricted", US),
    ("brevo sender", "dot", "550 5.7.1 Sending has been rejected because the sender you used is not valid", US),
    # Postfix
    ("postfix no user", "rcpt", "550 5.1.1 <ann@example.com>: Recipient address rejected: User unknown in local recipient table", RECIPIENT),
    ("postfix virtual", "rcpt", "550 5.1.1 <ann@example.com>: Recipient address rejected: User unknown in virtual mailbox table", RECIPIENT),
    ("postfix no domain", "rcpt", "450 4.1.2 <ann@nowhere.example>: Recipient address rejected: Domain not found", LATER),
    ("postfix relay", "rcpt", "554 5.7.1 <ann@example.com>: Relay access denied", US),
    ("postfix blocklist", "rcpt", "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", US),
    ("postfix some domains", "rcpt", "554 5.7.1 <ann@example.com>: Recipient address rejected: Access denied", US),
    ("postfix not owner", "rcpt", "553 5.7.1 <no-reply@example.org>: Sender address rejected: not owned by user mailer", US),
    ("postfix sender", "rcpt", "550 5.1.8 <no-reply@example.org>: Sender address rejected: Domain not found", US),
    ("postfix sender, temporary", "rcpt", "450 4.1.8 <no-reply@example.org>: Sender address rejected: Domain not found", LATER),
    ("postfix helo", "rcpt", "504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", US),
    ("postfix rdns", "rcpt", "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]", LATER),
    ("postfix greylisting", "rcpt", "450 4.2.0 <ann@example.com>: Recipient address rejected: Greylisted, see", LATER),
    ("postfix verification", "rcpt", "450 4.1.1 <ann@example.com>: Recipient address rejected: unverified address", LATER),
    ("postfix undeliverable", "rcpt", "550 5.1.1 <ann@example.com>: Recipient address rejected: undeliverable address", RECIPIENT),
    ("postfix disk", "mail", "452 4.3.1 Insufficient system storage", LATER),
    ("postfix size", "mail", "552 5.3.4 Message size exceeds fixed limit", US),
    ("postfix TLS", "mail", "530 5.7.0 Must issue a STARTTLS command first", US),
    ("postfix spam", "dot", "554 5.7.1 Blocked by SpamAssassin", US),
    ("postfix queue", "dot", "451 4.3.0 Error: queue file write error", LATER),
    # Exim
    ("exim sender", "rcpt", "550 Sender verify failed", US),
    ("exim relay", "rcpt", "550 relay not permitted", US),
    ("exim unrouteable", "rcpt", "550 Unrouteable address", RECIPIENT),
    ("exim unknown", "rcpt", "550 No such person at this address", RECIPIENT),
    ("exim helo", "ehlo", "550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)", US),
    ("exim limit", "dot", "550 Domain example.org has exceeded the max emails per hour (500/500 (100%)) allowed. Message discarded.", US),
    ("exim lists", "rcpt", "550 JunkMail rejected - mail.example.org [192.0.2.1] is in an RBL: see spamhaus.org", US),
    ("exim 451", "rcpt", "451 Temporary local problem - please try later", LATER),
    # Sendmail
    ("sendmail unknown", "rcpt", "550 5.1.1 <ann@example.com>... User unknown", RECIPIENT),
    ("sendmail relay", "rcpt", "550 5.7.1 <ann@example.com>... Relaying denied. Proper authentication required.", US),
    ("sendmail access", "rcpt", "550 5.7.1 <ann@example.com>... Access denied", US),
    ("sendmail sender", "mail", "553 5.1.8 <no-reply@example.org>... Domain of sender address no-reply@example.org does not exist", US),
    ("sendmail sender later", "mail", "451 4.1.8 Domain of sender address no-reply@example.org does not resolve", LATER),
    ("sendmail load", "greeting", "421 mx.example.com rejecting connections: load average 30", LATER),
    ("sendmail refuses", "greeting", "554 mx.example.com ESMTP not accepting messages", US),
    # Yahoo and AOL
    ("yahoo list", "greeting", "553 5.7.1 [BL21] Connections will not be accepted from 192.0.2.1, because the ip is in Spamhaus's list", US),
    ("yahoo policy", "dot", "554 Message not allowed - [PH01] Email not accepted for policy reasons.", US),
    ("yahoo policy, code", "dot", "554 5.7.9 Message not accepted for policy reasons. See", US),
    ("yahoo deferred", "mail", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to unexpected volume", LATER),
    ("yahoo no account", "dot", "554 delivery error: dd This user doesn't have a yahoo.com account (ann@yahoo.com) [0]", RECIPIENT),
    ("yahoo not found", "rcpt", "552 1 Requested mail action aborted, mailbox not found", LATER),
    ("yahoo disabled", "dot", "554 30 Sorry, your message to ann@yahoo.com cannot be delivered. This mailbox is disabled (554.30).", RECIPIENT),
    # Apple
    ("apple policy", "dot", "554 5.7.1 [CS01] Message rejected due to local policy. Please visit", US),
    ("apple spam", "dot", "554 5.7.1 [HM08] Message rejected due to local policy.", US),
    ("apple full", "rcpt", "552 5.2.2 <ann@icloud.com>: user is over quota", LATER),
    ("apple unknown", "rcpt", "550 5.1.1 <ann@icloud.com>: user lookup success but no user record found", RECIPIENT),
    ("apple inactive", "rcpt", "550 5.1.6 <ann@me.com>: recipient no longer on server", RECIPIENT),
    ("apple proofpoint", "greeting", "550 5.7.0 Blocked - see https://ipcheck.proofpoint.com/?ip=192.0.2.1", US),
    # T-Online
    ("t-online", "greeting", "554 IP=192.0.2.1 - A problem occurred. (Ask your postmaster for help or to contact tosa@rx.t-online.de)", US),
    ("t-online at RCPT", "rcpt", "550 A problem occurred. (Ask your postmaster for help or to contact tosa@rx.t-online.de to clarify.)", US),
    ("t-online unknown", "rcpt", "550 user unknown", RECIPIENT),
    # GMX, web.de, IONOS
    ("gmx list", "greeting", "554-gmx.net (mxgmx115) Nemesis ESMTP Service not available IP address is block listed.", US),
    ("gmx PTR", "greeting", "554 gmx.net (mxgmx016) Nemesis ESMTP Service not available No SMTP service Bad DNS PTR resource record.", US),
    ("gmx policy", "dot", "554 Transaction failed Reject due to policy restrictions.", US),
    ("gmx sender", "dot", "550 Requested action not taken: Sender address is not allowed.", US),
    ("gmx unavailable", "rcpt", "550 Requested action not taken: mailbox unavailable", RECIPIENT),
    ("web.de limit", "rcpt", "450 Requested mail action not taken: mailbox unavailable Mail send limit exceeded.", LATER),
    # mail.ru, QQ, Comcast, Orange, Mimecast, Barracuda
    ("mail.ru spam", "dot", "550 spam message rejected. Please visit http://help.mail.ru/notspam-support", US),
    ("mail.ru unknown", "rcpt", "550 Message was not accepted -- invalid mailbox. Local mailbox ann@mail.ru is unavailable: user not found", RECIPIENT),
    ("qq suspicious", "dot", "550 Mail content denied. suspicious", US),
    ("comcast list", "greeting", "554 resimta-c1p.sys.comcast.net comcast 192.0.2.1 Comcast block for spam.", US),
    ("orange", "greeting", "550 5.2.0 Mail rejete. Mail rejected. ofr_506 [506]", US),
    ("mimecast", "rcpt", "550 Rejected by header based Anti-Spoofing policy: see reputation policy", US),
    ("barracuda", "rcpt", "554 Service unavailable; Client host [mx.example.org] blocked using Barracuda Reputation;", US),
    ("odd recipient", "rcpt", "550 that will not do", RECIPIENT),
]
# fmt: on


def judge(stage: Stage, line: str) -> type[Delayed | Bounced | Refused]:
    failure = dialogue.judge(stage, Reply(int(line[:3]), (line[4:],)))
    assert failure is not None
    return type(failure)


@pytest.mark.parametrize(
    ("stage", "reply", "about"), [row[1:] for row in REPLIES], ids=[row[0] for row in REPLIES]
)
def test_a_real_reply_blames(stage: Stage, reply: str, about: type[Delayed | Bounced | Refused]) -> None:
    assert judge(stage, reply) is about


def test_there_are_many_of_them() -> None:
    assert len(REPLIES) >= 100
