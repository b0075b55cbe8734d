"""One resolver a process: each look-up has a deadline, the cache is bounded, and too many look-ups at once are refused.

What is looked up is advice or a diagnosis. A slow or missing resolver therefore never stops anything else.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

import trio

if TYPE_CHECKING:
    from dns.asyncresolver import Resolver as Asker

Kind = Literal["MX", "A", "AAAA", "TXT"]

AT_ONCE: Final = 32  # look-ups in flight
KEPT: Final = 1_000  # answers in the cache
MOST_RECORDS: Final = 20  # of an answer that are kept
_LONGEST: Final = 3600.0  # seconds that an answer is kept
_SHORTEST: Final = 60.0
_MISSING: Final = 300.0  # seconds that the absence of a name or record is kept (RFC 2308, 5)
_FAILED: Final = 10.0  # seconds that a name is not asked for again after no answer came


class NoAnswerError(Exception):
    """The DNS gave no usable answer in time."""


@dataclass(frozen=True)
class Records:
    """The records of one kind that a name has.

    Args:
        exists: whether the name exists (RFC 8020: if not, nothing below it does).
        texts: the records as text, those of a TXT record joined (RFC 7208, 3.3).
    """

    exists: bool
    texts: tuple[str, ...] = ()


class Resolver:
    """Looks names up.

    Args:
        servers: addresses and ports of the DNS servers; empty for the system's.
    """

    def __init__(self, servers: Sequence[tuple[str, int]] = ()) -> None:
        self._servers = tuple(servers)
        self._asker: Asker | None = None
        self._places = trio.CapacityLimiter(AT_ONCE)
        self._cache: OrderedDict[tuple[str, Kind], tuple[float, Records | None]] = OrderedDict()

    async def look_up(self, name: str, kind: Kind, *, seconds: float) -> Records:
        """Return the records of a name.

        Args:
            name: domain name in A-labels; it is never completed by a search list.
            kind: type of the records.
            seconds: time for the answer.

        Raises:
            NoAnswerError: no usable answer in time, or too many look-ups at once.
        """
        key = (name.lower().rstrip("."), kind)
        kept = self._cache.get(key)
        if kept is not None and kept[0] > time.monotonic():
            self._cache.move_to_end(key)
            if kept[1] is None:
                raise NoAnswerError(f"no answer for {kind} of {name} a moment ago")
            return kept[1]
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            raise NoAnswerError("too many look-ups at once") from None
        try:
            life, records = await self._ask(key[0], kind, seconds)
        except NoAnswerError:
            self._keep(key, _FAILED, None)
            raise
        finally:
            self._places.release()
        self._keep(key, life, records)
        return records

    def _keep(self, key: tuple[str, Kind], seconds: float, records: Records | None) -> None:
        self._cache[key] = (time.monotonic() + seconds, records)
        self._cache.move_to_end(key)
        while len(self._cache) > KEPT:
            self._cache.popitem(last=False)

    async def _ask(self, name: str, kind: Kind, seconds: float) -> tuple[float, Records]:
        from dns import asyncbackend, exception, resolver  # noqa: PLC0415 - only once something is looked up

        try:
            if self._asker is None:
                self._asker = self._make_asker()
            with trio.fail_after(seconds):
                answer = await self._asker.resolve(
                    f"{name}.",
                    kind,
                    raise_on_no_answer=False,
                    search=False,
                    lifetime=seconds,
                    backend=asyncbackend.get_backend("trio"),
                )
        except resolver.NXDOMAIN:
            return _MISSING, Records(exists=False)
        except (exception.DNSException, trio.TooSlowError, OSError, ValueError) as error:
            raise NoAnswerError(f"no answer for {kind} of {name}: {type(error).__name__}") from error
        if answer.rrset is None:
            return _MISSING, Records(exists=True)
        texts = tuple(_write(record) for record in answer.rrset)[:MOST_RECORDS]
        return min(max(float(answer.rrset.ttl), _SHORTEST), _LONGEST), Records(exists=True, texts=texts)

    def _make_asker(self) -> Asker:
        """Return the client of the DNS.

        Raises:
            dns.exception.DNSException: the system has no resolver.
        """
        from dns import asyncresolver, nameserver  # noqa: PLC0415 - likewise

        asker = asyncresolver.Resolver(configure=not self._servers)
        if self._servers:
            asker.nameservers = [nameserver.Do53Nameserver(host, port) for host, port in self._servers]
        return asker


def _write(record: Any) -> str:
    """Return a record as text."""
    strings = getattr(record, "strings", None)
    if strings is not None:
        return b"".join(strings).decode("utf-8", "replace")
    return str(record.to_text())
