"""Each provider's documented format is read into one vocabulary, and only after its signature."""

from __future__ import annotations

import base64
import hmac
import json
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regsvc.mail.reports.mailgun import read_mailgun
from regsvc.mail.reports.messages import read_message
from regsvc.mail.reports.resend import read_resend
from regsvc.mail.reports.sendgrid import read_sendgrid
from regsvc.mail.reports.ses import read_ses
from regsvc.security.feedback import signatures, sns
from regsvc.security.feedback.signatures import FeedbackSignatureError

MAIL = "0c2e4f0e-8f0d-4d76-a8f3-8d9f3b9d9a10"


def test_sendgrid_signs_with_an_elliptic_curve() -> None:
    """The signature covers timestamp and body."""
    key = ec.generate_private_key(ec.SECP256R1())
    public = base64.b64encode(
        key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode()
    event = {
        "email": "ann@example.com", "timestamp": 1_790_000_000, "event": "bounce", "sg_event_id": "id",
        "sg_message_id": "14c5d75ce93.dfd.64b469.filter0001", "status": "5.1.1", "type": "bounce",
        "regsvc_mail": MAIL,
    }  # fmt: skip
    body = json.dumps([event]).encode()
    signature = base64.b64encode(key.sign(b"1790000000" + body, ec.ECDSA(SHA256()))).decode()
    signatures.check_sendgrid(public, signature, "1790000000", body)
    for forged in (body + b" ", body[:-1]):
        with pytest.raises(FeedbackSignatureError):
            signatures.check_sendgrid(public, signature, "1790000000", forged)
    (report,) = read_sendgrid(body)
    assert (report.event, report.kind, report.reason) == ("bounced", "hard", "no_such_mailbox")
    assert report.clues.mail_ids == (MAIL,)


def test_resend_signs_as_standard_webhooks_do() -> None:
    """One right signature of several is enough; an old one is not."""
    secret, body = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", b'{"type": "email.delivered"}'
    key = base64.b64decode(secret.removeprefix("whsec_"))
    mac = base64.b64encode(hmac.new(key, b"msg_1.1790000000." + body, sha256).digest()).decode()
    given = f"v1,AAAA v1,{mac}"
    signatures.check_standard_webhook(secret, "msg_1", "1790000000", given, body, now=1_790_000_010)
    for event_id, now in (("msg_2", 1_790_000_010), ("msg_1", 1_790_001_000)):
        with pytest.raises(FeedbackSignatureError):
            signatures.check_standard_webhook(secret, event_id, "1790000000", given, body, now=now)
    data = {"email_id": "4ef9a417", "tags": {"regsvc_mail": MAIL}}
    body = json.dumps(
        {"type": "email.delivered", "created_at": "2026-11-28T03:00:00.000Z", "data": data}
    ).encode()
    (report,) = read_resend(body)
    assert (report.event, report.clues.mail_ids) == ("delivered", (MAIL,))


def test_mailgun_signs_a_token() -> None:
    """A right token that is older than 15 minutes is refused."""
    signature = hmac.new(b"a signing key", b"1790000000token", sha256).hexdigest()
    signatures.check_mailgun("a signing key", "1790000000", "token", signature, now=1_790_000_600)
    for token, now in (("other", 1_790_000_600), ("token", 1_790_000_901)):
        with pytest.raises(FeedbackSignatureError):
            signatures.check_mailgun("a signing key", "1790000000", token, signature, now=now)
    event = {
        "event": "failed", "severity": "permanent", "id": "G9Bn5sl1TC6nu79C8C0bwg", "timestamp": 1_790_000_000.5,
        "delivery-status": {"code": 552, "message": "mailbox full", "enhanced-code": "5.2.2"},
        "message": {"headers": {"message-id": f"{MAIL}@example.org"}},
    }  # fmt: skip
    (report,) = read_mailgun(json.dumps({"event-data": event}).encode())
    assert (report.event, report.kind, report.reason) == ("bounced", "soft", "mailbox_full")


def test_sns_signs_with_a_certificate_of_its_own_host() -> None:
    """Version 2; another host, another body, or version 1 is refused."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now).not_valid_after(now + timedelta(days=1)).sign(key, SHA256())
        .public_bytes(Encoding.PEM)
    )  # fmt: skip
    fields = {
        "Type": "Notification",
        "MessageId": "1",
        "TopicArn": "arn",
        "Message": "{}",
        "Timestamp": "now",
    }
    signed = b"Message\n{}\nMessageId\n1\nTimestamp\nnow\nTopicArn\narn\nType\nNotification\n"
    signature = base64.b64encode(key.sign(signed, padding.PKCS1v15(), SHA256())).decode()
    right = {**fields, "SignatureVersion": "2", "Signature": signature}
    sns.check_signature(right, certificate)
    for wrong in ({"Message": "{ }"}, {"SignatureVersion": "1"}, {"Signature": "AAAA"}):
        with pytest.raises(FeedbackSignatureError):
            sns.check_signature({**right, **wrong}, certificate)
    sns.check_certificate_url("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab12.pem")
    for url in (
        "https://sns.eu-west-1.amazonaws.com.evil.example/SimpleNotificationService-ab12.pem",
        "http://sns.eu-west-1.amazonaws.com/SimpleNotificationService-ab12.pem",
        "https://sns.eu-west-1.amazonaws.com@evil.example/SimpleNotificationService-ab12.pem",
        "https://s3.amazonaws.com/SimpleNotificationService-ab12.pem",
    ):
        with pytest.raises(FeedbackSignatureError):
            sns.check_certificate_url(url)


def test_ses_names_the_mail_in_a_header_or_tag() -> None:
    """SES replaces the Message-ID, and hands our header back."""
    notice = {
        "notificationType": "Bounce",
        "bounce": {"bounceType": "Permanent", "bounceSubType": "General", "timestamp": "2026-11-28T03:00:00.000Z",
                   "feedbackId": "f", "bouncedRecipients": [{"emailAddress": "a@b.c", "status": "5.1.1"}]},
        "mail": {"messageId": "ses-id", "timestamp": "2026-11-28T02:59:00.000Z",
                 "headers": [{"name": "X-Regsvc-Mail", "value": MAIL}]},
    }  # fmt: skip
    (report,) = read_ses(json.dumps(notice))
    assert (report.event, report.kind, report.reason) == ("bounced", "hard", "no_such_mailbox")
    assert (report.clues.mail_ids, report.clues.provider_id) == ((MAIL,), "ses-id")


DSN = f"""From: MAILER-DAEMON@mx.example.net
To: bounce+tag@b.example.org
Date: Sat, 28 Nov 2026 03:00:00 +0000
Message-ID: <dsn@mx.example.net>
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

Your message could not be delivered.
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net
Original-Envelope-Id: {MAIL}

Final-Recipient: rfc822; ann@example.com
Action: failed
Status: 5.2.2
Diagnostic-Code: smtp; 552 5.2.2 mailbox full

--b
Content-Type: text/rfc822-headers

Message-ID: <{MAIL}@example.org>
Subject: Confirm

--b--
"""
OUT_OF_OFFICE = """From: ann@example.com
To: bounce+tag@b.example.org
Auto-Submitted: auto-replied
Subject: Away

I am away.
"""


def test_a_status_notification_is_read_and_an_automatic_reply_is_not() -> None:
    """The status decides the reason, the returned header names the mail."""
    (report,) = read_message(DSN.encode())
    assert (report.event, report.kind, report.reason) == ("bounced", "soft", "mailbox_full")
    assert report.at == datetime(2026, 11, 28, 3, tzinfo=UTC)
    assert report.clues.message_ids == (f"<{MAIL}@example.org>",)
    assert report.clues.mail_ids == (MAIL,)
    assert "bounce+tag@b.example.org" in report.clues.return_paths
    assert read_message(OUT_OF_OFFICE.encode()) == []


def test_an_abuse_report_is_a_complaint() -> None:
    """RFC 5965: the feedback type says so, the returned message names the mail."""
    arf = DSN.replace("delivery-status; boundary", "feedback-report; boundary").replace(
        "message/delivery-status", "message/feedback-report"
    )
    (report,) = read_message(arf.encode())
    assert (report.source, report.event) == ("arf", "complained")
    assert report.clues.message_ids == (f"<{MAIL}@example.org>",)


@pytest.mark.parametrize(
    "message",
    [b"", b"Subject: hello\r\n\r\nhello\r\n", b"From:\r\nTo:\r\n\r\n\xff\0", b"\r\n" * 1000],
    ids=["empty", "no-sender", "odd-octets", "long"],
)
def test_a_message_that_is_no_report_is_none(message: bytes, caplog: pytest.LogCaptureFixture) -> None:
    """However odd it is, nothing fails, and nothing of it is logged."""
    assert read_message(message) == []
    assert caplog.records == []
