"""One's own passkeys: add, list, rename, remove; step up with one; use one as second factor."""

from __future__ import annotations

import base64
import json
from typing import Any
from uuid import uuid4

import httpx
import pyotp
import pytest
import trio

from regsvc.accounts.factors.passkeys import MOST
from regsvc.postgres.pool import Pool
from regsvc.security.passkeys.encoding import encode_bytes
from tests.http.passkey_calls import ask, log_in, make_account
from tests.passkeys import Authenticator
from tests.services import PASSWORD, Service

MINE = "/api/v1/me/passkeys"


class Owner:
    """A user in a session.

    Args:
        service: at which they have an account.
        bearer: header of their requests.
    """

    def __init__(self, service: Service, bearer: dict[str, str]) -> None:
        self.service = service
        self.bearer = bearer

    async def call(self, method: str, path: str = "", body: Any = None) -> httpx.Response:
        """Call the API about one's passkeys."""
        return await self.service.client.request(method, f"{MINE}{path}", json=body, headers=self.bearer)

    async def prove(self, **given: Any) -> httpx.Response:
        """Prove to be there."""
        return await self.service.post("/me/proof", given or {"password": PASSWORD}, self.bearer)

    async def offer(self) -> dict[str, Any]:
        """Ask for creation options."""
        answer = await self.call("POST", "/options")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def add(self, authenticator: Authenticator, name: str | None = None) -> httpx.Response:
        """Add a passkey."""
        created = authenticator.create(await self.offer())
        return await self.call("POST", "", {"passkey": created} | ({"name": name} if name else {}))

    async def list(self) -> list[dict[str, Any]]:
        """Return one's passkeys."""
        found: list[dict[str, Any]] = (await self.call("GET")).json()["passkeys"]
        return found


@pytest.fixture
async def owner(shared_service: Service) -> Owner:
    """Somebody with a password, in a session that has proved its user."""
    address = f"{uuid4()}@example.com"
    await shared_service.confirm(address)
    found = Owner(shared_service, await shared_service.log_in(address))
    assert (await found.prove()).status_code == 200
    return found


async def enter(service: Service, authenticator: Authenticator) -> Owner:
    """Log in with a passkey."""
    answer = await log_in(service, authenticator)
    assert answer.status_code == 200, answer.text
    return Owner(service, {"Authorization": f"Bearer {answer.json()['access_token']}"})


async def test_a_passkey_is_added_listed_renamed_and_removed(owner: Owner) -> None:
    authenticator = Authenticator(owner.service.url)
    added = await owner.add(authenticator, "My phone")
    assert added.status_code == 201, added.text
    path = added.headers["Location"].removeprefix(MINE)
    (listed,) = await owner.list()
    assert listed == added.json()
    assert (listed["name"], listed["synced"], listed["last_used_at"]) == ("My phone", True, None)
    assert listed["credential_id"] == encode_bytes(authenticator.id)
    assert (await log_in(owner.service, authenticator)).status_code == 200
    renamed = await owner.call("PATCH", path, {"name": "Her phone"})
    assert renamed.json()["name"] == "Her phone"
    (listed,) = await owner.list()
    assert (listed["name"], listed["last_used_at"] is None) == ("Her phone", False)
    assert (await owner.call("DELETE", path)).status_code == 204
    assert await owner.list() == []
    refused = await log_in(owner.service, authenticator)
    assert (refused.status_code, refused.json()["code"]) == (401, "passkey_unknown")


async def test_without_a_proof_nothing_is_added_or_removed(owner: Owner) -> None:
    added = await owner.add(Authenticator(owner.service.url))
    path = f"/{added.json()['id']}"
    options = await owner.offer()
    address = (await owner.service.client.get("/api/v1/me", headers=owner.bearer)).json()["email"]
    thief = Owner(owner.service, await owner.service.log_in(address))
    for method, where, body in (
        ("POST", "/options", None),
        ("POST", "", {"passkey": Authenticator(owner.service.url).create(options)}),
        ("DELETE", path, None),
    ):
        refused = await thief.call(method, where, body)
        assert (refused.status_code, refused.json()["code"]) == (403, "proof_needed")
        assert refused.json()["methods"] == ["password", "passkey"]
    assert len(await owner.list()) == 1


