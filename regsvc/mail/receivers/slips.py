"""Slips of the keyboard in the domain of an address, and the domain that was meant.

Some slips are domains that take mail, registered for that purpose: they are known by name. Any other guess needs proof
that the typed domain takes no mail: `o2.de` and `me.de` are one letter from larger services, and have users.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from regsvc.dns.public_names import is_top_level
from regsvc.mail.receivers.popular import list_popular

_FAR: Final = 8  # letters from which two slips may be one domain

_SEPARATORS: Final = re.compile(r"[.,;:/ \u3002\uff0e\uff61]+")


@dataclass(frozen=True)
class _Slips:
    """What `slips.toml` knows: each slip with what was meant."""

    domains: Mapping[str, str]
    ends: Mapping[str, str]
    rarer_ends: Mapping[str, str]


@cache
def _load_slips() -> _Slips:
    tables = tomllib.loads(Path(__file__).with_name("slips.toml").read_text("ascii"))
    return _Slips(
        **{
            name: {slip: right for right, slips in table.items() for slip in slips.split()}
            for name, table in tables.items()
        }
    )


def correct_known(domain: str) -> str | None:
    """Return the domain that was meant by a known slip, or None.

    Args:
        domain: as typed, or in A-labels.
    """
    typed = domain.strip().lower()
    name = _SEPARATORS.sub(".", typed).strip(".")
    popular, slips = list_popular(), _load_slips()
    if name in popular:
        return name if name != typed.rstrip(".") else None
    if found := slips.domains.get(name):
        return found
    for labels in (2, 1):
        rest, end = _split(name, labels)
        if not rest or (labels == 1 and is_top_level(end)):
            continue
        rarer = slips.rarer_ends.get(end)
        if rarer is not None and f"{rest}.{rarer}" in popular:
            return f"{rest}.{rarer}"
        if end in slips.ends:  # what stands before it may be a slip of its own
            repaired = f"{rest}.{slips.ends[end]}"
            return slips.domains.get(repaired, repaired)
    return None


def _split(name: str, labels: int) -> tuple[str, str]:
    parts = name.split(".")
    return ".".join(parts[:-labels]), ".".join(parts[-labels:])


def guess(domain: str) -> str | None:
    """Return the popular domain nearest to one that takes no mail, the most used of several; None if none is near.

    Near is one slip: a letter more, less, or another, or two in the wrong order. A long name may have two.
    """
    name = domain.lower()
    best: str | None = None
    least = 2 if len(name) >= _FAR else 1
    for right in list_popular():
        if abs(len(right) - len(name)) > least or right == name:
            continue
        distance = measure(name, right, least)
        if distance <= least and (best is None or distance < least):
            best, least = right, distance
            if distance == 1:
                break
    return best


def measure(one: str, other: str, most: int) -> int:
    """Return the number of slips between two words, or more than `most` (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        after = [i]
        for j, b in enumerate(other, 1):
            cost = min(row[j] + 1, after[j - 1] + 1, row[j - 1] + (a != b))
            if i > 1 and j > 1 and a == other[j - 2] and b == one[i - 2]:
                cost = min(cost, before[j - 2] + 1)
            after.append(cost)
        if min(after) > most:
            return most + 1
        before, row = row, after
    return row[-1]
