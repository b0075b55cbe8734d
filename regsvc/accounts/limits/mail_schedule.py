"""The mail schedule: 60 s after the first mail, then 2, 5 and 15 min, then 6 a day; anew after a quiet day.

It is kept twice. Per address as typed *and* client it is shown (429, `next_resend_at`): it tells nothing of others.
Per address alone it is hidden: a mail that comes too early for it waits for its turn and the newest one that waits is
sent, while its registration walks on as if it had been; so a stranger can neither stop an owner's mail nor learn of it.

Links for forgotten passwords and for moves to another address have schedules of their own, so that no kind of mail
takes the turn of another.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import scalar_row, tuple_row

from regsvc.accounts.address import strip_tag
from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets, blind

_LABEL = "schedule"
QUIET = timedelta(days=30)  # after "this was not me", at most one mail a day


class TooSoonError(RegsvcError):
    """It is too soon for another mail."""

    code = "too_soon"

    def __init__(self, next_at: datetime) -> None:
        """Args: next_at: when the next mail may be asked for."""
        super().__init__()
        self.next_at = next_at


_DAY = "interval '24 hours'"
# An address's schedule is written only under this lock, which claims try and never wait for.
_LOCK = "hashtextextended(encode(key, 'hex'), 7243605130)"
# The pause after so many mails.
_PAUSE = f"""
    CASE WHEN s.quiet_until > now() THEN {_DAY}
         WHEN s.last_at <= now() - {_DAY} THEN interval '0'
         ELSE CASE s.sent WHEN 0 THEN interval '0'
                          WHEN 1 THEN interval '60 seconds'
                          WHEN 2 THEN interval '2 minutes'
                          WHEN 3 THEN interval '5 minutes'
                          WHEN 4 THEN interval '15 minutes'
                          ELSE interval '4 hours' END
    END
"""


# The same for all tagged addresses of one mailbox together: five at once, then fewer and fewer.
_FAMILY_PAUSE = f"""
    CASE WHEN s.last_at <= now() - {_DAY} OR s.sent < 5 THEN interval '0'
         ELSE CASE s.sent WHEN 5 THEN interval '60 seconds'
                          WHEN 6 THEN interval '2 minutes'
                          WHEN 7 THEN interval '5 minutes'
                          WHEN 8 THEN interval '15 minutes'
                          ELSE interval '1 hour' END
    END
"""


def address_key(secrets: Secrets, email_key: str) -> bytes:
    """Return the key of an address's own schedule."""
    return blind(secrets, _LABEL, "address", email_key)


def client_key(secrets: Secrets, email_key: str, client: str) -> bytes:
    """Return the key of an address as one client types it; the client is a network prefix."""
    return blind(secrets, _LABEL, "client", client, email_key)


def family_key(secrets: Secrets, kind: str, email_key: str) -> bytes | None:
    """Return the key of the schedule that an address shares with those that differ in their tag; None without a tag."""
    base = strip_tag(email_key)
    return blind(secrets, _LABEL, "family", kind, base) if base != email_key else None


def registration_key(secrets: Secrets, registration_id: UUID) -> bytes:
    """Return the key of the address of a registration for whoever holds its handle."""
    return blind(secrets, _LABEL, "registration", registration_id.bytes)


def reset_key(secrets: Secrets, email_key: str) -> bytes:
    """Return the key of an address's schedule of links for forgotten passwords."""
    return blind(secrets, _LABEL, "reset", email_key)


def reset_client_key(secrets: Secrets, email_key: str, client: str) -> bytes:
    """Return the key of the same for an address as one client types it; the client is a network prefix."""
    return blind(secrets, _LABEL, "reset-client", client, email_key)


def move_key(secrets: Secrets, email_key: str) -> bytes:
    """Return the key of the schedule of an address that accounts are to be moved to."""
    return blind(secrets, _LABEL, "move", email_key)


def mover_key(secrets: Secrets, user_id: UUID) -> bytes:
    """Return the key of the schedule of a user who moves to another address."""
    return blind(secrets, _LABEL, "mover", user_id.bytes)


async def take_turns(conn: Connection, keys: Collection[bytes]) -> set[bytes]:
    """Take a turn on each schedule whose pause is over, and return those; the others stay as they are."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            INSERT INTO mail_schedules AS s (key, sent, last_at)
            SELECT DISTINCT k, 1, now() FROM unnest(%(keys)s::bytea[]) AS k
             -- Looks first: an update that comes to nothing would lock the row, which is a write.
             WHERE NOT EXISTS (SELECT FROM mail_schedules s WHERE s.key = k AND s.last_at + {_PAUSE} > now())
             ORDER BY k
            ON CONFLICT (key) DO UPDATE
               SET sent = CASE WHEN s.last_at <= now() - {_DAY} THEN 1 ELSE s.sent + 1 END, last_at = now()
             WHERE s.last_at + {_PAUSE} <= now()
            RETURNING key
            """,  # noqa: S608 - constants of this module
            {"keys": list(keys)},
        )
        return set(await cursor.fetchall())


