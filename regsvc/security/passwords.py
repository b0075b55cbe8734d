"""Passwords: how they are stored, and the lane that hashes them.

The stored string is `$hmac-sha384-bcrypt$PEPPER` followed by a bcrypt string of base64(HMAC-SHA-384(pepper, password)).
The HMAC turns any input into 64 characters without a NUL, where bcrypt alone would use only 72 bytes. Its key, the
pepper, is not in the database, so that passwords in a dump cannot be guessed (ASVS 5.0, 11.4.2; NIST SP 800-63B-4,
3.1.1.2). PEPPER names the version of the pepper, so that the secret can be rotated.
"""

from __future__ import annotations

import base64
import hmac
import re
import unicodedata
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Self

import bcrypt
import trio

from regsvc.metrics import HASHING_SECONDS
from regsvc.security.comparisons import Compared, Comparisons
from regsvc.security.imported.hashes import ImportedHash, read_hash
from regsvc.security.lane import Lane, LaneStatistics
from regsvc.security.no_password import has_password

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

_LONGEST_WRITTEN = 4 * 128  # code points; no character decomposes into more than four

MIN_COST, MAX_COST = 10, 15  # for new hashes; higher costs are never computed
_LEAST_COST = 4  # lowest cost of bcrypt
_BCRYPT_BYTES = 72  # bcrypt ignores the rest of a password
_PREFIX = "$hmac-sha384-bcrypt$"
_PEPPER_VERSION = re.compile(r"[A-Za-z0-9_-]{1,32}")
# The 22nd character of the salt carries two bits, and bcrypt accepts only one spelling of them.
_STORED = re.compile(
    rf"(?:{re.escape(_PREFIX)}(?P<pepper>{_PEPPER_VERSION.pattern}))?"
    r"(?P<hash>\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31})"
)


def read_pepper(stored: str) -> str | None:
    """Return the version of the pepper of a hash of ours, or None if it has none."""
    match = _STORED.fullmatch(stored)
    return None if match is None else match["pepper"]


def is_migrated_hash(text: str) -> bool:
    """Return whether a text is a hash as other systems store it, with a cost that this service computes."""
    match = _STORED.fullmatch(text)
    if match is None:
        return read_hash(text) is not None
    return match["pepper"] is None and _LEAST_COST <= int(match["cost"]) <= MAX_COST


def normalize(password: str) -> str:
    """Return a password in Unicode normalisation form C (NIST SP 800-63B-4, 3.1.1.2; RFC 8265).

    A text longer than any valid password is returned unchanged: reordering thousands of combining marks takes
    quadratic time.
    """
    return password if len(password) > _LONGEST_WRITTEN else unicodedata.normalize("NFC", password)


def fold(text: str) -> str:
    """Return a text without the difference between capital and small letters."""
    text = text[:_LONGEST_WRITTEN]
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


@dataclass(frozen=True)
class Verdict:
    """The result of a verification.

    Attributes:
        ok: whether the password is correct.
        rehash_needed: whether its hash has an outdated scheme, pepper or cost, and a new one should be stored.
        unreadable: whether the stored string could not be checked, because of an unknown scheme, a forbidden cost or
            a missing pepper. For the log; clients do not learn it.
    """

    ok: bool
    rehash_needed: bool = False
    unreadable: bool = False


@dataclass(frozen=True, repr=False)
class _Stored:
    """A parsed stored string. `pepper` is the version, None for another system's plain bcrypt."""

    pepper: str | None
    hash: bytes
    cost: int


