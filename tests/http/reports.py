"""A report as a provider of mail sends it."""

from __future__ import annotations

CREDENTIALS = ("postmark", "a password of the tests")


def postmark_bounce(mail_id: str, **more: object) -> dict[str, object]:
    """A webhook as Postmark documents it."""
    return {
        "RecordType": "Bounce",
        "MessageStream": "outbound",
        "ID": 4323372036854775807,
        "Type": "HardBounce",
        "TypeCode": 1,
        "Name": "Hard bounce",
        "MessageID": "883953f4-6105-42a2-a16a-77a8eac79483",
        "Metadata": {"regsvc_mail": mail_id},
        "ServerID": 23,
        "Description": "The server was unable to deliver your message (ex: unknown user, mailbox not found).",
        "Details": "smtp;550 5.1.1 The email account that you tried to reach does not exist.",
        "Email": "ann@example.com",
        "From": "no-reply@example.org",
        "BouncedAt": "2026-11-28T03:33:54.9070259Z",
        "Inactive": True,
        "CanActivate": True,
        **more,
    }