async def next_turns(conn: Connection, keys: Collection[bytes]) -> dict[bytes, datetime]:
    """Return when the next turn on each schedule is; a key without one may take its turn at once."""
    return await _look(conn, keys, _PAUSE)


async def next_family_turns(conn: Connection, keys: Collection[bytes]) -> dict[bytes, datetime]:
    """Do the same for schedules that tagged addresses share."""
    return await _look(conn, keys, _FAMILY_PAUSE)


async def find_early(conn: Connection, keys: Collection[bytes]) -> set[bytes]:
    """Return the schedules whose pause is not over yet."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"SELECT s.key FROM mail_schedules s WHERE s.key = ANY(%(keys)s) AND s.last_at + {_PAUSE} > now()",  # noqa: S608
            {"keys": list(keys)},
        )
        return set(await cursor.fetchall())


async def try_turns(conn: Connection, keys: Collection[bytes]) -> dict[bytes, bool]:
    """Take a turn on each schedule that nobody else is deciding about, and return whether its pause was over.

    A schedule that another transaction holds is left out, not waited for: its process may have lost power.
    """
    return await _try(conn, keys, _PAUSE)


async def try_family_turns(conn: Connection, keys: Collection[bytes]) -> dict[bytes, bool]:
    """Do the same on schedules that tagged addresses share."""
    return await _try(conn, keys, _FAMILY_PAUSE)


async def _try(conn: Connection, keys: Collection[bytes], pause: str) -> dict[bytes, bool]:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            f"""
            WITH free AS MATERIALIZED (
                SELECT key FROM (SELECT DISTINCT key FROM unnest(%(keys)s::bytea[]) AS key) AS wanted
                 WHERE pg_try_advisory_xact_lock({_LOCK})
            ), taken AS (
                INSERT INTO mail_schedules AS s (key, sent, last_at)
                SELECT key, 1, now() FROM free
                ON CONFLICT (key) DO UPDATE
                   SET sent = CASE WHEN s.last_at <= now() - {_DAY} THEN 1 ELSE s.sent + 1 END, last_at = now()
                 WHERE s.last_at + {pause} <= now()
                RETURNING key
            )
            SELECT key, key IN (SELECT key FROM taken) FROM free
            """,  # noqa: S608 - constants of this module
            {"keys": list(keys)},
        )
        return dict(await cursor.fetchall())


async def _look(conn: Connection, keys: Collection[bytes], pause: str) -> dict[bytes, datetime]:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            f"SELECT s.key, s.last_at + {pause} FROM mail_schedules s WHERE s.key = ANY(%(keys)s)",  # noqa: S608
            {"keys": list(keys)},
        )
        return dict(await cursor.fetchall())


async def quieten(conn: Connection, key: bytes) -> None:
    """Let at most one mail a day have its turn on a schedule for 30 days; the one that was complained of counts."""
    await conn.execute(
        f"""
        WITH held AS MATERIALIZED (
            SELECT key, pg_advisory_xact_lock({_LOCK}) FROM (SELECT %(key)s::bytea AS key) AS wanted
        )
        INSERT INTO mail_schedules AS s (key, sent, last_at, quiet_until)
        SELECT key, 1, now(), now() + %(quiet)s FROM held
        ON CONFLICT (key) DO UPDATE SET quiet_until = excluded.quiet_until
        """,  # noqa: S608 - a constant of this module
        {"key": key, "quiet": QUIET},
    )


async def purge_schedules(conn: Connection, limit: int) -> int:
    """Delete schedules that hold nobody up any more, and return how many."""
    cursor = await conn.execute(
        f"""
        WITH usual AS (
            SELECT key FROM mail_schedules
             WHERE quiet_until IS NULL AND last_at <= now() - {_DAY}
             ORDER BY last_at LIMIT %(limit)s
               FOR UPDATE SKIP LOCKED
        ), quiet AS (
            SELECT key FROM mail_schedules
             WHERE quiet_until <= now() AND last_at <= now() - {_DAY}
             ORDER BY quiet_until LIMIT %(limit)s
               FOR UPDATE SKIP LOCKED
        )
        DELETE FROM mail_schedules
         WHERE key IN (SELECT key FROM usual UNION ALL SELECT key FROM quiet)
        """,  # noqa: S608 - a constant of this module
        {"limit": limit},
    )
    return cursor.rowcount
