"""Open everything in a database that hangs on the service's secret, and count by which secret it opens."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg import sql

from regsvc.flows.resealing import SEALED, Sealed
from regsvc.postgres.connection import Connection
from regsvc.security.no_password import has_password
from regsvc.security.passwords import is_migrated_hash, read_pepper
from regsvc.security.seals import UnsealError, unseal
from regsvc.security.signing.key_store import count_keys
from regsvc.security.tokens import Secrets

BATCH: Final = 1000  # rows of a statement


@dataclass(frozen=True)
class Count:
    """How many values of a kind open, and by which secret.

    Args:
        name: of the kind.
        current: that the current secret opens.
        previous: that only the previous secret opens.
        lost: that neither opens.
    """

    name: str
    current: int
    previous: int
    lost: int


async def count_all(conn: Connection, secrets: Secrets) -> list[Count]:
    """Return what hangs on which secret, by kind. Reads every row in batches, and writes nothing."""
    return [
        Count("signing keys", *await count_keys(conn, secrets)),
        *[await _count_seals(conn, secrets, kind) for kind in SEALED],
        await _count_hashes(conn, secrets),
    ]


async def _count_seals(conn: Connection, secrets: Secrets, kind: Sealed) -> Count:
    found: Counter[str] = Counter()
    newest = Secrets(secrets.current)
    async for key, sealed in _read_seals(conn, kind):
        for name, known in (("current", newest), ("previous", secrets)):
            try:
                unseal(known, kind.label, sealed, bound=kind.bind(key))
            except UnsealError:
                continue
            found[name] += 1
            break
        else:
            found["lost"] += 1
    return Count(kind.name, found["current"], found["previous"], found["lost"])


async def _read_seals(conn: Connection, kind: Sealed) -> AsyncIterator[tuple[Any, bytes]]:
    names = kind.names
    last = None
    while True:
        after = sql.SQL("true" if last is None else "{key} > %(last)s").format(**names)
        cursor = await conn.execute(
            sql.SQL(
                "SELECT {key}, {sealed} FROM {table} WHERE {counts} AND {after} ORDER BY {key} LIMIT %(limit)s"
            ).format(after=after, **names),
            {"last": last, "limit": BATCH},
        )
        rows = await cursor.fetchall()
        for key, sealed in rows:
            yield key, bytes(sealed)
        if len(rows) < BATCH:
            return
        last = rows[-1][0]


async def _count_hashes(conn: Connection, secrets: Secrets) -> Count:
    """Return how many password hashes have the pepper of which secret.

    A hash gets the current pepper when its user logs in; nothing else can give it one. Hashes of other systems have
    none and count as current, as do users without a password.
    """
    newest, peppers = secrets.peppers()
    found: Counter[str] = Counter()
    last = UUID(int=0)
    while True:
        cursor = await conn.execute(
            "SELECT id, password_hash FROM users WHERE id > %(last)s ORDER BY id LIMIT %(limit)s",
            {"last": last, "limit": BATCH},
        )
        rows = await cursor.fetchall()
        for _, stored in rows:
            pepper = read_pepper(stored)
            if pepper == newest or (
                pepper is None and (not has_password(stored) or is_migrated_hash(stored))
            ):
                found["current"] += 1
            else:
                found["previous" if pepper in peppers else "lost"] += 1
        if len(rows) < BATCH:
            return Count("password hashes", found["current"], found["previous"], found["lost"])
        last = rows[-1][0]
