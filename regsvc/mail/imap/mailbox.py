"""A folder, opened for reading alone (EXAMINE): its position, and its messages by UID."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Final

import trio

from regsvc.config.imap_url import ImapMailbox
from regsvc.config.mail_url import load_authorities
from regsvc.mail.imap.wire import ImapRefusedError, ImapUnavailableError, Wire
from regsvc.mail.smtp.login import TokenSource, TokenUnavailableError

MAX_MESSAGE: Final = 262_144  # octets of a message that is read
PATIENCE: Final = 30.0  # seconds for one command, connecting included
_GOODBYE: Final = 2.0  # seconds for the server to answer our leaving
_WINDOW: Final = 50_000  # UIDs that one search covers, so that its answer is short
_WINDOWS: Final = 40  # searches a round, where UIDs have gaps
_NUMBER: Final = r"\[%s (\d{1,10})\]"
_UID: Final = re.compile(rb"\bUID (\d{1,10})\b", re.IGNORECASE)
_SIZE: Final = re.compile(rb"\bRFC822\.SIZE (\d{1,19})\b", re.IGNORECASE)


@dataclass(frozen=True)
class Found:
    """Messages after a position.

    Args:
        uids: of the messages, ascending.
        until: nothing else is up to this UID.
    """

    uids: list[int]
    until: int


class OpenMailbox:
    """A folder that is open for reading. Nothing here changes it: no flag, no message, no folder.

    Args:
        wire: the connection.
        uid_validity: changes when the server numbers its messages again (RFC 3501, 2.3.1.1).
        uid_next: lowest UID that a new message may get; None if the server does not say.
    """

    def __init__(self, wire: Wire, uid_validity: int, uid_next: int | None) -> None:
        self._wire = wire
        self.uid_validity = uid_validity
        self.uid_next = uid_next

    async def find_after(self, uid: int, most: int) -> Found:
        """Return the first messages after a UID, `most` at most."""
        for _ in range(_WINDOWS):
            first, last = uid + 1, uid + _WINDOW
            if self.uid_next is None:
                span, last = b"%d:*" % first, uid
            elif self.uid_next <= first:
                return Found([], uid)
            else:
                last = min(last, self.uid_next - 1)
                span = b"%d:%d" % (first, last)
            told = await self._ask(b"UID SEARCH UID " + span)
            uids = sorted(
                number
                for response in told
                if response[0].upper().startswith(b"* SEARCH")
                for number in map(int, re.findall(rb"\b\d{1,10}\b", response[0]))
                if number >= first  # `n:*` names the last message whatever its UID
            )
            if len(uids) > most:
                return Found(uids[:most], uids[most - 1])
            if uids or self.uid_next is None:
                return Found(uids, max(last, *uids[-1:], uid))
            uid = last
        return Found([], uid)

    async def read_sizes(self, uids: Sequence[int]) -> dict[int, int]:
        """Return the octets of messages by UID; a message that is gone is omitted."""
        told = await self._ask(b"UID FETCH %b (UID RFC822.SIZE)" % b",".join(b"%d" % uid for uid in uids))
        sizes: dict[int, int] = {}
        for response in told:
            uid, size = _UID.search(response[0]), _SIZE.search(response[0])
            if uid is not None and size is not None:
                sizes[int(uid[1])] = int(size[1])
        return sizes

    async def read_message(self, uid: int) -> bytes | None:
        """Return a message without marking it as read, or None if it is gone or too large."""
        told = await self._ask(b"UID FETCH %d (UID BODY.PEEK[]<0.%d>)" % (uid, MAX_MESSAGE + 1))
        for response in told:
            found = _UID.search(b" ".join(response[::2]))  # literals are every second part
            if len(response) > 1 and found is not None and int(found[1]) == uid:
                return response[1] if len(response[1]) <= MAX_MESSAGE else None
        return None

    async def _ask(self, command: bytes) -> list[list[bytes]]:
        with _limit():
            return await self._wire.ask(command)
        raise ImapUnavailableError("the server does not answer")


@asynccontextmanager
async def open_mailbox(place: ImapMailbox, token: TokenSource | None = None) -> AsyncIterator[OpenMailbox]:
    """Connect, log in and open the folder for reading.

    Args:
        place: the mailbox.
        token: gives the access token of `oauth`.

    Raises:
        ImapRefusedError: the server refuses the login or the folder, or its certificate is not valid.
        ImapUnavailableError: anything else is wrong.
    """
    tls = ssl.create_default_context() if place.cafile is None else load_authorities(place.cafile)
    with _limit() as limit:
        async with Wire.connect(place.host, place.port, tls, max_literal=MAX_MESSAGE + 1) as wire:
            await wire.read_greeting()
            await _log_in(wire, place, token)
            opened = await _examine(wire, place.folder)
            limit.deadline = float("inf")  # from here on each command has a limit of its own
            yield opened
            with trio.move_on_after(_GOODBYE), suppress(ImapUnavailableError):
                await wire.ask(b"LOGOUT")
            return
    raise ImapUnavailableError("the server does not answer")


def _limit() -> trio.CancelScope:
    return trio.move_on_after(PATIENCE)


async def _log_in(wire: Wire, place: ImapMailbox, token: TokenSource | None) -> None:
    told = await wire.ask(b"CAPABILITY")
    offered = {
        word
        for response in told
        if response[0].upper().startswith(b"* CAPABILITY")
        for word in response[0].upper().split()
    }
    if place.oauth:
        answer = f"user={place.username}\1auth=Bearer {await _get_token(token)}\1\1".encode()
        await wire.ask(b"AUTHENTICATE XOAUTH2", base64.b64encode(answer))
    elif b"AUTH=PLAIN" in offered:  # RFC 4616
        answer = f"\0{place.username}\0{place.password}".encode()
        await wire.ask(b"AUTHENTICATE PLAIN", base64.b64encode(answer))
    elif b"LOGINDISABLED" in offered:
        raise ImapRefusedError("the server offers neither AUTH=PLAIN nor LOGIN")
    else:
        await wire.ask(b"LOGIN %b %b" % (_quote(place.username), _quote(place.password or "")))


async def _get_token(token: TokenSource | None) -> str:
    if token is None:
        raise ImapUnavailableError("there is no access token")
    try:
        return await token()
    except TokenUnavailableError as error:
        kind = ImapRefusedError if error.refused else ImapUnavailableError
        raise kind(str(error)) from error


async def _examine(wire: Wire, folder: str) -> OpenMailbox:
    told = b"\n".join(response[0] for response in await wire.ask(b"EXAMINE " + _quote(folder)))
    validity, following = (
        re.search((_NUMBER % name).encode(), told, re.IGNORECASE) for name in ("UIDVALIDITY", "UIDNEXT")
    )
    if validity is None:
        raise ImapUnavailableError("the server keeps no UIDs")
    return OpenMailbox(wire, int(validity[1]), None if following is None else int(following[1]))


def _quote(text: str) -> bytes:
    """Return a quoted string (RFC 3501, 4.3)."""
    if not text.isascii():
        raise ImapRefusedError("the server takes no user name or password outside ASCII")
    return b'"%b"' % text.replace("\\", "\\\\").replace('"', '\\"').encode()
