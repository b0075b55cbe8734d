"""Solutions of challenges, each of which counts once.

They are kept among the limits, as long as they could be used again.
"""

from __future__ import annotations

import hashlib
from datetime import timedelta

from regsvc.postgres.connection import Connection
from regsvc.security.challenge import Solved

_MARGIN = timedelta(minutes=5)  # between the clocks of this process and the database


async def spend_solution(conn: Connection, solved: Solved) -> bool:
    """Note that a solution was used, and return whether this is its first use."""
    cursor = await conn.execute(
        "INSERT INTO throttles (key, free_at) VALUES (%(key)s, %(until)s) ON CONFLICT (key) DO NOTHING",
        {
            "key": hashlib.sha256(b"challenge " + solved.signature.encode()).digest(),
            "until": solved.expires_at + _MARGIN,
        },
    )
    return cursor.rowcount > 0
