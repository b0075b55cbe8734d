"""Families of receivers that throttle: one that does is held alone, and one mail a minute tests it.

A family is the provider behind a domain. Its throttling says nothing of other receivers, nor of our way out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import timedelta
from typing import Final, Literal, TypeAlias

from psycopg.rows import scalar_row

from regsvc.mail.outcome import Delayed, Outcome
from regsvc.mail.queue.verdict import EARLY
from regsvc.postgres.connection import Connection
from regsvc.postgres.query import Query, read_double, read_text

Family: TypeAlias = Literal["google", "microsoft", "yahoo", "apple", "other"]

PROBE_EVERY: Final = timedelta(seconds=60)
HELD_FOR: Final = timedelta(minutes=10)
"""How long a family is held after a throttling reply; a probe that meets another begins it anew."""

_DOMAINS: Final[tuple[tuple[Family, str], ...]] = (
    ("google", r"gmail\.com|googlemail\.com|google\.com"),
    ("microsoft", r"(outlook|hotmail|live|msn|passport)(\.[a-z]{2,3}){1,2}"),
    ("yahoo", r"(yahoo|ymail|rocketmail|aol|aim)(\.[a-z]{2,3}){1,2}"),
    ("apple", r"(icloud|me|mac|privaterelay\.appleid)\.com"),
)
_EXCHANGERS: Final[tuple[tuple[Family, str], ...]] = (
    ("google", r".*\.(google|googlemail)\.com"),
    ("microsoft", r".*\.(outlook|hotmail|microsoft)\.com|.*\.mx\.microsoft"),
    ("yahoo", r".*\.yahoodns\.net"),
    ("apple", r".*\.(mail\.icloud|icloud|apple)\.com"),
)
# Replies by which receivers slow a sender down, as opposed to a greylist, a full mailbox or a fault of their own.
_THROTTLES: Final = re.compile(
    r"4\.7\.28|4\.7\.500|4\.7\.65[01]|\bS77\w*|\bRP-00\d|\[TSS?\d\d\]|unusual rate|rate limit"
    r"|too many (messages|connections)"
    r"|temporarily deferred due to|unexpected volume|throttl|server busy.{0,40}AS\(|\bCS01\b"
    r"|4\.7\.0 .{0,60}(rate|volume|try again later)",
    re.IGNORECASE,
)
_GREYLISTS: Final = re.compile(
    r"gr[ae]y-?list|4\.7\.1 .{0,60}(try again later|please (try|retry)|temporarily rejected)|come back (later|in)"
    r"|postgrey|4\.2\.0 .{0,40}try again",
    re.IGNORECASE,
)


def find_family(domain: str, exchanger: str | None = None) -> Family:
    """Return the family of a domain.

    Args:
        domain: of the recipient.
        exchanger: the host of its first MX record, if known.
    """
    for family, pattern in _DOMAINS:
        if re.fullmatch(pattern, domain.lower()):
            return family
    for family, pattern in _EXCHANGERS:
        if exchanger is not None and re.fullmatch(pattern, exchanger.lower().rstrip(".")):
            return family
    return "other"


def family_key(domain: str, exchanger: str | None = None) -> str:
    """Return the key under which a domain is held: its family, or itself if it belongs to none.

    Args:
        domain: of the recipient.
        exchanger: the host of its first MX record, if known.
    """
    family = find_family(domain, exchanger)
    return domain.lower() if family == "other" else family


def is_throttling(outcome: Outcome | None) -> bool:
    """Return whether the receiver slows us down: said of the recipient's side, and temporary."""
    return (
        isinstance(outcome, Delayed)
        and not outcome.after_dot
        and outcome.stage not in EARLY
        and bool(_THROTTLES.search(outcome.reply))
    )


def is_greylisting(reply: str) -> bool:
    """Return whether a reply asks an unknown sender to come back, which greylists allow after 300 s."""
    return bool(_GREYLISTS.search(reply)) and not _THROTTLES.search(reply)


_HELD = Query(
    "SELECT family, extract(epoch FROM held_until - now())::float8 FROM mail_families WHERE held_until > now()",
    [],
    [read_text, read_double],
)


async def load_held(conn: Connection) -> dict[str, float]:
    """Return the families that are held, each with the seconds left."""
    return dict(await _HELD.execute(conn))


async def hold_families(conn: Connection, families: Collection[str]) -> None:
    """Hold families that throttle, and put off their next test."""
    await conn.execute(
        """
        INSERT INTO mail_families AS f (family, held_until, probe_at)
        SELECT family, now() + %(held)s, now() + %(every)s FROM unnest(%(families)s::text[]) AS family ORDER BY family
            ON CONFLICT (family) DO UPDATE
           SET held_until = greatest(f.held_until, excluded.held_until),
               probe_at = greatest(f.probe_at, excluded.probe_at)
        """,
        {"families": sorted(set(families)), "held": HELD_FOR, "every": PROBE_EVERY},
    )


async def release_families(conn: Connection, families: Collection[str]) -> None:
    """End the holding of families that accepted a mail."""
    await conn.execute(
        """
        DELETE FROM mail_families WHERE family = ANY(ARRAY(
            SELECT family FROM mail_families WHERE family = ANY(%(families)s) ORDER BY family FOR UPDATE))
        """,
        {"families": sorted(set(families))},
    )


async def take_tests(conn: Connection, families: Collection[str]) -> set[str]:
    """Take the turns to test held families that are due, and return those families."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            UPDATE mail_families SET probe_at = now() + %(every)s
             WHERE family = ANY(ARRAY(
                SELECT family FROM mail_families WHERE family = ANY(%(families)s) AND probe_at <= now()
                 ORDER BY family FOR UPDATE SKIP LOCKED))
            RETURNING family
            """,
            {"families": sorted(set(families)), "every": PROBE_EVERY},
        )
        return set(await cursor.fetchall())


async def give_tests_back(conn: Connection, families: Collection[str]) -> None:
    """Make tests of held families due again that the caller's transaction took and does not use."""
    await conn.execute(
        "UPDATE mail_families SET probe_at = now() WHERE family = ANY(%(families)s)",
        {"families": sorted(set(families))},
    )
