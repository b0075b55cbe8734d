"""What more rows cost: `make growth`. Prints the figures of docs/performance.md and fails if one has grown."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import pytest
import trio

from regsvc.accounts.sessions.session import purge_legacy_tokens, purge_sessions
from regsvc.consumer import janitor
from regsvc.postgres.connection import Connection
from regsvc.postgres.embedded import EmbeddedPostgres
from regsvc.postgres.migrate import migrate
from regsvc.postgres.pool import Pool
from tests.databases import _SETTINGS, _TEMPLATE, make_short_directory, name_database, run_sql
from tests.growth.recorder import list_places
from tests.growth.test_growth import FEW, MANY, find_grown, measure

SESSIONS, TOKENS = 600, 4320  # a session of 30 days that is refreshed every ten minutes


async def main() -> int:
    """Measure, print, and return how many figures are not as promised."""
    with make_short_directory() as root, make_short_directory() as directory:
        async with EmbeddedPostgres(directory, root_dir=root, settings=_SETTINGS) as server:
            run_sql(server.conninfo, f"CREATE DATABASE {_TEMPLATE}")
            await migrate(name_database(server.conninfo, _TEMPLATE))
            failures = await show_statements(server.conninfo)
            failures += await show_janitor(server.conninfo)
    return failures


async def show_statements(server: str) -> int:
    """Compare what every statement reads in a small and in a large database."""
    with tempfile.TemporaryDirectory() as folder:
        few = await measure(server, FEW, Path(folder, "few"), pytest.MonkeyPatch())
        many = await measure(server, MANY, Path(folder, "many"), pytest.MonkeyPatch())
    grown = find_grown(few, many)
    print(f"{'blocks read, at most':64}{FEW:>10,}{MANY:>10,} rows")  # noqa: T201
    for place, blocks in sorted(many.blocks.items(), key=lambda item: -item[1])[:12]:
        print(f"{place:64}{few.blocks.get(place, 0):>10,}{blocks:>10,}")  # noqa: T201
    print(  # noqa: T201
        f"{len(many.blocks)} of {len(set(list_places().values()))} statements; {len(grown)} have grown"
    )
    return len(grown)


async def show_janitor(server: str) -> int:
    """Have the janitor end sessions that kept a row for every refresh, as they did until 0.2."""
    run_sql(server, f"CREATE DATABASE janitor TEMPLATE {_TEMPLATE}")
    database = name_database(server, "janitor")
    run_sql(
        database,
        "INSERT INTO users (id, email, email_key, name, password_hash) VALUES (md5('u')::uuid, 'a', 'a', 'A', 'x')",
        f"""
        INSERT INTO sessions (id, user_id, origin, client, expires_at)
        SELECT md5(n::text)::uuid, md5('u')::uuid, 'o', 'c', now() FROM generate_series(1, {SESSIONS}) n
        """,
        f"""
        INSERT INTO refresh_tokens (token_hash, session_id, expires_at)
        SELECT sha256((n || ' ' || t)::bytea), md5(n::text)::uuid, now()
          FROM generate_series(1, {SESSIONS}) n, generate_series(1, {TOKENS}) t
        """,
    )
    pool, stopping, began = Pool(database, application_name="regsvc growth"), trio.Event(), time.monotonic()

    async def look(conn: Connection, limit: int) -> int:
        assert limit
        if await (await conn.execute("SELECT FROM sessions LIMIT 1")).fetchone() is None:
            stopping.set()
        return 0

    with trio.move_on_after(600) as scope:
        await janitor.run_janitor(
            pool=pool,
            stopping=stopping,
            chores=[("tokens", purge_legacy_tokens), ("sessions", purge_sessions), ("look", look)],
        )
    await pool.aclose()
    took = time.monotonic() - began
    print(f"janitor: {SESSIONS} sessions with {SESSIONS * TOKENS:,} tokens ended in {took:.0f} s")  # noqa: T201
    return int(scope.cancelled_caught)


sys.exit(1 if trio.run(main) else 0)
