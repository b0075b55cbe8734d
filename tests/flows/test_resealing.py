"""Everything that is sealed outlives two rotations of the secret, and is counted before one is lost."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from regsvc import program
from regsvc.accounts.audit.record import By
from regsvc.accounts.deliveries import suppression
from regsvc.accounts.events.sinks import list_receivers
from regsvc.accounts.events.webhooks import add_webhook, rotate_webhook
from regsvc.accounts.factors import totp
from regsvc.checks.database import check_database
from regsvc.checks.report import Report
from regsvc.config import loading
from regsvc.config.settings import Settings
from regsvc.consumer.token import StoredToken, store
from regsvc.flows.resealing import SEALED, find_old, reseal_all
from regsvc.flows.verification import count_all
from regsvc.mail.smtp.access_token import AccessToken
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets
from tests.factors.people import add_owner

BY = By("operator")
FIRST, SECOND, THIRD = (f"secret {number} of the tests, long enough".encode() for number in range(3))
NAMES = {kind.name for kind in SEALED}
SIGNING = ("signing_keys", "sealed")  # which the key store seals again at each start


async def seal_all(pool: Pool, secrets: Secrets) -> None:
    """Have a secret seal one value of every kind."""
    owner = await add_owner(pool, secrets)
    async with pool.transaction() as conn:
        await suppression.note_complaint(conn, secrets, "ann@example.com", at=datetime.now(UTC))
        await totp.begin_setup(conn, secrets, owner.user_id, owner.user_id)
        webhook, _ = await add_webhook(conn, secrets, "crm", "https://example.org/hook", types=None, by=BY)
        await rotate_webhook(conn, secrets, webhook, BY)
        await conn.execute("INSERT INTO smtp_tokens (id) VALUES (1) ON CONFLICT DO NOTHING")
        await store(conn, secrets, AccessToken("a token", 3600.0))


async def counts(conn: Connection, secrets: Secrets) -> dict[str, tuple[int, int, int]]:
    found = await count_all(conn, secrets)
    return {each.name: (each.current, each.previous, each.lost) for each in found if each.name in NAMES}


def all_of(*count: int) -> dict[str, tuple[int, ...]]:
    return dict.fromkeys(NAMES, count)


async def test_every_kind_outlives_two_rotations(pool: Pool) -> None:
    await seal_all(pool, Secrets(FIRST))
    async with pool.connection() as conn:
        for secrets in (Secrets(SECOND, FIRST), Secrets(THIRD, SECOND)):
            assert set(await find_old(conn, secrets)) == NAMES
            assert await counts(conn, secrets) == all_of(0, 1, 0)
            assert await counts(conn, Secrets(secrets.current)) == all_of(0, 0, 1)
            resealed = await reseal_all(conn, secrets, BY)
            assert {name: (each.sealed, each.lost) for name, each in resealed.items()} == all_of(1, 0)
            assert await find_old(conn, secrets) == []
            assert await counts(conn, Secrets(secrets.current)) == all_of(1, 0, 0)
        (receiver,) = await list_receivers(conn)
        assert len(set(receiver.open_secrets(Secrets(THIRD)))) == 2  # both sign, a rotation of theirs ago
    assert await StoredToken(pool, Secrets(THIRD)).get() == "a token"


async def test_a_webhook_secret_that_signs_no_more_is_not_missed(pool: Pool) -> None:
    await seal_all(pool, Secrets(FIRST))
    async with pool.connection() as conn:
        await conn.execute("UPDATE event_sinks SET previous_until = now()")
        assert set(await find_old(conn, Secrets(SECOND))) == NAMES - {"replaced webhook secrets"}
        assert (await counts(conn, Secrets(SECOND)))["replaced webhook secrets"] == (0, 0, 0)


async def test_every_sealed_column_is_looked_after(pool: Pool) -> None:
    """A new table with sealed values has an entry, or a rotation of the secret loses them."""
    async with pool.connection() as conn:
        cursor = await conn.execute(
            """
            SELECT c.table_name::text, c.column_name::text FROM information_schema.columns c
             WHERE c.table_schema = 'public' AND c.data_type = 'bytea'
               AND (c.column_name LIKE '%sealed%'
                    OR EXISTS (SELECT FROM information_schema.columns o
                                WHERE o.table_schema = 'public' AND o.table_name = c.table_name
                                  AND o.column_name = c.column_name || '_with'))
            """
        )
        found = {(table, column) for table, column in await cursor.fetchall()}
    assert found == {(kind.table, kind.column) for kind in SEALED} | {SIGNING}


def settings_of(database: str, current: bytes, previous: bytes | None) -> Settings:
    environ = {
        "REGSVC_DATABASE_URL": database,
        "REGSVC_SECRET_KEY": current.decode(),
        "REGSVC_SMTP_URL": "maildir:/nowhere",
        "REGSVC_MAIL_FROM": "regsvc <no-reply@example.org>",
        "REGSVC_PUBLIC_URL": "http://127.0.0.1:8080",
        **({} if previous is None else {"REGSVC_SECRET_KEY_PREVIOUS": previous.decode()}),
    }
    return loading.load(environ, mode="dev", role="worker")


@pytest.mark.parametrize("previous", [FIRST, None], ids=["kept", "gone"])
async def test_serve_warns_and_check_says_what_hangs_on_another_secret(
    database: str, pool: Pool, previous: bytes | None
) -> None:
    settings = settings_of(database, SECOND, previous)
    with capture_logs() as quiet:
        await program.check_database(settings)
    assert quiet == []
    await seal_all(pool, Secrets(FIRST))
    with capture_logs() as said:
        await program.check_database(settings)
    (warning,) = said
    assert (warning["event"], warning["log_level"]) == ("sealed with another secret", "warning")
    assert set(warning["kinds"]) == NAMES
    report = Report("postgresql")
    await check_database(settings, report)
    (note,) = report.notes
    assert ("need REGSVC_SECRET_KEY_PREVIOUS" in note) == (previous is not None)
    assert all(name in note for name in NAMES)
