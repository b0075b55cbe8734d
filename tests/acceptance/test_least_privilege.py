"""The rights that the operations page grants are enough for everything, on tables that came after them, too."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from structlog.testing import capture_logs

import regsvc.postgres
from regsvc.accounts.events.sinks import note_exchange
from regsvc.postgres.connection import Connection
from regsvc.postgres.migrate import migrate
from regsvc.postgres.pool import Pool
from regsvc.postgres.schema import check_rights
from tests.databases import name_database, run_sql
from tests.growth.flows import keep, live
from tests.growth.rows import fill
from tests.services import run_test_service

MIGRATIONS = Path(regsvc.postgres.__file__).parent / "migrations"
PAGE = Path(__file__).parents[2] / "docs" / "operations.md"
RELEASED = 21  # migrations of version 0.2.0
ROWS = 6_000  # that what people and operators do find what they look for


def read_grants(role: str) -> list[str]:
    """Return the statements of the page, for a role of the test's own."""
    (block,) = re.findall(r"```sql\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    text = block.replace("regsvc_app", role).replace("regsvc_owner", "regsvc")
    return [statement.strip() for statement in text.split(";") if statement.strip()]


@pytest.fixture
def role() -> str:
    """A name that no other test has: roles are of the whole server."""
    return f"role_{uuid4().hex}"


@pytest.fixture
def granted(postgres_server: str, role: str, tmp_path: Path) -> Iterator[str]:
    """The URI of a database, as a role that was granted its rights before the newest migrations."""
    name = f"granted_{uuid4().hex}"
    run_sql(postgres_server, f"CREATE DATABASE {name}")
    yield name_database(postgres_server, name).replace("regsvc@", f"{role}@")
    run_sql(postgres_server, f"DROP DATABASE {name} WITH (FORCE)", f"DROP ROLE {role}")


async def test_everything_works_with_the_rights_that_the_page_grants(
    granted: str, role: str, tmp_path: Path
) -> None:
    owner = granted.replace(f"{role}@", "regsvc@")
    released = tmp_path / "released"
    released.mkdir()
    for path in sorted(MIGRATIONS.glob("*.sql"))[:RELEASED]:
        shutil.copy(path, released)
    await migrate(owner, released)
    run_sql(owner, *read_grants(role))
    await migrate(owner)
    fill(owner, ROWS)
    pool = Pool(granted, application_name="regsvc test", limit=60)
    with capture_logs() as lines:
        async with await Connection.connect(granted) as conn:
            await check_rights(conn)
            await note_exchange(conn, "regsvc.events")  # from here on, events are written
        async with run_test_service(granted, tmp_path, {"REGSVC_RATE_LIMITS": "on"}) as service:
            await live(service, pool)
        await keep(pool)
    await pool.aclose()
    refused = [line for line in lines if "permission denied" in repr(line)]
    assert refused == []
    broken = [line for line in lines if line["event"] == "request answered" and line["status"] >= 500]
    assert broken == []
    assert sum(line["event"] == "request answered" for line in lines) > 100, "the log was seen"
