"""Recomputation of stored address keys, and its findings.

Keys of version 0.1 were case-folded, which joined mailboxes of different owners. `regsvc migrate` recomputes them in
small transactions. Each records its position, so another program or a retry continues from there. Accounts are never
merged or handed over: an account whose key another one already has gets a key that matches no address.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from uuid import UUID

import psycopg
import structlog
from psycopg.rows import tuple_row

from regsvc.accounts.address import AddressError, to_address
from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import Connection
from regsvc.postgres.migrate import migrate
from regsvc.postgres.session import UNHURRIED

log = structlog.get_logger()

BATCH = 2000  # rows per transaction


@dataclass(frozen=True)
class _Row:
    id: UUID
    email: str
    old: str
    new: str


async def bring_up(conninfo: str) -> list[str]:
    """Apply missing migrations, then recompute address keys if due.

    Returns:
        The names of the applied migrations.

    Raises:
        As `migrate`.
    """
    applied = await migrate(conninfo)
    try:
        async with await Connection.connect(
            conninfo, timeout=10.0, application_name="regsvc migrate", limits=UNHURRIED
        ) as conn:
            await recompute_keys(conn)
    except psycopg.OperationalError as error:
        raise DatabaseUnavailableError(" ".join(str(error).split())) from error
    return applied


async def schedule_recomputing(conn: Connection) -> None:
    """Schedule all rows for `recompute_keys`."""
    await conn.execute("INSERT INTO address_key_progress (stage) VALUES ('users') ON CONFLICT DO NOTHING")


async def recompute_keys(conn: Connection, batch: int = BATCH) -> None:
    """Recompute the remaining keys.

    Args:
        conn: Not in a transaction; each batch is one.
        batch: Rows per transaction.
    """
    # Checked without a lock first: a read-only role finds that nothing is due.
    while (await conn.execute("SELECT FROM address_key_progress")).rowcount:
        try:
            if await recompute_batch(conn, batch):
                return
        except psycopg.errors.UniqueViolation:
            log.info("a new account took a key meanwhile")  # the retry sees it


async def recompute_batch(conn: Connection, batch: int = BATCH) -> bool:
    """Recompute the keys of the next rows in its own transaction; return True when none are left."""
    async with conn.transaction():
        # The row is locked: several programs take turns.
        found = await (
            await conn.execute("SELECT stage, after FROM address_key_progress FOR UPDATE")
        ).fetchone()
        if found is None:
            return True
        stage, after = found
        last = await _STAGES[stage](conn, after, batch)
        stages = list(_STAGES)
        if last is None and stage == stages[-1]:
            await conn.execute("DELETE FROM address_key_progress")
            await _log_findings(conn)
            return True
        await conn.execute(
            "UPDATE address_key_progress SET stage = %(stage)s, after = %(after)s",
            {"stage": stage if last else stages[stages.index(stage) + 1], "after": last},
        )
    return False


async def _recompute_users(conn: Connection, after: UUID | None, batch: int) -> UUID | None:
    last, rows = await _read(conn, "SELECT id, email, email_key FROM users", after, batch)
    attempts = await _find_attempts(conn, [row.old for row in rows])
    for row in rows:
        others = [id_ for id_, old, key in attempts if old == row.old and key != row.new]
        if others:
            await _note(conn, row.id, "shared", others)
        await _set_user_key(conn, row)
    return last


async def _set_user_key(conn: Connection, row: _Row) -> None:
    holder = await (
        await conn.execute(
            "SELECT id FROM users WHERE email_key = %(key)s AND id <> %(id)s", {"key": row.new, "id": row.id}
        )
    ).fetchone()
    await conn.execute(
        "UPDATE users SET email_key = %(key)s WHERE id = %(id)s",
        # A space: no typed address has this key.
        {"id": row.id, "key": row.new if holder is None else f"{row.new} {row.id}"},
    )
    if holder is None:
        await conn.execute(
            "DELETE FROM address_findings WHERE user_id = %(id)s AND finding = 'collides'", {"id": row.id}
        )
    else:
        await _note(conn, row.id, "collides", holder)


async def _recompute_registrations(conn: Connection, after: UUID | None, batch: int) -> UUID | None:
    last, rows = await _read(conn, "SELECT id, email, email_key FROM registrations", after, batch)
    # Accounts have their new keys: one with an attempt's old key belongs to another mailbox.
    owners = await (
        await conn.execute(
            "SELECT id, email_key FROM users WHERE email_key = ANY(%(keys)s)",
            {"keys": [row.old for row in rows]},
        )
    ).fetchall()
    attempts = await _find_attempts(conn, [row.old for row in rows])
    apart = []
    for row in rows:
        for owner, key in owners:
            if key == row.old:
                await _note(conn, owner, "shared", [row.id])
        if any(old == row.old and key != row.new for _, old, key in attempts):
            apart.append(str(row.id))
    if apart:
        log.warning(
            "sign-ups of different mailboxes shared a key", count=len(apart), registrations=apart[:20]
        )
    await _set_keys(conn, "UPDATE registrations t SET email_key = n.key", rows)
    return last


async def _recompute_email_changes(conn: Connection, after: UUID | None, batch: int) -> UUID | None:
    old_last, old = await _read(conn, "SELECT id, old_email, old_key FROM address_moves", after, batch)
    _, new = await _read(conn, "SELECT id, new_email, new_key FROM address_moves", after, batch)
    await _set_keys(conn, "UPDATE address_moves t SET old_key = n.key", old)
    await _set_keys(conn, "UPDATE address_moves t SET new_key = n.key", new)
    return old_last


async def _recompute_mails(conn: Connection, after: UUID | None, batch: int) -> UUID | None:
    # A request by address has no spelling of its own: its key is parsed as if it had been typed.
    last, rows = await _read(
        conn, "SELECT id, coalesce(email, email_key), email_key FROM mails", after, batch
    )
    await _set_keys(conn, "UPDATE mails t SET email_key = n.key", rows)
    return last


_Stage = Callable[[Connection, UUID | None, int], Awaitable[UUID | None]]
_STAGES: dict[str, _Stage] = {
    "users": _recompute_users,
    "registrations": _recompute_registrations,
    "address_moves": _recompute_email_changes,
    "mails": _recompute_mails,
}


async def _read(
    conn: Connection, select: str, after: UUID | None, batch: int
) -> tuple[UUID | None, list[_Row]]:
    """Return the last row of the batch, None at the end, and the rows whose keys are wrong."""
    async with conn.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(
            f"{select} WHERE id > %(after)s ORDER BY id LIMIT %(batch)s",
            {"after": after or UUID(int=0), "batch": batch},
        )
        found = await cursor.fetchall()
    rows = []
    for id_, email, old in found:
        if email and old and not (email.isascii() and old.isascii()):
            new = _find_key(email)
            if new is None:
                log.warning("stored address cannot be read", row=str(id_))
            elif new != old:
                rows.append(_Row(id_, email, old, new))
    return (found[-1][0] if found else None), rows


def _find_key(email: str) -> str | None:
    try:
        return to_address(email).key
    except AddressError:
        return None


async def _find_attempts(conn: Connection, keys: Sequence[str]) -> list[tuple[UUID, str, str | None]]:
    """Return the attempts that have one of these keys: id, present key, new key."""
    if not keys:
        return []
    cursor = await conn.execute(
        """
        SELECT id, email_key, email FROM registrations
         WHERE email_key = ANY(%(keys)s) AND state NOT IN ('confirmed', 'expired', 'repudiated')
         UNION ALL
        SELECT id, email_key, email FROM registrations
         WHERE email_key = ANY(%(keys)s) AND state IN ('confirmed', 'expired', 'repudiated')
        """,
        {"keys": list(keys)},
    )
    return [(id_, old, _find_key(email)) for id_, old, email in await cursor.fetchall()]


async def _set_keys(conn: Connection, update: str, rows: Sequence[_Row]) -> None:
    if rows:
        await conn.execute(
            f"{update} FROM unnest(%(ids)s::uuid[], %(keys)s::text[]) AS n (id, key) WHERE t.id = n.id",
            {"ids": [row.id for row in rows], "keys": [row.new for row in rows]},
        )


async def _note(conn: Connection, user_id: UUID, finding: str, others: Iterable[UUID]) -> None:
    await conn.execute(
        """
        INSERT INTO address_findings AS f (user_id, finding, others) VALUES (%(id)s, %(finding)s, %(others)s)
        ON CONFLICT (user_id, finding) DO UPDATE
           SET others = ARRAY(SELECT DISTINCT o FROM unnest(f.others || excluded.others) AS o ORDER BY o)
        """,
        {"id": user_id, "finding": finding, "others": list(others)},
    )


async def _log_findings(conn: Connection) -> None:
    cursor = await conn.execute(
        "SELECT finding, count(*) FROM address_findings GROUP BY finding ORDER BY finding"
    )
    for finding, count in await cursor.fetchall():
        log.warning("accounts to look at: run `regsvc users collisions`", finding=finding, count=count)
