"""Prove that PostgreSQL does what `serve` needs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsvc.parts import make_secrets
from regsvc.postgres.connection import Connection
from regsvc.postgres.schema import check_schema
from regsvc.security.key_store import check_seals

if TYPE_CHECKING:
    from regsvc.checks.report import Report
    from regsvc.config.settings import Settings


async def check_database(settings: Settings, _: Report) -> None:
    """Connect, and look at the schema and the signing keys."""
    url = settings.database_url.get_secret_value()
    async with await Connection.connect(url, application_name="regsvc check") as conn:
        await check_schema(conn)
        if settings.role != "worker":
            await check_seals(conn, make_secrets(settings))
