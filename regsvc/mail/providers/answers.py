"""What a provider's answer means for the mail: its status, its own code, and words where those say nothing.

Outcomes are those of SMTP. An objection to us (key, sender, quota) has the stage `mail`, as if it came before the
recipient was named; an objection to the recipient has `rcpt`, one to the message `dot`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from regsvc.mail.outcome import Accepted, Bounced, Delayed, Outcome, Reason, Refused, Stage
from regsvc.mail.smtp.replies import classify

if TYPE_CHECKING:
    from regsvc.config.provider_url import ProviderName

_SHOWN: Final = 500  # characters of an answer that are kept for display
_Verdict: TypeAlias = tuple[type[Delayed] | type[Bounced] | type[Refused], Reason, Stage]

_KEY: Final[_Verdict] = (Refused, "auth_failed", "mail")
_SENDER: Final[_Verdict] = (Refused, "sender_refused", "mail")
_POLICY: Final[_Verdict] = (Refused, "policy_refused", "mail")
_QUOTA: Final[_Verdict] = (Refused, "sending_limit_reached", "mail")
_RATE: Final[_Verdict] = (Delayed, "service_unavailable", "mail")
_RECIPIENT: Final[_Verdict] = (Bounced, "recipient_refused", "rcpt")

# Something failed behind the API, perhaps after it took the mail. 409: the request before this one, with the same
# idempotency key, is not finished.
_UNKNOWN: Final = frozenset({409, 500, 502, 504})
_STATUSES: Final[dict[int, _Verdict]] = {
    401: _KEY,
    402: _QUOTA,
    403: _KEY,
    404: (Refused, "command_refused", "mail"),
    405: (Refused, "command_refused", "mail"),
    408: _RATE,
    410: (Refused, "command_refused", "mail"),
    413: (Refused, "message_too_large", "mail"),
    425: _RATE,
    429: _RATE,
}

# By provider: its code or words, and the verdict; the first that matches decides, before the status does.
_TABLE: Final[dict[ProviderName, tuple[tuple[str, _Verdict], ...]]] = {
    "resend": (
        (r"daily_quota_exceeded|monthly_quota_exceeded", _QUOTA),
        (r"rate_limit_exceeded", _RATE),
        (r"(missing|invalid|restricted)_api_key", _KEY),
        (r"invalid_from_address|domain is not verified|verify a domain|not_verified", _SENDER),
        (r"invalid.{0,40}`to`|`to`.{0,40}invalid|suppress", _RECIPIENT),
    ),
    "postmark": (
        (r"^406 |inactive recipient|marked as inactive", _RECIPIENT),
        (r"^10 |server token", _KEY),
        (r"^(400|401) |sender signature", _SENDER),
        (r"^405 |^412 |^413 |pending approval|not allowed to send", _POLICY),
        (r"^429 ", _RATE),
        (r"invalid 'to'|illegal email address", _RECIPIENT),
    ),
    "sendgrid": (
        (r"verified sender identity|from address", _SENDER),
        (r"maximum credits exceeded|exceeded your (messaging|sending) limit", _QUOTA),
        (r"authorization grant|api key|unauthori[sz]ed", _KEY),
        (r"does not contain a valid address|personalizations\.\d+\.to", _RECIPIENT),
    ),
    "mailgun": (
        (r"'to' parameter is not a valid address|to parameter is not a valid", _RECIPIENT),
        (r"forbidden|invalid private key|api key", _KEY),
        (
            r"domain not found|domain .{0,80}(is not allowed|not verified|disabled)|not allowed to send",
            _SENDER,
        ),
        (r"free accounts are for test|authorized recipients|account .{0,40}(disabled|suspended)", _POLICY),
        (r"exceed|limit", _QUOTA),
    ),
    "ses": (
        (
            r"^(mailfromdomainnotverified|messagerejected).{0,200}not verified|^mailfromdomainnotverified",
            _SENDER,
        ),
        (r"limitexceeded|daily message quota|maximum sending rate exceeded for the day", _QUOTA),
        (r"^(toomanyrequests|throttling)", _RATE),
        (r"^(sendingpaused|accountsuspended|accessdenied)", _POLICY),
        (
            r"^(unrecognizedclient|invalidclienttokenid|signaturedoesnotmatch|incompletesignature|expiredtoken)",
            _KEY,
        ),
        (r"^(invalidsignature|missingauthenticationtoken|optinrequired)", _KEY),
        (r"suppression list|illegal address|invalid.{0,20}(recipient|address)", _RECIPIENT),
        (r"^notfound", _POLICY),
    ),
}
_ROWS: Final = {
    name: [(re.compile(words), verdict) for words, verdict in rows] for name, rows in _TABLE.items()
}
_CODES: Final = ("name", "ErrorCode", "code", "__type", "type")
_WORDS: Final = ("message", "Message", "error")


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of HTTP.

    Args:
        status: its status.
        headers: by lower-case name.
        body: its body; None if it was cut short or too long.
    """

    status: int
    headers: dict[str, str]
    body: bytes | None

    @property
    def document(self) -> dict[str, Any]:
        """Return the JSON object in the body, empty if there is none."""
        try:
            found = json.loads(self.body or b"")
        except (ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}


