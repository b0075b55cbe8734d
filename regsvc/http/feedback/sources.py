"""Verify and read the body of each source: the signature first, then the format."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256

from regsvc.config.settings import Settings
from regsvc.http.feedback.certificates import Certificates
from regsvc.mail.reports.fields import get_object, get_text, load_object
from regsvc.mail.reports.mailgun import read_mailgun
from regsvc.mail.reports.messages import read_message
from regsvc.mail.reports.postmark import read_postmark
from regsvc.mail.reports.report import Report, ReportUnreadableError
from regsvc.mail.reports.resend import read_resend
from regsvc.mail.reports.sendgrid import read_sendgrid
from regsvc.mail.reports.ses import read_ses
from regsvc.security.feedback import signatures, sns
from regsvc.security.feedback.signatures import FeedbackSignatureError

MOST_BYTES = 1_048_576


@dataclass(frozen=True)
class Delivered:
    """What a source sent.

    Args:
        body: raw.
        headers: of the request.
    """

    body: bytes
    headers: Mapping[str, str]

    def header(self, name: str) -> str:
        """Return a header, or an empty text."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")


@dataclass(frozen=True)
class Read:
    """What a verified body says.

    Args:
        reports: in it.
        once: digest of a token that may be used once, with that of the body it came with.
    """

    reports: list[Report]
    once: tuple[bytes, bytes] | None = None


Source = Callable[[Settings, Certificates, Delivered], Awaitable[Read]]


async def read_from_postmark(settings: Settings, _: Certificates, sent: Delivered) -> Read:
    """Check basic authentication."""
    signatures.check_basic(sent.header("Authorization"), _secret(settings, "feedback_postmark"))
    return Read(read_postmark(sent.body))


async def read_from_sendgrid(settings: Settings, _: Certificates, sent: Delivered) -> Read:
    """Check the ECDSA signature."""
    signatures.check_sendgrid(
        _secret(settings, "feedback_sendgrid"),
        sent.header("X-Twilio-Email-Event-Webhook-Signature"),
        sent.header("X-Twilio-Email-Event-Webhook-Timestamp"),
        sent.body,
    )
    return Read(read_sendgrid(sent.body))


async def read_from_mailgun(settings: Settings, _: Certificates, sent: Delivered) -> Read:
    """Check the HMAC, which is in the body, and covers a token that may be used once."""
    try:
        signed = get_object(load_object(sent.body), "signature")
    except ReportUnreadableError as error:
        raise FeedbackSignatureError from error
    token = get_text(signed, "token")
    signatures.check_mailgun(
        _secret(settings, "feedback_mailgun"),
        get_text(signed, "timestamp"),
        token,
        get_text(signed, "signature"),
    )
    return Read(read_mailgun(sent.body), (sha256(token.encode()).digest(), sha256(sent.body).digest()))


async def read_from_resend(settings: Settings, _: Certificates, sent: Delivered) -> Read:
    """Check the signature by Standard Webhooks; Resend names its headers as Svix does."""
    event_id, timestamp, given = (
        sent.header(f"svix-{name}") or sent.header(f"webhook-{name}")
        for name in ("id", "timestamp", "signature")
    )
    signatures.check_standard_webhook(
        _secret(settings, "feedback_resend"), event_id, timestamp, given, sent.body
    )
    return Read(read_resend(sent.body))


async def read_from_ses(settings: Settings, certificates: Certificates, sent: Delivered) -> Read:
    """Check the signature of SNS and the topic; confirm subscriptions of configured topics."""
    try:
        fields = load_object(sent.body)
    except ReportUnreadableError as error:
        raise FeedbackSignatureError from error
    if get_text(fields, "TopicArn") not in settings.feedback_ses:
        raise FeedbackSignatureError
    url = get_text(fields, "SigningCertURL")
    sns.check_certificate_url(url)
    sns.check_signature(fields, await certificates.get(url))
    if get_text(fields, "Type") == "SubscriptionConfirmation":
        confirm = get_text(fields, "SubscribeURL")
        sns.check_subscribe_url(confirm)
        await certificates.call(confirm)
        return Read([])
    return Read(read_ses(get_text(fields, "Message")))


async def read_from_message(settings: Settings, _: Certificates, sent: Delivered) -> Read:
    """Check the bearer token; the body is a raw message."""
    signatures.check_bearer(sent.header("Authorization"), _secret(settings, "feedback_message"))
    return Read(read_message(sent.body))


SOURCES: Mapping[str, Source] = {
    "ses": read_from_ses,
    "postmark": read_from_postmark,
    "sendgrid": read_from_sendgrid,
    "mailgun": read_from_mailgun,
    "resend": read_from_resend,
    "message": read_from_message,
}


def is_on(settings: Settings, source: str) -> bool:
    """Return whether the setting of a source is there."""
    return source in SOURCES and bool(getattr(settings, f"feedback_{source}"))


def _secret(settings: Settings, field: str) -> str:
    value: str = getattr(settings, field).get_secret_value()
    return value
