"""The request of each provider's API that sends one mail."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from regsvc.mail.providers.contents import OUR_TAG, Contents
from regsvc.mail.providers.sigv4 import sign

if TYPE_CHECKING:
    from regsvc.config.provider_url import MailProvider, ProviderName
    from regsvc.mail.envelope import Envelope


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """A POST.

    Args:
        path: of the URL, behind the provider's base.
        headers: without Host and Content-Length.
        body: octets.
    """

    path: str
    headers: dict[str, str]
    body: bytes


def build_request(provider: MailProvider, envelope: Envelope, *, now: datetime | None = None) -> ApiRequest:
    """Return the request that sends a mail.

    Args:
        provider: whose API, and our credentials.
        envelope: the mail.
        now: time of a signature, in UTC.
    """
    request = _BUILDERS[provider.name](provider, envelope)
    if provider.name != "ses":
        return request
    host = urlsplit(provider.base).netloc
    signed = sign(
        host=host,
        path=request.path,
        body=request.body,
        headers=request.headers,
        key_id=provider.key_id,
        secret=provider.key,
        region=provider.place,
        service="ses",
        now=now or datetime.now(UTC),
    )
    return ApiRequest(request.path, signed, request.body)


def _post_json(path: str, body: Any, **headers: str) -> ApiRequest:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    octets = json.dumps(body, ensure_ascii=False).encode()
    return ApiRequest(path, {"Content-Type": "application/json", **named}, octets)


def _resend(provider: MailProvider, envelope: Envelope) -> ApiRequest:
    mail = Contents.read(envelope)
    return _post_json(
        "/emails",
        {
            "from": mail.sender,
            "to": [mail.recipient],
            "subject": mail.subject,
            "text": mail.text,
            "html": mail.html,
            "headers": mail.headers,
            "tags": [{"name": OUR_TAG, "value": mail.mail_id}],
        },
        Authorization=f"Bearer {provider.key}",
        # Every try of a mail has the same octets, so the same key; a replay by an operator has another date.
        Idempotency_Key=f"{mail.mail_id}-{sha256(envelope.data).hexdigest()[:16]}",
    )


def _postmark(provider: MailProvider, envelope: Envelope) -> ApiRequest:
    mail = Contents.read(envelope)
    return _post_json(
        "/email",
        {
            "From": mail.sender,
            "To": mail.recipient,
            "Subject": mail.subject,
            "TextBody": mail.text,
            "HtmlBody": mail.html,
            "Headers": [{"Name": name, "Value": value} for name, value in mail.headers.items()],
            "Metadata": {OUR_TAG: mail.mail_id},
            "MessageStream": provider.options.get("stream", "outbound"),
            "TrackOpens": False,
            "TrackLinks": "None",  # a rewritten link is another site's
        },
        Accept="application/json",
        X_Postmark_Server_Token=provider.key,
    )


def _sendgrid(provider: MailProvider, envelope: Envelope) -> ApiRequest:
    mail = Contents.read(envelope)
    sender = {"email": mail.sender_address} | ({"name": mail.sender_name} if mail.sender_name else {})
    reserved = {"message-id"}  # SendGrid refuses a request that sets it
    return _post_json(
        "/v3/mail/send",
        {
            "personalizations": [{"to": [{"email": mail.recipient}], "custom_args": {OUR_TAG: mail.mail_id}}],
            "from": sender,
            "subject": mail.subject,
            "content": [
                {"type": "text/plain", "value": mail.text},
                {"type": "text/html", "value": mail.html},
            ],
            "headers": {name: value for name, value in mail.headers.items() if name.lower() not in reserved},
            "tracking_settings": {
                "click_tracking": {"enable": False, "enable_text": False},
                "open_tracking": {"enable": False},
            },
        },
        Authorization=f"Bearer {provider.key}",
    )


def _mailgun(provider: MailProvider, envelope: Envelope) -> ApiRequest:
    mail_id = Contents.read(envelope).mail_id
    boundary = f"regsvc-{sha256(envelope.data).hexdigest()}"
    fields = {"to": envelope.recipient, f"v:{OUR_TAG}": mail_id, "o:tracking": "no"}
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="message"; filename="message.mime"\r\n'
        "Content-Type: message/rfc822\r\n\r\n"
    )
    body = b"".join([*parts, head.encode(), envelope.data, f"\r\n--{boundary}--\r\n".encode()])
    credentials = base64.b64encode(f"api:{provider.key}".encode()).decode()
    return ApiRequest(
        f"/v3/{provider.place}/messages.mime",
        {
            "Content-Type": f"multipart/form-data; boundary={boundary}",
            "Authorization": f"Basic {credentials}",
        },
        body,
    )


def _ses(provider: MailProvider, envelope: Envelope) -> ApiRequest:
    mail = Contents.read(envelope)
    body: dict[str, Any] = {
        "FromEmailAddress": mail.sender_address,
        "Destination": {"ToAddresses": [mail.recipient]},
        "Content": {"Raw": {"Data": base64.b64encode(envelope.data).decode()}},
        "EmailTags": [{"Name": OUR_TAG, "Value": mail.mail_id}],
    }
    if "configuration_set" in provider.options:
        body["ConfigurationSetName"] = provider.options["configuration_set"]
    return _post_json("/v2/email/outbound-emails", body)


_BUILDERS: Final[dict[ProviderName, Callable[[MailProvider, Envelope], ApiRequest]]] = {
    "resend": _resend,
    "postmark": _postmark,
    "sendgrid": _sendgrid,
    "mailgun": _mailgun,
    "ses": _ses,
}
