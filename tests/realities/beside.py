"""The released version on a database that holds everything new: it serves on, and mails nothing wrong.

    make upgrade

This version makes users, attempts and mails of every kind that 0.2.0 does not know; then 0.2.0's API and worker have
the database for themselves, as in a roll-back. What 0.2.0 cannot keep is in docs/operations.md, and asserted here, too.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from tests.databases import read_sql, run_sql
from tests.http.factor_calls import code_of
from tests.http.passkey_calls import confirm_with_handle, log_in, sign_up
from tests.passkeys import Authenticator
from tests.programs import run_program, serve_environ, talk_to
from tests.realities.upgrade import (  # noqa: F401 - fixtures
    empty_database,
    migrate,
    released,
)
from tests.services import PASSWORD, Service, read_all_mails
from tests.suite.ports import take_port

pytestmark = pytest.mark.timeout(900)

ADMIN, PLAIN, APP, KEY, PROVIDER, GUEST, NEWCOMER, INVITED = (
    f"{name}@example.com" for name in ("admin", "ann", "tom", "pia", "ida", "gus", "pat", "ivy")
)
NEW = "a password chosen by a mailed link"
NEW_KINDS = ("security", "login", "invitation")
AWAY = {"X-Forwarded-For": "198.51.100.9"}


@dataclass
class Deployment:
    """One place, at which the versions follow each other.

    Args:
        database: of all of them.
        folder: for their mails and logs.
        port: of their API: passkeys belong to the origin.
    """

    database: str
    folder: Path
    port: int

    @property
    def environ(self) -> dict[str, str]:
        """The settings, which 0.2.0 knows as well."""
        url = f"http://127.0.0.1:{self.port}"
        proxies = {"trusted_proxies": "127.0.0.1/32"}
        return serve_environ(self.database, self.folder, public_url=url, **proxies)

    @asynccontextmanager
    async def running(self, python: str, *roles: str) -> AsyncIterator[Service]:
        """Run an API and perhaps a worker. They end without a traceback."""
        async with trio.open_nursery() as nursery:
            ended = [trio.Event() for _ in roles]
            stop = trio.Event()

            async def run(role: str, done: trio.Event, *, task_status: trio.TaskStatus[Any]) -> None:
                port = self.port if role == "api" else None
                async with run_program(
                    "serve",
                    "--role",
                    role,
                    folder=self.folder,
                    environ=self.environ,
                    port=port,
                    python=python,
                ) as program:
                    task_status.started(program)
                    await stop.wait()
                    assert await program.stop(seconds=40) == 0, program.log()
                program.check_log()
                done.set()

            programs = [await nursery.start(run, role, done) for role, done in zip(roles, ended, strict=True)]
            async with talk_to(programs[0], self.folder) as service:
                yield service
            stop.set()
            for each in ended:
                await each.wait()


@pytest.fixture
def deployment(empty_database: str, tmp_path: Path) -> Deployment:  # noqa: F811 - the fixture
    found = Deployment(empty_database, tmp_path, take_port())
    migrate(sys.executable, found.environ)
    return found


@dataclass
class People:
    """What the users of this version have at hand."""

    passkey: Authenticator
    newcomer: Authenticator
    secret: str  # of an app
    tokens: dict[str, Any]
    newcomer_link: str


async def settle(deployment: Deployment) -> People:
    """Have people of every kind join, with a worker; then have every kind of mail wait, without one."""
    async with deployment.running(sys.executable, "api", "worker") as service:
        passkey, newcomer = Authenticator(service.url), Authenticator(service.url)
        for address in (ADMIN, PLAIN, APP, PROVIDER, GUEST):
            await service.confirm(address)
        await confirm_with_handle(service, KEY, await sign_up(service, KEY, passkey))
        await sign_up(service, NEWCOMER, newcomer)
        link = (await service.wait_mail(NEWCOMER)).token
        bearer = await service.log_in(APP)
        await service.prove(bearer)
        secret = (await service.post("/me/totp", {}, bearer)).json()["secret"]
        confirmed = await service.post("/me/totp/confirm", {"code": code_of(secret)}, bearer)
        assert confirmed.status_code == 200, confirmed.text
        tokens = (await service.post("/login", {"email": PLAIN, "password": PASSWORD})).json()
    run_sql(
        deployment.database,
        f"UPDATE users SET role = 'admin' WHERE email = '{ADMIN}'",
        f"UPDATE users SET password_hash = '!none' WHERE email IN ('{PROVIDER}', '{GUEST}')",
        f"""
        INSERT INTO identities (id, user_id, provider, issuer, subject, email)
        SELECT gen_random_uuid(), id, 'own', 'https://id.example', 'ida', email FROM users WHERE email = '{PROVIDER}'
        """,
        "INSERT INTO event_sinks (kind, name, url, sealed, sealed_with)"
        " VALUES ('webhook', 'crm', 'https://hooks.example/', 'x', 'x')",
    )
    async with deployment.running(sys.executable, "api") as service:
        assert (await service.post("/login/code", {"email": GUEST})).status_code == 202
        await service.post("/login", {"email": PLAIN, "password": PASSWORD}, AWAY)  # tells of a new place
        admin = await service.log_in(ADMIN)
        await service.prove(admin)
        invited = await service.post("/admin/invitations", {"email": INVITED}, admin)
        assert invited.status_code == 201, invited.text
    waiting = read_sql(deployment.database, "SELECT DISTINCT kind FROM mails WHERE state = 'queued'")
    assert {kind for (kind,) in waiting} >= set(NEW_KINDS)
    return People(passkey, newcomer, secret, tokens, link)


async def status_of(service: Service, path: str, body: object, bearer: dict[str, str] | None = None) -> int:
    return (await service.post(path, body, bearer)).status_code


def bearer_of(answer: httpx.Response) -> dict[str, str]:
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"}


async def test_the_released_version_serves_on_what_it_does_not_know(
    released: str,  # noqa: F811 - the fixture
    deployment: Deployment,
) -> None:
    people = await settle(deployment)
    known = len(read_all_mails(deployment.folder / "mail"))
    async with deployment.running(released, "api", "worker") as service:
        # Sessions and tokens of this version go on.
        me = await service.client.get("/api/v1/me", headers=bearer_of_tokens(people.tokens))
        assert me.status_code == 200, me.text
        refreshed = {"refresh_token": people.tokens["refresh_token"]}
        assert await status_of(service, "/token/refresh", refreshed) == 200
        # Users without a password: no password lets anybody in, and a reset sets one.
        for address in (KEY, PROVIDER, GUEST):
            for typed in (PASSWORD, "!none", ""):
                assert await status_of(service, "/login", {"email": address, "password": typed}) in {400, 401}
        assert await status_of(service, "/password/forgot", {"email": PROVIDER}) == 202
        reset = {"token": await service.wait_link("reset", PROVIDER), "password": NEW}
        assert await status_of(service, "/password/reset", reset) == 204
        assert await status_of(service, "/login", {"email": PROVIDER, "password": NEW}) == 200
        # Its limit: it asks for no second factor, and takes the bare link of a sign-up with a passkey.
        tom = bearer_of(await service.post("/login", {"email": APP, "password": PASSWORD}))
        assert await status_of(service, "/confirm-email", {"token": people.newcomer_link}) == 200
        # It knows none of the new calls, and takes no service token for a user's.
        for path in ("/login/code", "/login/passkey", "/login/second-factor", "/admin/invitations"):
            assert await status_of(service, path, {}) in {404, 405}
        stranger = {"Authorization": "Bearer rgs_" + "A" * 43}
        assert (await service.client.get("/api/v1/users", headers=stranger)).status_code == 401
        # Its worker cancels the mails that it does not know, and sends the others.
        await service.sign_up("new@example.com")
        await service.wait_mail("new@example.com")
        unknown = (
            "SELECT count(*) FROM mails WHERE kind = ANY('{security,login,invitation}') AND state = 'queued'"
        )
        with trio.fail_after(60):
            while read_sql(deployment.database, unknown) != [(0,)]:  # noqa: ASYNC110 - another process
                await trio.sleep(0.1)
        gone = await service.client.request("DELETE", "/api/v1/me", json={"password": PASSWORD}, headers=tom)
        assert gone.status_code == 204, gone.text
        assert read_sql(deployment.database, "SELECT count(*) FROM totp_authenticators") == [(0,)]
        told = {mail.message["To"] for mail in read_all_mails(deployment.folder / "mail")[known:]}
    assert told == {PROVIDER, "new@example.com"}
    async with deployment.running(sys.executable, "api", "worker") as service:
        # This version takes them up again, and nobody got in by what 0.2.0 did.
        for address, words in ((INVITED, "/invite#t="), (GUEST, "log in"), (PLAIN, "/panic#t=")):
            with trio.fail_after(60):
                while not any(words in mail.text for mail in service.mails(address)):  # noqa: ASYNC110 - a folder has no event
                    await trio.sleep(0.1)
        assert (await log_in(service, people.passkey)).status_code == 200
        assert (await log_in(service, people.newcomer)).status_code == 401
        assert await status_of(service, "/login", {"email": NEWCOMER, "password": PASSWORD}) == 401


def bearer_of_tokens(tokens: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}
