"""An operator makes, lists and revokes service tokens while the service runs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from regsvc.postgres.pool import Pool
from tests.services import SECRET, run_test_service
from tests.suite.commands import run_command

Done = subprocess.CompletedProcess[bytes]


async def tokens(database: str, *arguments: str, code: int = 0) -> Done:
    """Run a command to its end."""
    done = await run_command(
        "tokens", *arguments, environ={"REGSVC_DATABASE_URL": database, "REGSVC_SECRET_KEY": SECRET}
    )
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


async def test_a_token_works_from_its_making_until_it_is_revoked(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    made = await tokens(database, "create", "billing", "--scope", "users:read", "--scope", "audit:read")
    text = made.stdout.decode().strip()
    assert text.startswith("rgs_")
    assert text not in made.stderr.decode()  # where the log is
    (listed,) = json.loads((await tokens(database, "list", "--json")).stdout)["tokens"]
    assert (listed["name"], listed["scopes"]) == ("billing", ["audit:read", "users:read"])
    assert (listed["last_used_at"], listed["revoked_at"]) == (None, None)
    header = {"Authorization": f"Bearer {text}"}
    async with run_test_service(database, tmp_path) as service:
        assert (await service.client.get("/api/v1/users", headers=header)).status_code == 200
        await tokens(database, "revoke", listed["id"])
        assert (await service.client.get("/api/v1/users", headers=header)).status_code == 401
    shown = (await tokens(database, "list")).stdout.decode()
    assert "revoked" in shown
    assert text not in shown
    await tokens(database, "revoke", listed["id"], code=1)
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT event, actor, details->>'name' FROM audit_events ORDER BY id")
        assert await cursor.fetchall() == [
            ("service_token_created", "operator", "billing"),
            ("service_token_revoked", "operator", "billing"),
        ]


@pytest.mark.parametrize(
    "arguments",
    [
        ("create", "billing"),
        ("create", "billing", "--scope", "tokens:create"),
        ("create", " ", "--scope", "users:read"),
        ("create", "a\nb", "--scope", "users:read"),
        ("create", "x" * 101, "--scope", "users:read"),
        ("create", "billing", "--scope", "users:read", "--days", "0"),
        ("revoke", "no-id"),
        ("revoke", "0b6d1c1e-5a53-4f0c-8a51-3f1f9a1f0000"),
    ],
    ids=["no scope", "no such scope", "blank", "two lines", "long", "no days", "no id", "no such token"],
)
async def test_what_makes_no_sense_is_refused(database: str, pool: Pool, arguments: tuple[str, ...]) -> None:
    done = await tokens(database, *arguments, code=1)
    assert done.stdout == b""
    assert done.stderr
    async with pool.connection() as conn:
        assert await (await conn.execute("SELECT FROM service_tokens")).fetchall() == []
