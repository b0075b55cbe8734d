"""Mail schedule of an address: 60 s after the first message, then 2, 5 and 15 min, then 6 a day; reset by a quiet day.

There are two schedules. The one per typed address *and* client is visible (429, `next_resend_at`) and reveals nothing
about other clients. The one per address is hidden: an early message waits for its turn, and only the newest waiting one
is sent. Meanwhile its registration shows what became of the message that had the turn. So a stranger can neither block
the owner's messages nor learn of them. A message that ends unsent gives its turn back.

Password reset and email change have their own schedules, so that kinds of messages do not delay each other.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import scalar_row, tuple_row

from regsvc.accounts.address import strip_tag
from regsvc.errors import RegsvcError
from regsvc.mail.reports.report import Kind, Reason
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets, blind

_LABEL = "schedule"
QUIET = timedelta(days=30)  # after "this was not me": at most one message a day


class TooSoonError(RegsvcError):
    """It is too soon to send another message."""

    code = "too_soon"

    def __init__(self, next_at: datetime) -> None:
        """Args: next_at: when the next message may be requested."""
        super().__init__()
        self.next_at = next_at


_DAY = "interval '24 hours'"
# An address's schedule is written only under this lock, which claims try and never wait for.
_LOCK = "hashtextextended(encode(key, 'hex'), 7243605130)"
# The pause after so many messages.
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

NEXT_TURN = f"SELECT s.last_at + {_PAUSE} FROM mail_schedules s WHERE s.key"  # noqa: S608 - a constant
"""When the next turn is due on the schedule whose key equals what follows."""

# The message that had the last turn ended unsent.
_UNSENT = """
    EXISTS (SELECT FROM mails m WHERE m.id = s.mail_id AND m.state IN ('bounced', 'dead', 'cancelled'))
"""


@dataclass(frozen=True)
class Turn:
    """The next turn of an address.

    Args:
        at: time of the turn.
        mail_id: message that had the last turn; None if unknown.
        bounce: kind and reason that the attempt will show, if the address is suppressed after a bounce.
        suppressed: whether the message waits because its address is suppressed.
    """

    at: datetime
    mail_id: UUID | None
    bounce: tuple[Kind, Reason] | None = None
    suppressed: bool = False


# The shared schedule of all tagged addresses of one mailbox: five at once, then fewer and fewer.
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
    """Return the key of an address as typed by one client; the client is a network prefix."""
    return blind(secrets, _LABEL, "client", client, email_key)


def family_key(secrets: Secrets, kind: str, email_key: str) -> bytes | None:
    """Return the key of the schedule that tagged variants of an address share, or None without a tag."""
    base = strip_tag(email_key)
    return blind(secrets, _LABEL, "family", kind, base) if base != email_key else None


def registration_key(secrets: Secrets, registration_id: UUID) -> bytes:
    """Return the schedule key of a registration's address, for the holder of its handle."""
    return blind(secrets, _LABEL, "registration", registration_id.bytes)


def reset_key(secrets: Secrets, email_key: str) -> bytes:
    """Return the key of an address's password reset schedule."""
    return blind(secrets, _LABEL, "reset", email_key)


def reset_client_key(secrets: Secrets, email_key: str, client: str) -> bytes:
    """Return the key of the password reset schedule of an address as typed by one client, a network prefix."""
    return blind(secrets, _LABEL, "reset-client", client, email_key)


def login_key(secrets: Secrets, email_key: str) -> bytes:
    """Return the key of an address's schedule of login codes."""
    return blind(secrets, _LABEL, "login", email_key)


def login_client_key(secrets: Secrets, email_key: str, client: str) -> bytes:
    """Return the key of the same schedule of an address as typed by one client, a network prefix."""
    return blind(secrets, _LABEL, "login-client", client, email_key)


def change_key(secrets: Secrets, email_key: str) -> bytes:
    """Return the key of the schedule of a new address in an email change."""
    return blind(secrets, _LABEL, "move", email_key)


def changer_key(secrets: Secrets, user_id: UUID) -> bytes:
    """Return the key of a user's email change schedule."""
    return blind(secrets, _LABEL, "mover", user_id.bytes)


# Takes turns as part of another statement, if `{0}` has a row.
TAKEN = f"""
    INSERT INTO mail_schedules AS s (key, sent, last_at)
    SELECT DISTINCT k, 1, now() FROM {{0}}, unnest(%(keys)s::bytea[]) AS k
     -- Look first: even an update that changes nothing locks the row, which is a write.
     WHERE NOT EXISTS (SELECT FROM mail_schedules s WHERE s.key = k AND s.last_at + {_PAUSE} > now())
     ORDER BY k
    ON CONFLICT (key) DO UPDATE
       SET sent = CASE WHEN s.last_at <= now() - {_DAY} THEN 1 ELSE s.sent + 1 END, last_at = now()
     WHERE s.last_at + {_PAUSE} <= now()
    RETURNING key
"""  # noqa: S608 - constants


