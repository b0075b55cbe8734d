"""Passwords: which ones are taken, how they are stored, and the lane in which they are hashed.

What is stored is `$hmac-sha384-bcrypt$PEPPER` followed by a bcrypt string of base64(HMAC-SHA-384(pepper,
password)). The HMAC makes 64 characters without a NUL of whatever was typed, where bcrypt alone would see 72
bytes; its key, the pepper, is not in the database, so that a dump of it cannot be guessed at (ASVS 5.0, 11.4.2;
NIST SP 800-63B-4, 3.1.1.2). PEPPER names the version of the pepper, so that the secret can be rotated.
"""

from __future__ import annotations

import base64
import hmac
import re
import unicodedata
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal, Self, TypeAlias

import bcrypt

from regsvc.security.lane import Lane, LaneStatistics

if TYPE_CHECKING:
    from collections.abc import Container, Hashable, Mapping

Policy: TypeAlias = Literal["basic", "strict"]

LONGEST = 128  # characters
_LONGEST_WRITTEN = 4 * 128  # code points; no character has more than four in its parts
STRICT_SHORTEST = 15
_SHORTEST: dict[Policy, int] = {"basic": 8, "strict": STRICT_SHORTEST}
_CONTEXT_WORD = 3  # characters from which a word of the address, the name or the service counts

MIN_COST, MAX_COST = 10, 15  # for new hashes; nothing above MAX_COST is ever computed
_LEAST_COST = 4  # that bcrypt knows
_BCRYPT_BYTES = 72  # all that bcrypt sees of a password
_PREFIX = "$hmac-sha384-bcrypt$"
_PEPPER_VERSION = re.compile(r"[A-Za-z0-9_-]{1,32}")
# The 22nd character of the salt carries two bits; bcrypt refuses any other spelling of them.
_STORED = re.compile(
    rf"(?:{re.escape(_PREFIX)}(?P<pepper>{_PEPPER_VERSION.pattern}))?"
    r"(?P<hash>\$2[aby]\$(?P<cost>[0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31})"
)


@dataclass(frozen=True)
class Weakness:
    """Why a password is not taken: a stable word for programs and a sentence for people."""

    code: str
    detail: str


def check_password(
    policy: Policy,
    password: str,
    *,
    email: str,
    name: str,
    service: str = "",
    common: Container[str] = frozenset(),
) -> list[Weakness]:
    """Say what a policy has against a new password; nothing: it is taken.

    A character is a Unicode code point (NIST SP 800-63B-4, 3.1.1.2), counted after normalisation, so that the
    same password is as long from every keyboard. The whole password is compared, never a part of it.

    Args:
        policy: `basic`: 8 to 128 characters, equal neither to the address nor to the name, whatever their case.
            `strict`: 15 or more, not put together from words of the address, name and service, none of `common`.
        password: as typed.
        email: the address of the account.
        name: the name of the account.
        service: the names of the service, in any writing.
        common: passwords that everybody tries, as `fold` makes them; for `strict`.
    """
    length = len(normalize(password))
    folded = fold(password)
    found = []
    if length < _SHORTEST[policy]:
        found.append(Weakness("too_short", f"Use at least {_SHORTEST[policy]} characters."))
    if length > LONGEST:
        found.append(Weakness("too_long", f"Use at most {LONGEST} characters."))
    if folded == fold(email):
        found.append(Weakness("same_as_email", "Use something else than the e-mail address."))
    if folded == fold(name):
        found.append(Weakness("same_as_name", "Use something else than the name."))
    if policy == "strict" and not found:
        if len(_without_context(folded, f"{email} {name} {service}")) < _SHORTEST["basic"]:
            found.append(
                Weakness(
                    "context_words", "Use more than words of the e-mail address, the name and this service."
                )
            )
        if folded in common:
            found.append(Weakness("common", "Too many people use this password."))
    return found


def shortest(policy: Policy) -> int:
    """The characters that a policy asks for at least."""
    return _SHORTEST[policy]


def is_migrated_hash(text: str) -> bool:
    """Whether a text is bcrypt as other systems store it, of a cost that is ever computed here."""
    match = _STORED.fullmatch(text)
    return match is not None and match["pepper"] is None and _LEAST_COST <= int(match["cost"]) <= MAX_COST


def normalize(password: str) -> str:
    """Return the same characters in the one way of writing them, NFC (NIST SP 800-63B-4, 3.1.1.2; RFC 8265).

    What is longer than the longest password in its longest writing is left as it is: putting thousands of combining
    marks in order takes time that grows with their square.
    """
    return password if len(password) > _LONGEST_WRITTEN else unicodedata.normalize("NFC", password)


def fold(text: str) -> str:
    """A text without the difference between capital and small letters."""
    text = text[:_LONGEST_WRITTEN]
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def _without_context(folded: str, context: str) -> str:
    words = {word for word in re.split(r"[\W_]+", fold(context)) if len(word) >= _CONTEXT_WORD}
    for word in sorted(words, key=len, reverse=True):
        folded = folded.replace(word, "")
    return folded


