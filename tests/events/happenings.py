"""What happens to users and registrations, straight in the database: the triggers tell of any statement."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from ipaddress import ip_network
from typing import Any
from uuid import UUID, uuid4

import trio

from regsvc.accounts.audit.record import By
from regsvc.accounts.events.webhooks import add_webhook
from regsvc.consumer.events.webhooks import WebhookSender, run_webhooks
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets

SECRETS = Secrets(b"a secret of the tests that is long enough")
SOURCE = "https://accounts.example.org"
LOOPBACK = (ip_network("127.0.0.0/8"),)
OPERATOR = By("operator")


async def add_user(pool: Pool, name: str = "Ann") -> UUID:
    """Insert a user."""
    user_id = uuid4()
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO users (id, email, email_key, name, password_hash) VALUES (%s, %s, %s, %s, '!')",
            (user_id, f"{user_id}@example.com", f"{user_id}@example.com", name),
        )
    return user_id


async def change_user(pool: Pool, user_id: UUID, **values: object) -> None:
    """Change columns of a user."""
    sets = ", ".join(f"{name} = %({name})s" for name in values)
    async with pool.connection() as conn:
        await conn.execute(f"UPDATE users SET {sets} WHERE id = %(id)s", {**values, "id": user_id})


async def add_receiver(pool: Pool, url: str, types: Sequence[str] | None = None) -> tuple[UUID, str]:
    """Add a webhook; return its id and secret."""
    async with pool.transaction() as conn:
        return await add_webhook(conn, SECRETS, "tests", url, types=types, by=OPERATOR)


async def read_rows(pool: Pool, statement: str, *params: object) -> list[tuple[Any, ...]]:
    """Return the rows of a statement."""
    async with pool.connection() as conn:
        cursor = await conn.execute(statement, params)
        return await cursor.fetchall()


async def rewind(pool: Pool, by: str) -> None:
    """Let time pass for every open delivery, and wake who sends them."""
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE event_deliveries SET due_at = due_at - %s::interval WHERE due_at IS NOT NULL", (by,)
        )
        await conn.execute("SELECT pg_notify('event_due', '')")


@asynccontextmanager
async def sending(pool: Pool, conninfo: str, **options: Any) -> AsyncIterator[None]:
    """Send to webhooks as long as the block lasts; those on this machine may be reached."""
    sender = WebhookSender(SECRETS, SOURCE, **{"allowed": LOOPBACK, **options})
    stopping = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(
            partial(run_webhooks, pool=pool, conninfo=conninfo, sender=sender, stopping=stopping)
        )
        yield
        stopping.set()
