"""What holds in a session is ours, whatever the role says."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest

from regsvc.errors import DatabaseUnavailableError
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.postgres.session import HURRIED
from tests.databases import run_sql

if TYPE_CHECKING:
    from collections.abc import Iterator

# What an operator, a host or another program may have left in a role, and what it would do to us.
INHERITED = {
    "serializable": "default_transaction_isolation = 'serializable'",
    "repeatable read": "default_transaction_isolation = 'repeatable read'",
    "deferrable": "default_transaction_deferrable = on",
    "latin1": "client_encoding = 'LATIN1'",
    "german dates": "DateStyle = 'German, DMY'",
    "sql dates": "DateStyle = 'SQL, MDY'",
    "verbose intervals": "IntervalStyle = 'postgres_verbose'",
    "another zone": "TimeZone = 'Asia/Kathmandu'",
    "no zone": "TimeZone = '<-03>+03'",
    "statement timeout": "statement_timeout = 1",
    "lock timeout": "lock_timeout = 1",
    "idle in transaction": "idle_in_transaction_session_timeout = 1",
    "idle": "idle_session_timeout = 2000",
    "escaped bytes": "bytea_output = 'escape'",
    "rounded floats": "extra_float_digits = -15",
    "backslashes": "standard_conforming_strings = off",
    "null arrays": "array_nulls = off",
    "null equals": "transform_null_equals = on",
    "silent": "client_min_messages = 'error'",
}


@pytest.fixture
def role(database: str) -> Iterator[tuple[str, str]]:
    """A role of the test's own, and the conninfo by which it logs in."""
    name = f"role_{uuid4().hex}"
    run_sql(database, f"CREATE ROLE {name} LOGIN SUPERUSER")
    yield name, database.replace("regsvc@", f"{name}@")
    run_sql(database, f"DROP ROLE {name}")


@pytest.mark.parametrize("setting", INHERITED.values(), ids=INHERITED)
async def test_nothing_is_inherited_from_a_role(role: tuple[str, str], setting: str) -> None:
    name, conninfo = role
    run_sql(conninfo, f"ALTER ROLE {name} SET {setting}")
    pool = Pool(conninfo, size=1, wait=10, limit=10, application_name="regsvc test")
    async with pool.transaction() as conn:
        cursor = await conn.execute(
            r"""
            SELECT 'Łukasz'::text, '2026-11-27 12:00+00'::timestamptz, interval '90 s', 'a\b', '\x00ff'::bytea,
                   (0.1::float8 + 0.2::float8)::text, '{NULL}'::text[] IS NOT NULL, (NULL::int = NULL) IS NULL,
                   current_setting('transaction_isolation'), pg_sleep(0.005) IS NOT NULL,
                   current_setting('idle_session_timeout')
            """
        )
        row = await cursor.fetchone()
        assert row is not None
        text, moment, interval, backslash, data, number, *rest = row
        assert (text, backslash, data) == ("Łukasz", "a\\b", b"\x00\xff")
        assert (moment.isoformat(), interval.total_seconds()) == ("2026-11-27T12:00:00+00:00", 90)
        assert number == "0.30000000000000004"
        assert rest == [True, True, "read committed", True, "0"]
        shown = await (await conn.execute("SHOW lock_timeout")).fetchone()
        assert shown == (f"{HURRIED.lock // 1000}s",)
    await pool.aclose()


async def test_a_role_that_may_only_read_is_told_apart(role: tuple[str, str]) -> None:
    """Some hosts set this when the disk is nearly full: it is heeded, and not set aside."""
    name, conninfo = role
    run_sql(conninfo, f"ALTER ROLE {name} SET default_transaction_read_only = on")
    pool = Pool(conninfo, application_name="regsvc test")
    with pytest.raises(DatabaseUnavailableError):
        async with pool.connection() as conn:
            await conn.execute("DELETE FROM mails")
    assert pool.writes_refused
    await pool.aclose()


@pytest.mark.parametrize("condition", ["query_canceled", "lock_not_available"])
async def test_a_statement_that_the_server_ends_may_be_tried_again(pool: Pool, condition: str) -> None:
    with pytest.raises(DatabaseUnavailableError) as caught:
        async with pool.connection() as conn:
            await conn.execute(f"DO $$ BEGIN RAISE {condition}; END $$".encode())
    assert caught.value.retry_after == 1


async def test_the_server_ends_the_transaction_of_a_process_that_says_nothing(database: str) -> None:
    async with await Connection.connect(database) as conn:
        cursor = await conn.execute(
            "SELECT name, setting::integer FROM pg_settings WHERE name IN"
            " ('idle_in_transaction_session_timeout', 'lock_timeout', 'statement_timeout')"
        )
        limits: dict[str, int] = dict(await cursor.fetchall())
    assert limits == {
        "idle_in_transaction_session_timeout": HURRIED.idle,
        "lock_timeout": HURRIED.lock,
        "statement_timeout": HURRIED.statement,
    }
    # The others' mails have to be on their way within ten seconds.
    assert 0 < HURRIED.idle < 10_000