class HashingLane:
    """Hashes and verifies passwords in a `Lane`, so that other requests are not delayed.

    Every verification costs the same, whatever is stored: a hash is computed even if nothing can match, and a hash of
    lower cost is topped up to the current one; a hash of another system, too. While such hashes take longer than ours,
    every refusal waits as long. (Only a hash of ours of higher cost, from before the setting was lowered, takes longer,
    until its user logs in.)

    The queue has 256 places and half a minute of waiting. At a quarter of a second a hash, two cores clear a burst of
    200 sign-ups in 25 seconds. Beyond that most clients and proxies have given up, and 503 with Retry-After is the
    better answer.

    Args:
        cost: bcrypt cost for new hashes: 2^cost rounds.
        pepper: version of the pepper for new hashes.
        peppers: all peppers, by version; older ones only verify.
        threads: number of threads; None: one per usable processor.
        queue: places in the queue.
        patience: longest expected wait in seconds, beyond which a job is refused.

    Raises:
        ValueError: the cost or a version is invalid, or the pepper is not among the peppers.
    """

    def __init__(
        self,
        *,
        cost: int,
        pepper: str,
        peppers: Mapping[str, bytes],
        threads: int | None = None,
        queue: int = 256,
        patience: float = 30.0,
    ) -> None:
        if not MIN_COST <= cost <= MAX_COST:
            raise ValueError(f"a cost of {cost} is not within {MIN_COST} to {MAX_COST}")
        if pepper not in peppers or not all(map(_PEPPER_VERSION.fullmatch, peppers)):
            raise ValueError("no such pepper, or a version with characters other than A-Z a-z 0-9 _ -")
        self._cost = cost
        self._pepper = pepper
        self._peppers = dict(peppers)
        self._comparisons = Comparisons(cost)
        self._lane = Lane(threads=threads, queue=queue, patience=patience)
        # Compared when nothing can match: a fresh salt, and a digest of no known password.
        self._dummy = _Stored(pepper, bcrypt.gensalt(cost) + b"." * 31, cost)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def hash(self, password: str, *, owner: Hashable | None = None, known: bool = False) -> str:
        """Return the string to store for a password.

        Args:
            password: as typed.
            owner: owner of the turn in the queue, such as a client's network; None for no particular owner.
            known: whether the owner has logged in before, which opens reserved places.

        Raises:
            OverloadedError: too many jobs are waiting; `retry_after` is when the queue should have cleared.
            trio.ClosedResourceError: the lane is closed.
        """
        key = self._key(password, self._pepper)
        with HASHING_SECONDS.time():
            digest = await self._lane.run(
                partial(bcrypt.hashpw, key, bcrypt.gensalt(self._cost)), owner=owner, known=known
            )
        return f"{_PREFIX}{self._pepper}{digest.decode('ascii')}"

    async def verify(
        self, password: str, stored: str | None, *, owner: Hashable | None = None, known: bool = False
    ) -> Verdict:
        """Check a password against a stored string. None costs the same and never matches.

        An invalid stored string raises nothing: its user cannot log in, and the check takes as long as any other.

        Args:
            password: as typed.
            stored: the stored string.
            owner: as for `hash`.
            known: as for `hash`.

        Raises:
            OverloadedError: too many jobs are waiting; `retry_after` is when the queue should have cleared.
            trio.ClosedResourceError: the lane is closed.
        """
        parsed = None if stored is None else self._parse(stored)
        with HASHING_SECONDS.time():
            compared = await self._lane.run(self._comparison(password, parsed), owner=owner, known=known)
        if not compared.matches:
            await trio.sleep(self._comparisons.missing(compared))
        if parsed is None:
            return Verdict(ok=False, unreadable=stored is not None and has_password(stored))
        outdated = isinstance(parsed, ImportedHash) or (parsed.pepper, parsed.cost) != (
            self._pepper,
            self._cost,
        )
        return Verdict(ok=compared.matches, rehash_needed=compared.matches and outdated)

    def statistics(self) -> LaneStatistics:
        """Return a snapshot of the lane."""
        return self._lane.statistics()

    async def aclose(self) -> None:
        """Refuse queued jobs, finish the current ones and end the threads."""
        await self._lane.aclose()

    def _comparison(self, password: str, stored: _Stored | ImportedHash | None) -> Callable[[], Compared]:
        """Return what is to be done in a thread."""
        if isinstance(stored, ImportedHash):
            typed = password.encode("utf-8", "surrogatepass")  # as typed: other systems do not normalise
            return partial(self._comparisons.compare_imported, stored, typed)
        target = stored or self._dummy
        key = self._key(password, target.pepper)
        return partial(self._comparisons.compare, key, target.hash, target.cost)

    def _parse(self, stored: str) -> _Stored | ImportedHash | None:
        match = _STORED.fullmatch(stored)
        if match is None:
            return read_hash(stored)
        pepper, cost = match["pepper"], int(match["cost"])
        # bcrypt would accept up to 31, which would block a thread for a day.
        if not _LEAST_COST <= cost <= MAX_COST or (pepper is not None and pepper not in self._peppers):
            return None
        return _Stored(pepper, match["hash"].encode("ascii"), cost)

    def _key(self, password: str, pepper: str | None) -> bytes:
        """Return bcrypt's input. Lone surrogates are encoded like any character: they are valid input here."""
        if pepper is None:  # from another system, which did not normalise, and whose bcrypt used 72 bytes
            return password.encode("utf-8", "surrogatepass")[:_BCRYPT_BYTES]
        typed = normalize(password).encode("utf-8", "surrogatepass")
        return base64.b64encode(hmac.digest(self._peppers[pepper], typed, "sha384"))
