"""Every kind of account can make every change that needs a proof, or is told how; and none after its session's end."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any, TypeAlias
from uuid import UUID, uuid4

import httpx
import pytest
import trio

from regsvc.accounts.sessions.session import end_all_sessions
from regsvc.accounts.users.user import lock_user
from regsvc.flows.factors.authenticator import begin_totp, remove_totp, renew_codes
from regsvc.flows.factors.passkeys import AddPasskeyBody, add_passkey, begin_passkey, remove_passkey
from regsvc.flows.identities.own_identities import link
from regsvc.flows.service import Service as Flows
from regsvc.postgres.pool import Pool
from regsvc.security.identities.proven_identity import ProvenIdentity
from regsvc.security.identities.provider import hash_verifier
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError
from tests.factors.conftest import CALLER
from tests.factors.people import Owner, add_owner, begin, finish, own_app_of
from tests.http.passkey_calls import log_in as log_in_by_passkey
from tests.http.passkey_calls import make_account
from tests.http.test_email_change import execute
from tests.http.test_login_code import ask, code_mail, verify
from tests.identities.issuer import Issuer, provider_environment
from tests.identities.visitor import visiting
from tests.passkeys import Authenticator
from tests.services import PASSWORD, Service, run_test_service

NEW = "a password that is new here"
APP, VERIFIER = "app.example:/in", "v" * 43


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    with Issuer().running() as running:
        yield running


@pytest.fixture
async def service(database: str, tmp_path: Path, issuer: Issuer) -> AsyncIterator[Service]:
    """A service with an identity provider."""
    environ = provider_environment("OWN", issuer) | {"REGSVC_OIDC_RETURN_TO": APP}
    async with run_test_service(database, tmp_path, environ) as service:
        yield service


@dataclass
class Somebody:
    """A user in a session.

    Args:
        service: that they use.
        issuer: of their identity, if they have one.
        pool: of the service's database.
        bearer: header of their requests.
    """

    service: Service
    issuer: Issuer
    pool: Pool
    bearer: dict[str, str] = field(default_factory=dict)

    def enter(self, answer: httpx.Response) -> None:
        """Take the tokens of a login."""
        assert answer.status_code == 200, answer.text
        self.bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}

    async def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Make a call about one's own account."""
        return await self.service.client.request(method, f"/api/v1/me{path}", json=body, headers=self.bearer)

    async def fetch_code(self) -> dict[str, str]:
        """Log in with the provider in an app, and return what its code is exchanged with."""
        query = {"return_to": APP, "code_challenge": hash_verifier(VERIFIER)}
        async with visiting(self.service) as visitor:
            page = await visitor.go("own", self.issuer, query)
        uri = re.search(r'<a class="button" href="([^"]+)"', page.text)
        assert uri, page.text
        return {"code": unescape(uri[1]).partition("code=")[2], "code_verifier": VERIFIER}


Prove: TypeAlias = Callable[[], Awaitable[httpx.Response]]
Kind: TypeAlias = Callable[[Somebody], Awaitable[tuple[list[str], Prove]]]


async def with_a_password(one: Somebody) -> tuple[list[str], Prove]:
    await one.service.confirm()
    one.bearer = await one.service.log_in()
    return ["password"], lambda: one.ask("POST", "/proof", {"password": PASSWORD})


async def with_a_password_and_an_app(one: Somebody) -> tuple[list[str], Prove]:
    await one.service.confirm()
    owner = await own_app_of(one.pool)
    one.enter(await finish(one.service, await begin(one.service), code=owner.code()))
    return ["password", "totp"], lambda: one.ask("POST", "/proof", {"code": owner.code(1)})


async def with_a_lost_app(one: Somebody) -> tuple[list[str], Prove]:
    await one.service.confirm()
    owner = await own_app_of(one.pool)
    code, other = owner.recovery_codes[:2]
    one.enter(await finish(one.service, await begin(one.service), recovery_code=code))
    refused = await one.ask("POST", "/proof", {"recovery_code": other})
    assert (refused.status_code, refused.json()["code"]) == (400, "validation_failed")  # for logging in alone
    return ["password", "totp"], lambda: one.ask("POST", "/proof", {"password": PASSWORD})


async def with_a_passkey(one: Somebody) -> tuple[list[str], Prove]:
    authenticator = Authenticator(one.service.url)
    await make_account(one.service, authenticator)
    one.enter(await log_in_by_passkey(one.service, authenticator))

    async def prove() -> httpx.Response:
        options = (await one.ask("POST", "/proof/options")).json()
        return await one.ask("POST", "/proof", {"assertion": authenticator.get(options)})

    return ["passkey"], prove


async def with_an_identity(one: Somebody) -> tuple[list[str], Prove]:
    one.enter(await one.service.post("/token/exchange", await one.fetch_code()))

    async def prove() -> httpx.Response:
        return await one.ask("POST", "/identities/proof", await one.fetch_code())

    return ["identity"], prove


