"""Administrators of a running service, for tests of what they may do."""

from __future__ import annotations

from typing import Any

from regsvc.postgres.pool import Pool
from tests.services import Service

ADMIN = "admin@example.com"


async def log_in_admin(service: Service, pool: Pool) -> dict[str, str]:
    """Confirm an administrator and return the header of their requests."""
    await service.confirm(ADMIN)
    async with pool.connection() as conn:
        await conn.execute("UPDATE users SET role = 'admin' WHERE email = %s", [ADMIN])
    return await service.log_in(ADMIN)


async def get(service: Service, admin: dict[str, str], path: str, **params: str) -> Any:
    """Return what a call under `/api/v1` answers with 200."""
    answer = await service.client.get(f"/api/v1{path}", headers=admin, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()
