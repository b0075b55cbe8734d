"""What ends a session in one process ends it in all of them."""

from __future__ import annotations

import sys
from pathlib import Path

import trio

from tests.programs import run_program, serve_environ, talk_to
from tests.services import PASSWORD, Service

NEW = PASSWORD + "!"


async def log_in(service: Service, password: str = PASSWORD) -> dict[str, str]:
    """Return the tokens of a new session, which are good."""
    answer = await service.post("/login", {"email": "ann@example.com", "password": password})
    tokens: dict[str, str] = answer.json()
    assert (await service.client.get("/api/v1/me", headers=bearer(tokens))).status_code == 200
    return tokens


def bearer(tokens: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def is_over(service: Service, tokens: dict[str, str]) -> bool:
    """Say whether neither of a session's tokens is good any more."""
    used = await service.client.get("/api/v1/me", headers=bearer(tokens))
    renewed = await service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]})
    return (used.status_code, renewed.status_code) == (401, 401)


async def call(service: Service, tokens: dict[str, str], method: str, path: str, body: object = None) -> None:
    answer = await service.client.request(method, f"/api/v1{path}", json=body, headers=bearer(tokens))
    assert answer.status_code == 204, answer.text


async def test_what_ends_a_session_ends_its_tokens_in_every_process_at_once(
    database: str, tmp_path: Path
) -> None:
    environ = serve_environ(database, tmp_path)

    async def disable() -> None:
        command = [sys.executable, "-m", "regsvc", "users", "disable", "ann@example.com"]
        await trio.run_process(command, env=first.environ, capture_stdout=True, capture_stderr=True)

    async with (
        run_program("serve", folder=tmp_path, environ=environ) as first,
        run_program("serve", "--role", "api", folder=tmp_path, environ=environ) as second,
        talk_to(first, tmp_path) as one,
        talk_to(second, tmp_path) as two,
    ):
        await one.confirm()
        for path in ("/logout", "/logout/all"):
            tokens = await log_in(two)
            await call(one, tokens, "POST", path)
            assert await is_over(two, tokens)

        here, there = await log_in(one), await log_in(two)
        shown = (await one.client.get("/api/v1/sessions", headers=bearer(here))).json()["sessions"]
        (elsewhere,) = [session["id"] for session in shown if not session["current"]]
        await call(one, here, "DELETE", f"/sessions/{elsewhere}")
        assert await is_over(two, there)

        there = await log_in(two)
        await call(one, here, "PUT", "/me/password", {"current_password": PASSWORD, "new_password": NEW})
        assert await is_over(two, there)
        assert not await is_over(two, here)

        there = await log_in(two, NEW)
        await disable()
        assert await is_over(two, there)