def judge_answer(name: ProviderName, answer: Answer) -> Outcome:
    """Return the outcome of a mail by the provider's answer to the whole request."""
    said = _say(name, answer)
    shown = re.sub(r"[^\x20-\x7e]", "?", f"{answer.status} {said}".strip())[:_SHOWN]
    if 200 <= answer.status < 300:  # noqa: PLR2004 - success
        return _judge_success(name, answer, shown)
    if answer.status in _UNKNOWN:
        return Delayed("service_unavailable", "request", shown, after_dot=True)
    if answer.status < 400 or answer.status >= 500:  # noqa: PLR2004 - no redirect is followed; 503 took nothing
        return Delayed("service_unavailable", "mail", shown)
    for words, (kind, reason, stage) in _ROWS[name]:
        if words.search(said.lower()):
            return kind(reason, stage, shown)
    if answer.status in _STATUSES:
        kind, reason, stage = _STATUSES[answer.status]
        return kind(reason, stage, shown)
    kind, reason = classify("dot", 554, None, said)
    return kind(reason, "dot", shown)


def _judge_success(name: ProviderName, answer: Answer, shown: str) -> Outcome:
    """Return an acceptance, if the answer is the provider's: a proxy may say 200 to anything."""
    found = answer.document
    match name:
        case "sendgrid":
            provider_id = answer.headers.get("x-message-id")
        case "postmark":
            provider_id = found.get("MessageID") if found.get("ErrorCode", 0) == 0 else None
        case "ses":
            provider_id = found.get("MessageId")
        case _:
            provider_id = found.get("id")
    if not isinstance(provider_id, str) or not provider_id:
        return Delayed("protocol_error", "request", f"{shown}; the answer names no message", after_dot=True)
    provider_id = provider_id.strip("<>")[:200]
    return Accepted(f"{answer.status} {provider_id}", provider_id)


def _say(name: ProviderName, answer: Answer) -> str:
    """Return a provider's code and words."""
    found = answer.document
    codes = [str(found[key]) for key in _CODES if isinstance(found.get(key), str | int)]
    if name == "ses":
        kind = answer.headers.get("x-amzn-errortype", "") or "".join(codes[:1])
        codes = [kind.partition(":")[0].rpartition("#")[2].removesuffix("Exception")]
    words = [str(found[key]) for key in _WORDS if isinstance(found.get(key), str)]
    errors = found.get("errors")
    for error in errors[:5] if isinstance(errors, list) else ():
        if isinstance(error, dict):
            words += [str(error[key]) for key in ("message", "field") if error.get(key)]
    if not (codes or words) and answer.body is not None and len(answer.body) < _SHOWN:
        words.append(answer.body.decode("utf-8", "replace"))
    return " ".join([*codes, *words])