async def test_the_options_exclude_what_one_has(owner: Owner) -> None:
    authenticator = Authenticator(owner.service.url)
    await owner.add(authenticator)
    asked = (await owner.offer())["publicKey"]
    assert [each["id"] for each in asked["excludeCredentials"]] == [encode_bytes(authenticator.id)]
    again = await owner.call("POST", "", {"passkey": authenticator.create({"publicKey": asked})})
    assert (again.status_code, again.json()["code"]) == (409, "passkey_known")


async def test_another_users_challenge_adds_nothing(owner: Owner) -> None:
    address = f"{uuid4()}@example.com"
    await owner.service.confirm(address)
    other = Owner(owner.service, await owner.service.log_in(address))
    await other.prove()
    theirs = Authenticator(owner.service.url).create(await other.offer())
    refused = await owner.call("POST", "", {"passkey": theirs})
    assert (refused.status_code, refused.json()["code"]) == (410, "passkey_expired")
    assert (await other.call("POST", "", {"passkey": theirs})).status_code == 201  # not used up by the other


async def test_another_users_passkey_is_not_found(owner: Owner) -> None:
    address = f"{uuid4()}@example.com"
    await owner.service.confirm(address)
    other = Owner(owner.service, await owner.service.log_in(address))
    await other.prove()
    path = f"/{(await other.add(Authenticator(owner.service.url))).json()['id']}"
    for method, body in (("PATCH", {"name": "Mine"}), ("DELETE", None)):
        refused = await owner.call(method, path, body)
        assert (refused.status_code, refused.json()["code"]) == (404, "passkey_not_found")
    assert len(await other.list()) == 1


async def test_the_last_way_in_stays(shared_service: Service) -> None:
    authenticator = Authenticator(shared_service.url)
    await make_account(shared_service, authenticator)
    owner = await enter(shared_service, authenticator)
    await owner.prove(assertion=authenticator.get(await proof_options(owner)))
    (only,) = await owner.list()
    refused = await owner.call("DELETE", f"/{only['id']}")
    assert (refused.status_code, refused.json()["code"]) == (409, "last_way_in")
    second = await owner.add(Authenticator(shared_service.url))
    assert second.status_code == 201
    assert (await owner.call("DELETE", f"/{only['id']}")).status_code == 204


async def test_of_two_ways_in_two_removals_at_once_leave_one(shared_service: Service) -> None:
    authenticator = Authenticator(shared_service.url)
    await make_account(shared_service, authenticator)
    owner = await enter(shared_service, authenticator)
    await owner.prove(assertion=authenticator.get(await proof_options(owner)))
    await owner.add(Authenticator(shared_service.url))
    statuses: list[int] = []

    async def remove(passkey: str) -> None:
        statuses.append((await owner.call("DELETE", f"/{passkey}")).status_code)

    async with trio.open_nursery() as nursery:
        for each in await owner.list():
            nursery.start_soon(remove, each["id"])
    assert sorted(statuses) == [204, 409]
    assert len(await owner.list()) == 1


async def test_a_user_has_so_many_passkeys_and_no_more(service: Service, pool: Pool) -> None:
    await service.confirm()
    owner = Owner(service, await service.log_in())
    await owner.prove()
    last = Authenticator(service.url).create(await owner.offer())
    for _ in range(MOST):
        assert (await owner.add(Authenticator(service.url))).status_code == 201
    for body in (None, {"passkey": last}):
        refused = await owner.call("POST", "/options" if body is None else "", body)
        assert (refused.status_code, refused.json()["code"]) == (409, "too_many_passkeys")