async def take_turns(conn: Connection, keys: Collection[bytes]) -> set[bytes]:
    """Take a turn on each schedule whose pause is over, and return those; the others are unchanged."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            TAKEN.format("(SELECT) AS one"),
            {"keys": list(keys)},
        )
        return set(await cursor.fetchall())


async def next_turns(conn: Connection, keys: Collection[bytes]) -> dict[bytes, datetime]:
    """Return when the next turn on each schedule is due; a key without an entry may take its turn now."""
    return await _look(conn, keys, _PAUSE)


async def next_family_turns(conn: Connection, keys: Collection[bytes]) -> dict[bytes, datetime]:
    """Return the same as `next_turns` for schedules shared by tagged addresses."""
    return await _look(conn, keys, _FAMILY_PAUSE)


async def find_early(conn: Connection, keys: Collection[bytes]) -> set[bytes]:
    """Return the schedules whose turn is not free."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            f"""
            SELECT s.key FROM mail_schedules s
             WHERE s.key = ANY(%(keys)s) AND s.last_at + {_PAUSE} > now() AND NOT {_UNSENT}
            """,  # noqa: S608 - constants of this module
            {"keys": list(keys)},
        )
        return set(await cursor.fetchall())


async def try_turns(conn: Connection, mails: Mapping[bytes, UUID]) -> dict[bytes, bool]:
    """Take a turn for a message on each schedule that no other transaction holds, and return whether it was free.

    A turn is free when the pause is over, or when the message that had the last turn ended unsent: it does not count.

    A schedule held by another transaction is omitted, not waited for: its process may have lost power.
    """
    return await _try(conn, mails, _PAUSE)


async def try_family_turns(conn: Connection, mails: Mapping[bytes, UUID]) -> dict[bytes, bool]:
    """Do the same as `try_turns` for schedules shared by tagged addresses."""
    return await _try(conn, mails, _FAMILY_PAUSE)


async def _try(conn: Connection, mails: Mapping[bytes, UUID], pause: str) -> dict[bytes, bool]:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            f"""
            WITH free AS MATERIALIZED (
                SELECT key, mail_id FROM unnest(%(keys)s::bytea[], %(mails)s::uuid[]) AS wanted (key, mail_id)
                 WHERE pg_try_advisory_xact_lock({_LOCK})
            ), taken AS (
                INSERT INTO mail_schedules AS s (key, sent, last_at, mail_id)
                SELECT key, 1, now(), mail_id FROM free
                ON CONFLICT (key) DO UPDATE
                   SET sent = CASE WHEN s.last_at <= now() - {_DAY} THEN 1
                                   WHEN {_UNSENT} THEN greatest(s.sent, 1)
                                   ELSE s.sent + 1 END,
                       last_at = now(), mail_id = excluded.mail_id
                 WHERE s.last_at + {pause} <= now() OR {_UNSENT}
                RETURNING key
            )
            SELECT key, key IN (SELECT key FROM taken) FROM free
            """,  # noqa: S608 - constants of this module
            {"keys": list(mails), "mails": list(mails.values())},
        )
        return dict(await cursor.fetchall())


async def _look(conn: Connection, keys: Collection[bytes], pause: str) -> dict[bytes, datetime]:
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            f"SELECT s.key, s.last_at + {pause} FROM mail_schedules s WHERE s.key = ANY(%(keys)s)",  # noqa: S608
            {"keys": list(keys)},
        )
        return dict(await cursor.fetchall())


async def find_turns(conn: Connection, keys: Collection[bytes]) -> dict[bytes, Turn]:
    """Return the next turn on each schedule, with the message that had the last one."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            f"SELECT s.key, s.last_at + {_PAUSE}, s.mail_id FROM mail_schedules s WHERE s.key = ANY(%(keys)s)",  # noqa: S608
            {"keys": list(keys)},
        )
        return {key: Turn(at, mail_id) for key, at, mail_id in await cursor.fetchall()}


async def find_leading(conn: Connection, keys: Collection[bytes]) -> dict[bytes, UUID]:
    """Return the messages that had the last turns on these schedules, except those that ended unsent."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            f"""
            SELECT s.key, s.mail_id FROM mail_schedules s
             WHERE s.key = ANY(%(keys)s) AND s.mail_id IS NOT NULL AND NOT {_UNSENT}
            """,  # noqa: S608 - a constant of this module
            {"keys": list(keys)},
        )
        return dict(await cursor.fetchall())


async def quieten(conn: Connection, key: bytes) -> None:
    """Limit a schedule to one message a day for 30 days; the reported one counts."""
    await conn.execute(
        f"""
        WITH held AS MATERIALIZED (
            SELECT key, pg_advisory_xact_lock({_LOCK}) FROM (SELECT %(key)s::bytea AS key) AS wanted
        )
        INSERT INTO mail_schedules AS s (key, sent, last_at, quiet_until)
        SELECT key, 1, now(), now() + %(quiet)s FROM held
        ON CONFLICT (key) DO UPDATE SET quiet_until = excluded.quiet_until, mail_id = NULL
        """,  # noqa: S608 - a constant of this module
        {"key": key, "quiet": QUIET},
    )


async def purge_schedules(conn: Connection, limit: int) -> int:
    """Delete schedules that delay no message any more, and return the count."""
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
