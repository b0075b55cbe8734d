"""Reports as mail servers send them."""

from __future__ import annotations

from uuid import UUID, uuid4


def bounce(mail_id: UUID, *, to: str, padding: int = 0) -> bytes:
    """A delivery status notification about a mail of ours."""
    return f"""\
From: MAILER-DAEMON@mx.example.net
To: {to}
Message-ID: <{uuid4()}@mx.example.net>
Date: Sat, 28 Nov 2026 05:00:00 +0000
Subject: Undelivered
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

It could not be delivered.{"x" * padding}
--b
Content-Type: message/delivery-status

Reporting-MTA: dns; mx.example.net

Final-Recipient: rfc822; ann@example.com
Action: failed
Status: 5.1.1

--b
Content-Type: text/rfc822-headers

Message-ID: <{mail_id}@example.org>

--b--
""".replace("\n", "\r\n").encode()
