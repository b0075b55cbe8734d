"""An operator changes REGSVC_SECRET_KEY."""

from __future__ import annotations

from pathlib import Path

import trio

from regsvc.postgres.connection import Connection
from tests.programs import run_program, serve_environ
from tests.services import PASSWORD, SECRET, run_test_service

NEW = "another secret of the tests, long enough"


async def test_after_a_rotation_log_in_works_without_the_old_secret(database: str, tmp_path: Path) -> None:
    async with run_test_service(database, tmp_path) as service:
        await service.confirm()
        await service.log_in()
    rotated = {"REGSVC_SECRET_KEY": NEW, "REGSVC_SECRET_KEY_PREVIOUS": SECRET}
    async with run_test_service(database, tmp_path, rotated) as service:
        await service.log_in()  # hashes the password with the new pepper
    async with run_test_service(database, tmp_path, {"REGSVC_SECRET_KEY": NEW}) as service:
        await service.log_in()


async def test_the_wrong_secret_ends_serve_and_check_with_78_and_its_name(
    database: str, tmp_path: Path
) -> None:
    async with run_program("serve", folder=tmp_path, environ=serve_environ(database, tmp_path)) as program:
        assert await program.stop() == 0
    wrong = serve_environ(database, tmp_path, secret_key=NEW)
    for arguments in (["serve"], ["serve", "--role", "api"], ["check"]):
        async with run_program(*arguments, folder=tmp_path, environ=wrong, ready=False) as program:
            with trio.fail_after(30):
                assert await program.process.wait() == 78
            assert "were sealed with another REGSVC_SECRET_KEY" in program.log()
            program.check_log()


async def test_a_secret_found_to_be_wrong_later_is_503_signing_keys_sealed(
    database: str, tmp_path: Path
) -> None:
    async with run_test_service(database, tmp_path) as service:
        await service.confirm()
    async with run_test_service(database, tmp_path) as service:
        # As if the database had been away at the start: it holds another service's keys now.
        await spoil_keys(database)
        answer = await service.client.get("/.well-known/jwks.json")
        assert (answer.status_code, answer.json()["code"]) == (503, "signing_keys_sealed")
        assert answer.headers["Retry-After"]
        answer = await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})
        assert (answer.status_code, answer.json()["code"]) == (503, "signing_keys_sealed")


async def spoil_keys(database: str) -> None:
    async with await Connection.connect(database) as conn:
        await conn.execute("UPDATE signing_keys SET sealed = sealed || 'x'")
