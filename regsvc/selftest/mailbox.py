"""The Maildir of a service under test: its mails, and reports about them as a receiver would send."""

from __future__ import annotations

import email
import email.policy
import time
from email.message import EmailMessage
from http import HTTPStatus
from pathlib import Path
from typing import Literal

from regsvc.errors import ConfigurationError
from regsvc.selftest.caller import PREFIX, Caller

_PATIENCE = 60.0  # seconds for a mail
_STATUS = {"delayed": ("delayed", "4.2.0"), "bounced": ("failed", "5.1.1")}

Fate = Literal["delayed", "bounced", "complained"]


class Mailbox:
    """A Maildir; each mail is returned once.

    Args:
        path: of the Maildir.
        caller: brings reports.
        token: bearer token of REGSVC_FEEDBACK_MESSAGE.
    """

    def __init__(self, path: Path, caller: Caller, token: str) -> None:
        self._new = path / "new"
        self._caller = caller
        self._token = token
        self._seen: set[str] = set()

    def forget(self) -> None:
        """Pass over all mails that are there."""
        self._seen.update(each.name for each in self._new.glob("*"))

    def wait_mail(self, address: str) -> str:
        """Return the Message-ID of the next mail to an address.

        Raises:
            ConfigurationError: none came.
        """
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline:
            for path in self._new.glob("*"):
                if path.name in self._seen:
                    continue
                self._seen.add(path.name)
                message = email.message_from_bytes(
                    path.read_bytes(), EmailMessage, policy=email.policy.default
                )
                if message["To"] == address:
                    return str(message["Message-ID"])
            time.sleep(0.02)
        raise ConfigurationError(f"no mail to {address} arrived within {_PATIENCE:g} s")

    def report(self, message_id: str, fate: Fate) -> None:
        """Report what became of a mail.

        Raises:
            ConfigurationError: the service does not take the report.
        """
        reply = self._caller.call(
            "POST",
            f"{PREFIX}/feedback/message",
            _write_report(message_id, fate).encode(),
            {"Authorization": f"Bearer {self._token}", "Content-Type": "message/rfc822"},
        )
        if reply.status != HTTPStatus.OK:
            raise ConfigurationError(f"a report is answered with {reply.status}")


def _write_report(message_id: str, fate: Fate) -> str:
    """Return a delivery status notification (RFC 3464) or an abuse report (RFC 5965)."""
    if fate == "complained":
        kind, part = "feedback-report", "Feedback-Type: abuse\r\nUser-Agent: selftest/1\r\nVersion: 1\r\n"
    else:
        action, status = _STATUS[fate]
        kind = "delivery-status"
        part = (
            "Reporting-MTA: dns; selftest.example\r\n\r\n"
            f"Final-Recipient: rfc822; selftest@example.com\r\nAction: {action}\r\nStatus: {status}\r\n"
        )
    return "\r\n".join(
        [
            f"Message-ID: <{time.time_ns()}@selftest.example>",
            "From: mailer-daemon@selftest.example",
            "MIME-Version: 1.0",
            f'Content-Type: multipart/report; report-type={kind}; boundary="b"',
            "",
            "--b",
            f"Content-Type: message/{kind}",
            "",
            part,
            "--b",
            "Content-Type: text/rfc822-headers",
            "",
            f"Message-ID: {message_id}",
            "",
            "--b--",
            "",
        ]
    )