async def proof_options(owner: Owner) -> dict[str, Any]:
    answer = await owner.service.post("/me/proof/options", {}, owner.bearer)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_passkey_is_a_proof_for_its_own_session_alone(shared_service: Service) -> None:
    authenticator, stranger = Authenticator(shared_service.url), Authenticator(shared_service.url)
    await make_account(shared_service, authenticator)
    await make_account(shared_service, stranger)
    owner = await enter(shared_service, authenticator)
    thief = await enter(shared_service, stranger)
    asked = await proof_options(owner)
    assert [each["id"] for each in asked["publicKey"]["allowCredentials"]] == [encode_bytes(authenticator.id)]
    for wrong in (
        stranger.get(await proof_options(owner)),  # another user's passkey
        authenticator.get(await proof_options(owner), flags=1),  # user not verified
        authenticator.get(await ask(shared_service)),  # the challenge of a login
    ):
        assert (await owner.prove(assertion=wrong)).status_code >= 400
    refused = await thief.prove(assertion=stranger.get(asked))  # another's challenge
    assert refused.status_code >= 400
    assert (await owner.call("POST", "/options")).status_code == 403
    right = authenticator.get(
        asked, user_handle=None
    )  # an authenticator that was named one need not say whose it is
    assert (await owner.prove(assertion=right)).status_code == 200
    assert (await owner.call("POST", "/options")).status_code == 200


async def test_a_proofs_assertion_is_used_once(shared_service: Service) -> None:
    authenticator = Authenticator(shared_service.url)
    await make_account(shared_service, authenticator)
    owner = await enter(shared_service, authenticator)
    asserted = authenticator.get(await proof_options(owner))
    statuses = [(await owner.prove(assertion=asserted)).status_code for _ in range(2)]
    assert statuses == [200, 410]


async def test_a_passkey_is_a_second_factor(owner: Owner) -> None:
    service, authenticator, stranger = (
        owner.service,
        Authenticator(owner.service.url),
        Authenticator(owner.service.url),
    )
    await make_account(service, stranger)
    await owner.add(authenticator)
    secret = (await service.post("/me/totp", {}, owner.bearer)).json()["secret"]
    confirmed = await service.post("/me/totp/confirm", {"code": pyotp.TOTP(secret).now()}, owner.bearer)
    assert confirmed.status_code == 200, confirmed.text
    address = (await service.client.get("/api/v1/me", headers=owner.bearer)).json()["email"]
    asked = await service.post("/login", {"email": address, "password": PASSWORD})
    assert (asked.status_code, asked.json()["code"]) == (401, "second_factor_required")
    assert "passkey" in asked.json()["methods"]
    mfa = {"mfa_token": asked.json()["mfa_token"]}
    for wrong in (stranger.get(await ask(service)), authenticator.get(await ask(service), flags=1)):
        refused = await service.post("/login/second-factor", mfa | {"assertion": wrong})
        assert (refused.status_code, refused.json()["code"]) == (401, "second_factor_invalid")
    asserted = authenticator.get(await ask(service))
    passed = await service.post("/login/second-factor", mfa | {"assertion": asserted})
    assert passed.status_code == 200, passed.text
    assert {"pwd", "swk", "user", "mfa"} == set(claims(passed)["amr"])
    # By itself it is both factors.
    alone = await log_in(service, authenticator)
    assert alone.status_code == 200
    assert {"swk", "user", "mfa"} == set(claims(alone)["amr"])


def claims(answer: httpx.Response) -> dict[str, Any]:
    payload = answer.json()["access_token"].split(".")[1]
    found: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    return found


async def test_the_export_has_ones_passkeys(owner: Owner) -> None:
    await owner.add(Authenticator(owner.service.url), "My phone")
    exported = await owner.service.client.get("/api/v1/me/export", headers=owner.bearer)
    assert [each["name"] for each in exported.json()["passkeys"]] == ["My phone"]
