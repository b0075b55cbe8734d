"""One suite over both transports: what a sender may rely on whichever it has."""

from __future__ import annotations

import mailbox
from abc import ABC, abstractmethod
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import pytest
import trio

from regsvc.errors import ConfigurationError
from regsvc.mail.outcome import Aborted, Accepted
from regsvc.mail.transport import Transport, open_transport
from tests.smtp_servers import PATIENCE, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from regsvc.mail.envelope import Envelope


class Place(ABC):
    """Somewhere mail goes to."""

    transport: Transport

    @abstractmethod
    def mails(self) -> list[bytes]:
        """Return what has arrived."""


class Folder(Place):
    """A Maildir."""

    def __init__(self, path: Path) -> None:
        self.path = path / "mail"
        self.transport = open_transport(f"maildir:{self.path}")

    def mails(self) -> list[bytes]:
        """Return every file's octets."""
        folder = mailbox.Maildir(self.path)
        return [folder.get_bytes(key) for key in folder.keys()]  # noqa: SIM118 - iterating gives messages


class Server(Place):
    """An SMTP server."""

    def __init__(self, server: ScriptedServer) -> None:
        self.server = server
        self.transport = open_transport(server.url)

    def mails(self) -> list[bytes]:
        """Return every mail's octets."""
        return [mail.data for mail in self.server.mails]


@asynccontextmanager
async def open_folder(tmp_path: Path) -> AsyncIterator[Place]:
    yield Folder(tmp_path)


@asynccontextmanager
async def open_server(tmp_path: Path) -> AsyncIterator[Place]:
    async with ScriptedServer().running() as server:
        place = Server(server)
        yield place
        await place.transport.aclose()


@pytest.fixture(params=[open_folder, open_server])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        yield await stack.enter_async_context(request.param(tmp_path))


async def test_a_mail_arrives_octet_for_octet(place: Place, envelope: Envelope) -> None:
    """`send` says so, and asks `before_dot` once, in the Trio thread."""
    asked: list[float] = []

    def before_dot() -> bool:
        asked.append(trio.current_time())  # raises in any other thread
        return True

    with trio.fail_after(PATIENCE):
        assert isinstance(await place.transport.send(envelope, before_dot=before_dot), Accepted)
    assert place.mails() == [envelope.data]
    assert len(asked) == 1


async def test_a_mail_without_a_last_word_arrives_too(place: Place, envelope: Envelope) -> None:
    """`before_dot` may be left out."""
    assert isinstance(await place.transport.send(envelope), Accepted)
    assert len(place.mails()) == 1


async def test_a_withheld_mail_does_not_arrive(place: Place, envelope: Envelope) -> None:
    """`before_dot` is the last chance to keep a mail back."""
    assert await place.transport.send(envelope, before_dot=lambda: False) == Aborted()
    assert place.mails() == []


async def test_a_last_word_that_fails_is_a_bug_and_sends_nothing(place: Place, envelope: Envelope) -> None:
    """An exception of `before_dot` is the caller's own, and the transport goes on working."""

    def before_dot() -> bool:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await place.transport.send(envelope, before_dot=before_dot)
    assert place.mails() == []
    assert isinstance(await place.transport.send(envelope), Accepted)


async def test_a_cancelled_mail_does_not_arrive(place: Place, envelope: Envelope) -> None:
    """Cancelled before the last word, a mail is not sent, and the transport goes on working."""
    with trio.CancelScope() as scope:
        scope.cancel()
        await place.transport.send(envelope)
    assert scope.cancelled_caught
    assert place.mails() == []
    assert isinstance(await place.transport.send(envelope), Accepted)


async def test_a_check_succeeds_and_leaves_no_mail(place: Place) -> None:
    """`regsvc check` asks this."""
    assert isinstance(await place.transport.check(), Accepted)
    assert place.mails() == []


async def test_tending_ends_when_cancelled(place: Place, envelope: Envelope) -> None:
    """`tend` runs beside the senders for as long as they do."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(place.transport.tend)
        assert isinstance(await place.transport.send(envelope), Accepted)
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("use", [open_transport])
def test_a_url_that_is_none_opens_nothing(use: Callable[[str], Transport]) -> None:
    """A wrong URL is told before anything is tried."""
    with pytest.raises(ConfigurationError):
        use("pigeon://post")
