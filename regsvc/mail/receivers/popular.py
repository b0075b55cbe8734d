"""The domains that most people have their mail at, those with the most users first: `popular.txt`."""

from __future__ import annotations

from functools import cache
from pathlib import Path


@cache
def list_popular() -> dict[str, int]:
    """Return the popular domains with their places, the most used first."""
    text = Path(__file__).with_name("popular.txt").read_text("ascii")
    return {domain: place for place, domain in enumerate(text.split())}
