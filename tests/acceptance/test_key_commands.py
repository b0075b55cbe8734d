"""An operator rotates the signing keys while processes run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

from regsvc.postgres.pool import Pool
from tests.http.administrators import get, log_in_admin
from tests.programs import run_program, serve_environ, talk_to
from tests.services import PASSWORD, SECRET, Service
from tests.suite.commands import run_command

Done = subprocess.CompletedProcess[bytes]


async def regsvc(database: str, *arguments: str, secret: str = SECRET, code: int = 0) -> Done:
    """Run a command to its end."""
    environ = {"REGSVC_DATABASE_URL": database, "REGSVC_SECRET_KEY": secret}
    done = await run_command("keys", *arguments, environ=environ)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


async def keys(database: str, *arguments: str) -> dict[str, str]:
    """Return the state of each key as a command shows it."""
    shown: dict[str, Any] = json.loads((await regsvc(database, *arguments, "--json")).stdout)
    return {key["kid"]: key["state"] for key in shown["keys"]}


async def log_in(service: Service) -> dict[str, str]:
    answer = await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_nobody_is_logged_out_by_a_rotation_while_processes_run(database: str, tmp_path: Path) -> None:
    environ = serve_environ(database, tmp_path)
    async with (
        run_program("serve", folder=tmp_path, environ=environ) as first,
        run_program("serve", "--role", "api", folder=tmp_path, environ=environ) as second,
        talk_to(first, tmp_path) as one,
        talk_to(second, tmp_path) as two,
    ):
        await one.confirm()
        tokens = [await log_in(one), await log_in(two)]
        (old,) = await keys(database, "list")
        after = await keys(database, "rotate", "--now")
        (new,) = after.keys() - {old}
        assert after == {new: "signing", old: "verifying"}
        async with (
            run_program("serve", "--role", "api", folder=tmp_path, environ=environ) as third,
            talk_to(third, tmp_path) as three,
        ):
            tokens.append(await log_in(three))  # signed with a key that the others have not read yet
            for service in (one, two, three):
                for token in tokens:
                    answer = await service.client.get("/api/v1/me", headers=token)
                    assert answer.status_code == 200, answer.text
                published = (await service.client.get("/.well-known/jwks.json")).json()["keys"]
                assert {key["kid"] for key in published} == {old, new}
        for program in (first, second):
            program.check_log()


async def test_keys_are_listed_announced_and_withdrawn(database: str, pool: Pool) -> None:
    assert await keys(database, "list") == {}
    (only,) = await keys(database, "rotate", "--now")
    assert b"This key is signing" in (await regsvc(database, "retire", only, code=1)).stderr
    assert b"No signing key has this id" in (await regsvc(database, "retire", "x", code=1)).stderr
    after = await keys(database, "rotate")
    (new,) = after.keys() - {only}
    assert after == {new: "announced", only: "signing"}
    said = (await regsvc(database, "list")).stdout.decode().splitlines()
    assert [line.split()[:3] for line in said] == [[new, "EdDSA", "announced"], [only, "EdDSA", "signing"]]
    assert await keys(database, "retire", new) == {only: "signing"}
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT event, details->>'kid' FROM audit_events ORDER BY id")
        assert await cursor.fetchall() == [
            ("signing_key_added", only),
            ("signing_key_added", new),
            ("signing_key_withdrawn", new),
        ]


async def test_administrators_see_the_keys_and_make_another(service: Service, pool: Pool) -> None:
    admin = await log_in_admin(service, pool)
    shown = await get(service, admin, "/admin/keys")
    assert [key["state"] for key in shown["keys"]] == ["signing"]
    answer = await service.client.post("/api/v1/admin/keys/rotate", headers=admin)
    assert [key["state"] for key in answer.json()["keys"]] == ["announced", "signing"]
    assert answer.json() == await get(service, admin, "/admin/keys")
    assert json.loads(
        (await regsvc(str(service.settings.database_url.get_secret_value()), "list", "--json")).stdout
    ) == (answer.json())
    await service.confirm()
    user = await service.log_in()
    for headers, status in ((user, 403), ({}, 401)):
        for method, path in (("GET", "/api/v1/admin/keys"), ("POST", "/api/v1/admin/keys/rotate")):
            assert (await service.client.request(method, path, headers=headers)).status_code == status


async def test_no_key_is_made_with_another_secret_than_the_service_has(database: str) -> None:
    await regsvc(database, "rotate", "--now")
    before = await keys(database, "list")
    done = await regsvc(database, "rotate", "--now", secret=token_urlsafe(48), code=78)
    assert b"REGSVC_SECRET_KEY" in done.stderr
    assert await keys(database, "list") == before
