"""What the released version stored is there after the migrations since, and is worked on by this one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
import trio

import regsvc.postgres
from regsvc.postgres.connection import Connection
from regsvc.postgres.migrate import migrate
from tests.databases import name_database, run_sql
from tests.services import run_test_service

MIGRATIONS = Path(regsvc.postgres.__file__).parent / "migrations"
RELEASED = 21  # migrations of version 0.2.0
COLUMNS = """
    SELECT table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
     WHERE table_schema = 'public' ORDER BY 1, 2"""


@pytest.fixture
def old(postgres_server: str) -> Iterator[str]:
    """The URI of a database with nothing in it."""
    name = f"old_{uuid4().hex}"
    run_sql(postgres_server, f"CREATE DATABASE {name}")
    yield name_database(postgres_server, name)
    run_sql(postgres_server, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def released(tmp_path: Path) -> Path:
    """The migrations of the released version."""
    folder = tmp_path / "released"
    folder.mkdir()
    for path in sorted(MIGRATIONS.glob("*.sql"))[:RELEASED]:
        shutil.copy(path, folder)
    return folder


async def test_the_migrations_since_hold_up_no_request_beside_a_long_reader(old: str, released: Path) -> None:
    """A backup has read every table; each write that comes meanwhile is done within the time of a request."""
    await migrate(old, released)
    with psycopg.connect(old) as connection:
        tables = [
            name
            for (name,) in connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ]
    longest, done = 0.0, trio.Event()

    async def write() -> None:
        nonlocal longest
        async with await Connection.connect(old) as writer:
            while not done.is_set():
                began = trio.current_time()
                await writer.execute(
                    "INSERT INTO users (id, email, email_key, name, password_hash)"
                    " VALUES (gen_random_uuid(), 'a', gen_random_uuid(), 'Ann', '!')"
                )
                await writer.execute("UPDATE mails SET attempts = attempts")
                longest = max(longest, trio.current_time() - began)
                await trio.sleep(0.01)

    with trio.fail_after(100):
        async with await Connection.connect(old) as reader, trio.open_nursery() as nursery:
            async with reader.transaction():
                for table in tables:
                    await reader.execute(f"SELECT FROM {table} LIMIT 1".encode())
                nursery.start_soon(write)
                with trio.move_on_after(3) as waiting:
                    await migrate(old)
                assert waiting.cancelled_caught, (
                    "the reader is in the way of the first migration that changes a table"
                )
            await migrate(old)
            done.set()
    assert longest < 1.4  # seconds that a request has


async def test_data_of_the_released_version_outlives_the_migrations_and_its_mail_is_sent(
    old: str, database: str, released: Path, tmp_path: Path
) -> None:
    assert len(await migrate(old, released)) == RELEASED
    with psycopg.connect(old, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO users (id, email, email_key, name, password_hash)"
            " VALUES (gen_random_uuid(), 'old@example.com', 'old@example.com', 'Old', '!')"
        )
        connection.execute(
            "INSERT INTO sessions (id, user_id, origin, client, expires_at)"
            " SELECT gen_random_uuid(), id, '192.0.2.0/24', 'curl', now() + interval '1 day' FROM users"
        )
        for address in ("ann@example.com", "old@example.com"):
            connection.execute(
                "WITH r AS (INSERT INTO registrations"
                " (id, email, email_key, name, locale, password_hash, origin, client)"
                " VALUES (gen_random_uuid(), %(email)s, %(email)s, 'Ann', 'en', 'a hash', '192.0.2.0/24', 'curl')"
                " RETURNING id)"
                " INSERT INTO mails (id, registration_id, kind) SELECT gen_random_uuid(), id, 'signup' FROM r",
                {"email": address},
            )
    assert len(await migrate(old)) == len(list(MIGRATIONS.glob("*.sql"))) - RELEASED
    with psycopg.connect(old) as migrated, psycopg.connect(database) as fresh:
        assert migrated.execute(COLUMNS).fetchall() == fresh.execute(COLUMNS).fetchall()
        assert migrated.execute(
            "SELECT count(*) FROM users JOIN sessions ON user_id = users.id"
        ).fetchone() == (1,)
    async with run_test_service(old, tmp_path) as service:
        mail = await service.wait_mail("ann@example.com")
        answer = await service.post("/confirm-email", {"token": mail.token})
        assert answer.status_code == 200, answer.text
        assert "already" in (await service.wait_mail("old@example.com")).message["Subject"]