async def with_a_mailbox_alone(one: Somebody) -> tuple[list[str], Prove]:
    """As an imported user without a password. They choose one with a mailed link, which the refusal names."""
    await one.service.confirm()
    await execute(one.pool, "UPDATE users SET password_hash = '!none'")
    asked = await ask(one.service)
    one.enter(await verify(one.service, asked, (await code_mail(one.service)).code))

    async def prove() -> httpx.Response:
        told = (await one.ask("GET", "/export")).json()["detail"]
        assert "/api/v1/password/forgot" in told
        await one.service.post("/password/forgot", {"email": "ann@example.com"})
        link = {"token": await one.service.wait_link("reset"), "password": PASSWORD}
        assert (await one.service.post("/password/reset", link)).status_code == 204
        one.bearer = await one.service.log_in()
        return await one.ask("POST", "/proof", {"password": PASSWORD})

    return [], prove


KINDS: list[Kind] = [
    with_a_password,
    with_a_password_and_an_app,
    with_a_lost_app,
    with_a_passkey,
    with_an_identity,
    with_a_mailbox_alone,
]
CHANGES = [
    ("GET", "/export", None, 200),
    ("POST", "/email", {"email": "new@example.org"}, 202),
    ("POST", "/totp", {}, 200),
    ("POST", "/passkeys/options", {}, 200),
    ("PUT", "/password", {"new_password": NEW}, 204),
    ("DELETE", "", {}, 204),
]


@pytest.mark.parametrize("kind", KINDS, ids=[kind.__name__ for kind in KINDS])
async def test_every_change_is_open_to_every_kind_of_account(
    kind: Kind, service: Service, issuer: Issuer, pool: Pool
) -> None:
    one = Somebody(service, issuer, pool)
    methods, prove = await kind(one)
    removals: list[tuple[str, str, Any]] = [("DELETE", "/totp", None), ("POST", "/recovery-codes", {})]
    for method, path, body in [*(change[:3] for change in CHANGES), *removals]:
        refused = await one.ask(method, path, body)
        assert (refused.status_code, refused.json()["code"]) == (403, "proof_needed"), path
        assert refused.json()["methods"] == methods
    assert (await prove()).status_code == 200
    for method, path, body, status in CHANGES:
        answer = await one.ask(method, path, body)
        assert answer.status_code == status, answer.text


async def test_a_user_without_a_password_makes_every_change_on_the_pages(
    service: Service, issuer: Issuer, pool: Pool
) -> None:
    """No form asks for a password that there is not; the way to the proof leads back to the form."""
    async with visiting(service) as visitor:
        assert (await visitor.go("own", issuer)).headers["Location"] == "/account"
        page = (await visitor.client.get("/account")).text
        assert 'name="current_password"' not in page
        assert 'name="password"' not in page
        for part in ("address", "password", "delete"):
            assert f'href="/account/proof?for={part}"' in page
        left = await visitor.post("/account/address", {"email": "new@example.org"})
        assert left.headers["Location"] == "/account/proof?for=address"
        asked = await visitor.client.get("/account/proof?for=address")
        assert 'href="/forgot"' in asked.text  # the provider may be gone
        (way,) = re.findall(r'href="(/account/security/identities/proof/own[^"]*)"', asked.text)
        away = await visitor.client.get(unescape(way))
        action, fields = await visitor.arrive(issuer.authorize(away.headers["Location"]))
        back = await visitor.post(action, fields)
        assert back.headers["Location"] == "/account?open=address#address"
        page = (await visitor.client.get("/account?open=address")).text
        assert 'action="/account/address"' in page
        for part, form in (
            ("address", {"email": "new@example.org"}),
            ("password", {"new_password": NEW}),
        ):
            done = await visitor.post(f"/account/{part}", form)
            assert done.headers["Location"] == f"/account?done={part}#{part}", done.text
        page = (await visitor.client.get("/account")).text
        assert 'name="current_password"' in page  # a new session, which has proved nothing
        wrong = await visitor.post("/account/delete", {"password": ""})
        assert (wrong.status_code, "not your current password" in wrong.text) == (403, True)
        gone = await visitor.post("/account/delete", {"password": NEW})
        assert gone.headers["Location"] == "/login?done=deleted"
    assert await execute(pool, "SELECT count(*) FROM users") == [(0,)]


async def test_another_password_is_set_on_the_page_of_the_session_that_added_the_app(
    service: Service, issuer: Issuer, pool: Pool
) -> None:
    """The session that follows began before the app; no second factor is missing."""
    del issuer
    await service.confirm()
    async with visiting(service) as visitor:
        await visitor.post("/login", {"email": "ann@example.com", "password": PASSWORD})
        await own_app_of(pool)
        changed = await visitor.post("/account/password", {"current_password": PASSWORD, "new_password": NEW})
        assert changed.headers.get("Location") == "/account?done=password#password", changed.text
        assert (await visitor.client.get("/account")).status_code == 200


