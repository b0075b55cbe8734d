"""Using up limits for tests, which cannot be as fast as limits come back."""

from __future__ import annotations

from regsvc.accounts.limits.rate_limit import Limit, demand
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets
from tests.services import SECRET


async def use_up(pool: Pool, limit: Limit, *whom: str) -> None:
    """Leave nothing of a limit to somebody for as long as one window takes."""
    key = demand(Secrets(SECRET.encode()), limit, *whom).key
    async with pool.connection() as conn:
        await conn.execute(
            """
            INSERT INTO throttles (key, free_at) VALUES (%(key)s, now() + 2 * %(window)s * interval '1 second')
            ON CONFLICT (key) DO UPDATE SET free_at = excluded.free_at
            """,
            {"key": key, "window": limit.seconds},
        )
