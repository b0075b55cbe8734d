"""How long access tokens and signing keys live. No cryptography, so that a worker, which signs nothing, loads none."""

from __future__ import annotations

from datetime import timedelta

from regsvc.postgres.connection import Connection

ACCESS_TOKEN_LIFE = timedelta(minutes=10)
LEEWAY = timedelta(seconds=30)
STALE = timedelta(minutes=2)  # how long a process signs with and publishes what it read before
ANNOUNCED = timedelta(minutes=10) + STALE  # before a key signs: clients cache published keys for ten minutes
SERVED = ACCESS_TOKEN_LIFE + LEEWAY + STALE  # after a key stops signing


async def purge_keys(conn: Connection, limit: int) -> int:
    """Delete keys whose tokens have all expired, with their private halves, and return how many."""
    cursor = await conn.execute(
        """
        DELETE FROM signing_keys
         WHERE kid IN (SELECT kid FROM signing_keys WHERE retired_at <= now() - %(served)s
                        LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"served": SERVED, "limit": limit},
    )
    return cursor.rowcount
