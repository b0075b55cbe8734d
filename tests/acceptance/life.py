"""A model of what people have who sign up and log in: what the service has to agree with."""

from __future__ import annotations

import email
import email.policy
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from email.message import EmailMessage
from pathlib import Path
from typing import Literal

import psycopg

from regsvc.security.tokens import read_link_token
from tests.services import Mail

PATIENCE = 20.0  # seconds for a mail
CODE_TRIES, SIGNUP_TRIES, ADDRESS_TRIES = 5, 15, 10  # of a mail, of a sign-up, of an address and this network


@dataclass(eq=False)
class Attempt:
    """A sign-up, and what its maker and the reader of its mail hold; without a mail its reader has an account."""

    person: Person
    id: str
    handle: dict[str, str]
    password: str
    mails: list[Mail]
    state: Literal["live", "confirmed", "voided", "erased"] = "live"
    tries: list[int] = field(default_factory=lambda: [0])  # of each code, also of one that no reader got
    tries_in_all: int = 0

    @property
    def mail(self) -> Mail | None:
        """The newest mail, if any."""
        return self.mails[-1] if self.mails else None

    @property
    def wrong_code(self) -> str:
        """Six digits that no mail has."""
        return next(code for n in range(10) if (code := f"{n:06d}") not in {mail.code for mail in self.mails})

    def enter(self, *, right: bool) -> int:
        """Enter a code, and return the status of the answer: those of the last two mails work, within ten minutes."""
        if self.state == "voided":
            return 410
        if self.state == "confirmed":
            return 200 if right else 400
        left = [n for n in range(len(self.tries))[-2:] if self.tries[n] < CODE_TRIES]
        if not left or self.tries_in_all >= SIGNUP_TRIES:
            return 429
        allowed = self.person.code_tries < ADDRESS_TRIES
        if right and allowed and len(self.tries) - 1 in left:
            return self.person.confirm(self)
        self.tries_in_all += 1
        self.person.code_tries += allowed
        for n in left:
            self.tries[n] += 1
        return 400


@dataclass(eq=False)
class Session:
    """A session and its tokens, the newest last, and when the newest refresh token was given."""

    person: Person
    access: list[str]
    refresh: list[str]
    refreshed_at: float = 0.0
    alive: bool = True

    @property
    def bearer(self) -> dict[str, str]:
        """The header with the newest access token."""
        return {"Authorization": f"Bearer {self.access[-1]}"}


@dataclass(eq=False)
class Person:
    """The owner of an address.

    Args:
        address: theirs alone.
        attempts: everybody's, for this address.
        sessions: theirs.
        password: of their account, while there is one.
        resets: the tokens of links to choose a new one that are good.
        spent: and of those that are not any more.
        code_tries: of all sign-ups.
    """

    address: str
    attempts: list[Attempt] = field(default_factory=list)
    sessions: list[Session] = field(default_factory=list)
    password: str | None = None
    resets: list[str] = field(default_factory=list)
    spent: list[str] = field(default_factory=list)
    code_tries: int = 0

    @property
    def live(self) -> list[Attempt]:
        """Sign-ups that wait."""
        return [attempt for attempt in self.attempts if attempt.state == "live"]

    def confirm(self, attempt: Attempt) -> int:
        """Make a sign-up the account, and return the status of the answer."""
        if self.password is not None or attempt.state != "live":
            return 410
        attempt.state, self.password = "confirmed", attempt.password
        return 200

    def set_password(self, password: str | None) -> None:
        """Have another password, or no account any more: all sessions end, and all links are worth nothing."""
        self.password = password
        self.spent += self.resets
        self.resets = []
        self.log_out()

    def log_out(self) -> None:
        """Be logged out everywhere."""
        for session in self.sessions:
            session.alive = False

    def forget_attempts(self) -> None:
        """Have nothing left of sign-ups that are over."""
        for attempt in self.attempts:
            if attempt.state != "live":
                attempt.state = "erased"


class Mailbox:
    """A Maildir, each mail of which is read once, and the database that knows what is on its way there."""

    def __init__(self, folder: Path, database: str) -> None:
        self._folder = folder / "new"
        self._database = database
        self._read: dict[str, Mail] = {}

    def wait(self, address: str, fits: Callable[[Mail], bool]) -> Mail:
        """Return the mail to an address that fits."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            for mail in self._look():
                if mail.message["To"] == address and fits(mail):
                    return mail
            time.sleep(0.01)  # a folder has no event
        raise AssertionError(f"no such mail to {address}")

    def wait_nothing(self) -> None:
        """Wait until no mail is on its way: what becomes of one is decided when it is taken in hand."""
        deadline = time.monotonic() + PATIENCE
        with psycopg.connect(self._database, autocommit=True) as conn:
            while time.monotonic() < deadline:
                cursor = conn.execute("SELECT count(*) FROM mails WHERE state IN ('queued', 'sending')")
                if cursor.fetchone() == (0,):
                    return
                time.sleep(0.01)
        raise AssertionError("some mail is never sent")

    def _look(self) -> list[Mail]:
        for path in self._folder.glob("*"):
            if path.name not in self._read:
                message = email.message_from_bytes(
                    path.read_bytes(), EmailMessage, policy=email.policy.default
                )
                body = message.get_body(("plain",))
                assert body is not None
                self._read[path.name] = Mail(message, body.get_content().replace("\r\n", "\n"))
        return list(self._read.values())


def confirms(registration: str, beside: Sequence[Mail] = ()) -> Callable[[Mail], bool]:
    """Find the mail that has the link of a registration, and is none of those that are known."""

    def fits(mail: Mail) -> bool:
        if mail in beside:
            return False
        token = read_link_token(mail.token) if "/confirm#t=" in mail.text else None
        return token is not None and str(token.registration_id) == registration

    return fits


def resets_beside(known: list[str]) -> Callable[[Mail], bool]:
    """Find the mail whose link to choose a new password is not known yet."""
    return lambda mail: "/reset#t=" in mail.text and mail.token_for("reset") not in known