@dataclass(frozen=True)
class Verdict:
    """What came of a verification.

    Attributes:
        ok: it is the password.
        rehash_needed: it is, and its hash is of another scheme, pepper or cost than new ones: store a new one.
        unreadable: there was a stored string, but none that this process could check: not of a known scheme,
            of a forbidden cost, or of a pepper that it does not have. Something to log, not to answer.
    """

    ok: bool
    rehash_needed: bool = False
    unreadable: bool = False


@dataclass(frozen=True, repr=False)
class _Stored:
    """A stored string, taken apart. `pepper` is the version, None for plain bcrypt of another system."""

    pepper: str | None
    hash: bytes
    cost: int


class HashingLane:
    """Hashes and verifies passwords in a `Lane`, where they hold up nobody.

    Every verification costs the same, whatever is stored: what cannot match is compared all the same, and a hash
    of a lower cost is topped up to the current one. (Only a hash of a higher cost, left from before the setting
    was lowered, takes longer, until its user logs in.)

    Places in line: 256 of them and half a minute of waiting. A quarter of a second a hash on two cores clears a
    burst of 200 sign-ups in 25 seconds; beyond that most clients and proxies have given up, and 503 with
    Retry-After is the better answer.

    Args:
        cost: bcrypt's, for new hashes: 2^cost rounds.
        pepper: version of the pepper for new hashes.
        peppers: all peppers, by version; older ones verify.
        threads: how many; None: the processors that this process may use.
        queue: places in line.
        patience: seconds of waiting in line beyond which a job is turned away.

    Raises:
        ValueError: the cost or a version is not usable, or the pepper is not among the peppers.
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
            raise ValueError("no such pepper, or a version of other characters than A-Z a-z 0-9 _ -")
        self._cost = cost
        self._pepper = pepper
        self._peppers = dict(peppers)
        self._lane = Lane(threads=threads, queue=queue, patience=patience)
        # Compared where nothing can match: a fresh salt, and a digest that no password is known to have.
        self._dummy = _Stored(pepper, bcrypt.gensalt(cost) + b"." * 31, cost)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.aclose()

    async def hash(self, password: str, *, owner: Hashable | None = None, known: bool = False) -> str:
        """The string to store for a password.

        Args:
            password: as typed.
            owner: whose turn in line it takes, such as a client's network; None: nobody's in particular.
            known: the owner has logged in before; some places in line are kept for such.

        Raises:
            OverloadedError: too many are waiting; `retry_after` seconds should clear the line.
            trio.ClosedResourceError: the lane is closed.
        """
        key = self._key(password, self._pepper)
        digest = await self._lane.run(
            partial(bcrypt.hashpw, key, bcrypt.gensalt(self._cost)), owner=owner, known=known
        )
        return f"{_PREFIX}{self._pepper}{digest.decode('ascii')}"

    async def verify(
        self, password: str, stored: str | None, *, owner: Hashable | None = None, known: bool = False
    ) -> Verdict:
        """Whether a password is the one that was stored; None costs the same and is never ok.

        A stored string that makes no sense raises nothing: its user cannot log in, and the answer takes its time.

        Args:
            password: as typed.
            stored: what it is compared with.
            owner: as for `hash`.
            known: as for `hash`.

        Raises:
            OverloadedError: too many are waiting; `retry_after` seconds should clear the line.
            trio.ClosedResourceError: the lane is closed.
        """
        parsed = None if stored is None else self._parse(stored)
        target = parsed or self._dummy
        key = self._key(password, target.pepper)
        matches = await self._lane.run(partial(_compare, key, target, self._cost), owner=owner, known=known)
        if parsed is None:
            return Verdict(ok=False, unreadable=stored is not None)
        outdated = (parsed.pepper, parsed.cost) != (self._pepper, self._cost)
        return Verdict(ok=matches, rehash_needed=matches and outdated)

    def statistics(self) -> LaneStatistics:
        """How the lane stands at this moment."""
        return self._lane.statistics()

    async def aclose(self) -> None:
        """Turn away who waits in line, finish what is in hand, end the threads."""
        await self._lane.aclose()

    def _parse(self, stored: str) -> _Stored | None:
        match = _STORED.fullmatch(stored)
        if match is None:
            return None
        pepper, cost = match["pepper"], int(match["cost"])
        # bcrypt would go up to 31, which takes a day of a thread that nothing can stop.
        if not _LEAST_COST <= cost <= MAX_COST or (pepper is not None and pepper not in self._peppers):
            return None
        return _Stored(pepper, match["hash"].encode("ascii"), cost)

    def _key(self, password: str, pepper: str | None) -> bytes:
        """What bcrypt is to hash. A lone surrogate is encoded like any character: it is not ours to judge."""
        if pepper is None:  # another system's: it normalised nothing, and its bcrypt saw 72 bytes
            return password.encode("utf-8", "surrogatepass")[:_BCRYPT_BYTES]
        typed = normalize(password).encode("utf-8", "surrogatepass")
        return base64.b64encode(hmac.digest(self._peppers[pepper], typed, "sha384"))


def _compare(key: bytes, target: _Stored, cost: int) -> bool:
    """Compare, in a thread, and top a lower cost up: 2^4 rounds and then 2^4, 2^5 … 2^11 make 2^12."""
    matches = bcrypt.checkpw(key, target.hash)
    for missing in range(target.cost, cost):
        bcrypt.hashpw(key, bcrypt.gensalt(missing))
    return matches
