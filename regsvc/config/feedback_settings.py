"""The settings of reports about accepted mails."""

from __future__ import annotations

import base64
import binascii
import re
from email.headerregistry import Address
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr

from regsvc.config import notations
from regsvc.config.imap_url import ImapMailbox, imap_url, read_imap_url

_ARN = re.compile(r"arn:aws[a-z-]*:sns:[a-z0-9-]+:\d{12}:[A-Za-z0-9_.-]{1,256}")
_TAG = 35  # characters that a mail adds: a plus sign, its id and a MAC
_MOST = 64  # octets of a local part (RFC 5321, 4.5.3.1.1)
_SHORTEST = 16  # characters of a shared secret


def _return_path(text: object) -> object:
    if not isinstance(text, str):
        return text
    address = notations.mailbox(text)
    if len(address.username) + _TAG > _MOST:
        raise ValueError(
            f"has a local part of more than {_MOST - _TAG} characters, too long for the tag of a mail"
        )
    return address


def _topics(text: object) -> object:
    if not isinstance(text, str):
        return text
    topics = frozenset(text.replace(",", " ").split())
    if any(not _ARN.fullmatch(topic) for topic in topics):
        raise ValueError("has to name topics such as arn:aws:sns:eu-west-1:123456789012:bounces")
    return topics


def _credentials(secret: SecretStr) -> SecretStr:
    user, colon, password = secret.get_secret_value().partition(":")
    if not user or not colon or len(password) < _SHORTEST:
        raise ValueError(f"has to be user:password, with a password of {_SHORTEST} characters or more")
    return secret


def _long(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < _SHORTEST:
        raise ValueError(f"has to have {_SHORTEST} characters or more")
    return secret


def _standard_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value()
    try:
        key = base64.b64decode(text.removeprefix("whsec_") + "==")
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith("whsec_") or len(key) < _SHORTEST:
        raise ValueError("has to be a secret such as whsec_…")
    return secret


def _public_key(secret: SecretStr) -> SecretStr:
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey  # noqa: PLC0415 - only where it is set
    from cryptography.hazmat.primitives.serialization import load_der_public_key  # noqa: PLC0415

    try:
        key = load_der_public_key(base64.b64decode(secret.get_secret_value(), validate=True))
    except ValueError:
        key = None
    if not isinstance(key, EllipticCurvePublicKey):
        raise ValueError("has to be the verification key of SendGrid's Event Webhook, base64")  # noqa: TRY004
    return secret


class FeedbackSettings(BaseModel):
    """The settings of reports about mails, a part of `regsvc.config.settings.Settings`."""

    model_config = ConfigDict(arbitrary_types_allowed=True)

    mail_return_path: Annotated[Address, BeforeValidator(_return_path)] | None = Field(
        None,
        description="envelope sender of mails, `bounce@b.example.org`: each mail gets `bounce+…@b.example.org`, "
        "so that bounces name it; unset, `REGSVC_MAIL_FROM`",
    )
    feedback_ses: Annotated[frozenset[str], BeforeValidator(_topics)] = Field(
        frozenset(), description="ARNs of the SNS topics with reports of Amazon SES, separated by commas"
    )
    feedback_postmark: Annotated[SecretStr, AfterValidator(_credentials)] | None = Field(
        None, description="`user:password` that Postmark's webhook sends"
    )
    feedback_sendgrid: Annotated[SecretStr, AfterValidator(_public_key)] | None = Field(
        None, description="verification key of SendGrid's Event Webhook"
    )
    feedback_mailgun: Annotated[SecretStr, AfterValidator(_long)] | None = Field(
        None, description="Mailgun's HTTP webhook signing key"
    )
    feedback_resend: Annotated[SecretStr, AfterValidator(_standard_secret)] | None = Field(
        None, description="signing secret of Resend's webhook, `whsec_…`"
    )
    feedback_message: Annotated[SecretStr, AfterValidator(_long)] | None = Field(
        None, description="bearer token for raw bounces and abuse reports over HTTP"
    )
    feedback_imap_url: Annotated[SecretStr, AfterValidator(imap_url)] | None = Field(
        None,
        description="mailbox that receives bounces, `imaps://user:password@host:993/INBOX`, read every 30 s and never "
        "changed; `?cafile=PATH` trusts the authorities of a file instead of the system's, `?auth=xoauth2` logs in "
        "with the access token of SMTP",
    )

    @property
    def bounce_mailbox(self) -> ImapMailbox | None:
        """The mailbox that receives bounces, if one is read."""
        return (
            None
            if self.feedback_imap_url is None
            else read_imap_url(self.feedback_imap_url.get_secret_value())
        )
