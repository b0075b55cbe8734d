"""What the mail servers of a stage were given: every mail that one of them accepted, whoever sent it."""

from __future__ import annotations

import email
import email.policy
import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage

import trio

from tests.services import Mail
from tests.smtp_servers import ReceivedMail

_MESSAGE_ID = re.compile(rb"^Message-ID:\s*<([^@>]+)@", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Delivery:
    """One mail that a mail server has taken responsibility for.

    Args:
        mail_id: of its Message-ID.
        recipient: whom the envelope names.
        at: when, by Trio's clock.
        seat: which process sent it.
        life: which life of that process.
        data: the mail itself.
    """

    mail_id: str
    recipient: str
    at: float
    seat: str
    life: int
    data: bytes

    def read(self) -> Mail:
        """Return what it says."""
        message = email.message_from_bytes(self.data, policy=email.policy.default)
        assert isinstance(message, EmailMessage)
        body = message.get_body(("plain",))
        assert body is not None
        return Mail(message, body.get_content().replace("\r\n", "\n"))


class Inbox:
    """All deliveries of a stage, in the order in which they came."""

    def __init__(self) -> None:
        self.deliveries: list[Delivery] = []
        self._came = trio.Event()

    def add(self, delivery: Delivery) -> None:
        """Keep a delivery and wake who waits for it."""
        self.deliveries.append(delivery)
        self._came.set()
        self._came = trio.Event()

    def by_mail(self) -> dict[str, list[Delivery]]:
        """Return the deliveries of each mail."""
        found: dict[str, list[Delivery]] = {}
        for delivery in self.deliveries:
            found.setdefault(delivery.mail_id, []).append(delivery)
        return found

    def of(self, seat: str, lives: Sequence[int]) -> list[Delivery]:
        """Return what one process sent in some of its lives."""
        return [d for d in self.deliveries if d.seat == seat and d.life in lives]

    async def wait_for(self, recipient: str, *, seconds: float = 90) -> Delivery:
        """Wait for a mail to an address and return it."""
        seen = 0
        with trio.fail_after(seconds):
            while True:
                fresh, seen = self.deliveries[seen:], len(self.deliveries)
                for delivery in fresh:
                    if delivery.recipient == recipient:
                        return delivery
                await self._came.wait()


class SeatMails(list[ReceivedMail]):
    """What stands in for a mail server's own list: it hands every mail to the stage's inbox."""

    def __init__(self, inbox: Inbox, seat: str) -> None:
        super().__init__()
        self.life = 0
        self._inbox = inbox
        self._seat = seat

    def append(self, mail: ReceivedMail) -> None:
        """Hand a mail on."""
        found = _MESSAGE_ID.search(mail.data)
        mail_id = found[1].decode() if found else ""
        self._inbox.add(
            Delivery(mail_id, mail.recipient, trio.current_time(), self._seat, self.life, mail.data)
        )