async def test_who_takes_the_account_back_is_asked_for_no_password(
    service: Service, issuer: Issuer, pool: Pool
) -> None:
    """Nobody knows the void password, so it is neither a proof nor a way in that lets the last other one go."""
    one = Somebody(service, issuer, pool)
    await service.confirm()
    authenticator = Authenticator(service.url)
    one.bearer = await service.log_in()
    await service.prove(one.bearer)
    created = authenticator.create((await one.ask("POST", "/passkeys/options")).json())
    added = await one.ask("POST", "/passkeys", {"passkey": created})
    await execute(pool, "UPDATE passkeys SET created_at = created_at - interval '1 hour'")
    token = await service.wait_link("panic")
    assert (await service.post("/me/panic", {"token": token})).status_code == 200
    one.enter(await log_in_by_passkey(service, authenticator))
    refused = await one.ask("DELETE", f"/passkeys/{added.json()['id']}")
    assert refused.json()["methods"] == ["passkey"]
    options = (await one.ask("POST", "/proof/options")).json()
    assert (await one.ask("POST", "/proof", {"assertion": authenticator.get(options)})).status_code == 200
    last = await one.ask("DELETE", f"/passkeys/{added.json()['id']}")
    assert (last.status_code, last.json()["code"]) == (409, "last_way_in")


@dataclass
class Thief:
    """A session of a thief, who has proved to be its user."""

    flows: Flows
    pool: Pool
    owner: Owner
    token: AccessToken

    async def add_passkey(self) -> None:
        """Add a passkey."""
        options = await begin_passkey(self.flows, CALLER, self.token)
        created = Authenticator(self.flows.settings.public_url).create(options)
        body = AddPasskeyBody.model_validate({"passkey": created})
        async with self.meanwhile_taken_back():
            await add_passkey(self.flows, CALLER, self.token, body)

    async def remove_passkey(self) -> None:
        """Remove the owner's passkey."""
        passkey_id = uuid4()
        await execute(
            self.pool,
            f"""
            INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, synced, transports, name)
            VALUES ('{passkey_id}', '{self.owner.user_id}', 'own', '', 0, true, '{{}}', 'own')
            """,
        )
        async with self.meanwhile_taken_back():
            await remove_passkey(self.flows, CALLER, self.token, passkey_id)

    async def add_identity(self) -> None:
        """Add an identity."""
        proven = ProvenIdentity("own", "https://id.example", "thief", "t@evil.example", "verified", "T")
        async with self.meanwhile_taken_back():
            await link(self.flows, CALLER, self.token, proven)

    async def renew_codes(self) -> None:
        """Make new recovery codes."""
        async with self.meanwhile_taken_back():
            await renew_codes(self.flows, CALLER, self.token)

    async def remove_app(self) -> None:
        """Remove the owner's app."""
        async with self.meanwhile_taken_back():
            await remove_totp(self.flows, CALLER, self.token)

    async def begin_app(self) -> None:
        """Begin to set up an app."""
        async with self.meanwhile_taken_back():
            await begin_totp(self.flows, CALLER, self.token)

    @asynccontextmanager
    async def meanwhile_taken_back(self) -> AsyncIterator[None]:
        """Have the owner hold the account, and end its sessions once the thief's request waits for it."""
        held = trio.Event()

        async def take_back() -> None:
            async with self.pool.transaction() as conn:
                await lock_user(conn, self.owner.user_id)
                held.set()
                with trio.fail_after(20):
                    while not await execute(  # noqa: ASYNC110 - the server has no event of it
                        self.pool,
                        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
                        " AND wait_event_type = 'Lock'",
                    ):
                        await trio.sleep(0.02)
                await end_all_sessions(conn, self.owner.user_id, reason="panic")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take_back)
            await held.wait()
            yield


DEEDS: list[Callable[[Thief], Awaitable[None]]] = [
    Thief.add_passkey,
    Thief.remove_passkey,
    Thief.add_identity,
    Thief.renew_codes,
    Thief.remove_app,
    Thief.begin_app,
]


@pytest.mark.parametrize("deed", DEEDS, ids=[deed.__name__ for deed in DEEDS])
async def test_what_waits_while_the_owner_takes_the_account_back_changes_nothing(
    deed: Callable[[Thief], Awaitable[None]], flows: Flows, pool: Pool
) -> None:
    owner, session_id = await add_owner(pool), uuid4()
    await execute(pool, add_session(owner.user_id, session_id))
    before = await execute(pool, COUNTED)
    thief = Thief(flows, pool, owner, AccessToken(owner.user_id, session_id, "user"))
    with pytest.RaisesGroup(AccessTokenInvalidError, allow_unwrapped=True, flatten_subgroups=True):
        await deed(thief)
    after = await execute(pool, COUNTED)
    assert after == ([(1, *before[0][1:])] if deed is Thief.remove_passkey else before)


COUNTED = """
    SELECT (SELECT count(*) FROM passkeys), (SELECT count(*) FROM identities), (SELECT count(*) FROM totp_setups),
           (SELECT string_agg(mac::text, ' ' ORDER BY mac) FROM recovery_codes),
           (SELECT count(*) FROM totp_authenticators)
"""


def add_session(user_id: UUID, session_id: UUID) -> str:
    return f"""
        INSERT INTO sessions (id, user_id, origin, client, expires_at, proved_until)
        VALUES ('{session_id}', '{user_id}', '192.0.2.0/24', 'curl', now() + interval '1 day',
                now() + interval '5 minutes')
    """
