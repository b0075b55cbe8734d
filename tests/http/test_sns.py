"""Amazon SNS: whose messages are believed, and whose subscriptions are confirmed."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from regsvc.config.loading import load
from regsvc.config.settings import Settings
from regsvc.http.feedback.certificates import Certificates, SnsUnavailableError
from regsvc.http.feedback.sources import Delivered, read_from_ses
from regsvc.security.feedback.signatures import FeedbackSignatureError
from tests.services import SECRET

TOPIC = "arn:aws:sns:eu-west-1:123456789012:bounces"
CERTIFICATE = (
    "https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-01d088a6f77103d0fe307c0069e40ed6.pem"
)
CONFIRM = "https://sns.eu-west-1.amazonaws.com/?Action=ConfirmSubscription&TopicArn=x&Token=y"
SIGNED = {
    "Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"),
    "SubscriptionConfirmation": (
        "Message",
        "MessageId",
        "SubscribeURL",
        "Timestamp",
        "Token",
        "TopicArn",
        "Type",
    ),
}


@cache
def make_key() -> tuple[rsa.RSAPrivateKey, bytes]:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, SHA256())
    )
    return key, certificate.public_bytes(Encoding.PEM)


def sign(**changes: str) -> Delivered:
    """A message as SNS sends it."""
    fields = {
        "Type": "SubscriptionConfirmation",
        "MessageId": "165545c9",
        "Token": "2336412f37",
        "TopicArn": TOPIC,
        "Message": "You have chosen to subscribe to the topic.",
        "SubscribeURL": CONFIRM,
        "Timestamp": "2026-11-28T03:00:00.000Z",
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE,
        **changes,
    }
    text = "".join(f"{name}\n{fields[name]}\n" for name in SIGNED[fields["Type"]] if name in fields)
    signature = make_key()[0].sign(text.encode(), padding.PKCS1v15(), SHA256())
    return Delivered(json.dumps({**fields, "Signature": base64.b64encode(signature).decode()}).encode(), {})


@dataclass
class Internet:
    """What is fetched, and the one certificate there is."""

    fetched: list[str] = field(default_factory=list)
    down: bool = False

    def fetch(self, url: str) -> bytes:
        """Note what is fetched."""
        self.fetched.append(url)
        if self.down:
            raise OSError("no route")
        return make_key()[1]


@pytest.fixture
def settings() -> Settings:
    environ = {
        "REGSVC_DATABASE_URL": "postgresql://127.0.0.1/x",
        "REGSVC_SECRET_KEY": SECRET,
        "REGSVC_MAIL_FROM": "no-reply@example.org",
        "REGSVC_SMTP_URL": "maildir:/nowhere",
        "REGSVC_FEEDBACK_SES": TOPIC,
    }
    return load(environ, mode="dev")


async def test_the_subscription_of_a_configured_topic_is_confirmed(settings: Settings) -> None:
    internet = Internet()
    read = await read_from_ses(settings, Certificates(internet.fetch), sign())
    assert read.reports == []
    assert internet.fetched == [CERTIFICATE, CONFIRM]


@pytest.mark.parametrize(
    "changes",
    [
        {"TopicArn": "arn:aws:sns:eu-west-1:123456789012:others"},
        {"SigningCertURL": CERTIFICATE.replace("amazonaws.com", "amazonaws.com.evil.example")},
        {"SigningCertURL": CERTIFICATE.replace("https:", "http:")},
        {"SigningCertURL": CERTIFICATE.replace("sns.eu-west-1", "bucket.s3")},
        {
            "SigningCertURL": "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-1.pem"
        },
        {"SigningCertURL": "https://sns.eu-west-1.amazonaws.com/other.pem"},
    ],
    ids=["topic", "host", "plain", "bucket", "user", "path"],
)
async def test_what_is_not_ours_or_not_from_sns_fetches_nothing(
    settings: Settings, changes: dict[str, str]
) -> None:
    internet = Internet()
    with pytest.raises(FeedbackSignatureError):
        await read_from_ses(settings, Certificates(internet.fetch), sign(**changes))
    assert internet.fetched == []


async def test_a_confirmation_goes_to_sns_alone_whoever_signed_it(settings: Settings) -> None:
    """Nothing makes us call another host."""
    internet = Internet()
    with pytest.raises(FeedbackSignatureError):
        await read_from_ses(
            settings, Certificates(internet.fetch), sign(SubscribeURL="https://169.254.169.254/latest")
        )
    assert internet.fetched == [CERTIFICATE]


async def test_a_forged_message_confirms_nothing_and_an_old_signature_is_none(settings: Settings) -> None:
    internet = Internet()
    certificates = Certificates(internet.fetch)
    true = sign()
    forged = Delivered(true.body.replace(b"You have chosen", b"You have not chosen"), {})
    for sent in (forged, sign(SignatureVersion="1"), Delivered(b"no JSON", {})):
        with pytest.raises(FeedbackSignatureError):
            await read_from_ses(settings, certificates, sent)
    assert internet.fetched == [CERTIFICATE]


async def test_while_sns_is_away_the_source_is_asked_to_come_again(settings: Settings) -> None:
    with pytest.raises(SnsUnavailableError):
        await read_from_ses(settings, Certificates(Internet(down=True).fetch), sign())
