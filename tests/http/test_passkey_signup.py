"""Signing up with a passkey instead of a password, and logging in with it."""

from __future__ import annotations

from uuid import uuid4

import pytest

from tests.http.passkey_calls import ask, confirm_with_handle, handle_of, log_in, offer, sign_up
from tests.passkeys import Authenticator, EdSigner, RsaSigner, Signer
from tests.services import PASSWORD, Service


async def test_the_options_ask_for_a_discoverable_passkey_and_for_the_users_verification(
    shared_service: Service,
) -> None:
    asked = (await offer(shared_service, "bob@example.com", "Bob"))["publicKey"]
    assert asked["rp"]["id"] == "127.0.0.1"
    assert asked["authenticatorSelection"]["residentKey"] == "required"
    assert asked["authenticatorSelection"]["userVerification"] == "required"
    assert asked["attestation"] == "none"
    assert (asked["user"]["name"], asked["user"]["displayName"]) == ("bob@example.com", "Bob")
    request = (await ask(shared_service))["publicKey"]
    assert request["allowCredentials"] == []
    assert request["userVerification"] == "required"


@pytest.mark.parametrize("kind", [EdSigner, RsaSigner], ids=["EdDSA", "RS256"])
async def test_every_algorithm_of_the_options_logs_in(shared_service: Service, kind: type[Signer]) -> None:
    address = f"{uuid4()}@example.com"
    authenticator = Authenticator(shared_service.url, signer=kind())
    signed_up = await sign_up(shared_service, address, authenticator)
    await confirm_with_handle(shared_service, address, signed_up)
    assert (await log_in(shared_service, authenticator)).status_code == 200


async def test_the_bare_link_confirms_nothing_and_the_handle_does(shared_service: Service) -> None:
    address = f"{uuid4()}@example.com"
    authenticator = Authenticator(shared_service.url)
    signed_up = await sign_up(shared_service, address, authenticator)
    token = (await shared_service.wait_mail(address)).token
    for body in ({"token": token}, {"token": token, "password": PASSWORD}):
        refused = await shared_service.post("/confirm-email", body)
        assert (refused.status_code, refused.json()["code"]) == (409, "password_needed")
        assert refused.json()["methods"] == ["passkey"]
    early = await log_in(shared_service, authenticator)
    assert (early.status_code, early.json()["code"]) == (401, "passkey_unconfirmed")
    await confirm_with_handle(shared_service, address, signed_up)
    tokens = await log_in(shared_service, authenticator)
    assert tokens.status_code == 200, tokens.text
    bearer = {"Authorization": f"Bearer {tokens.json()['access_token']}"}
    me = await shared_service.client.get("/api/v1/me", headers=bearer)
    assert me.json()["email"] == address


async def test_the_code_confirms(shared_service: Service) -> None:
    address = f"{uuid4()}@example.com"
    authenticator = Authenticator(shared_service.url)
    signed_up = await sign_up(shared_service, address, authenticator)
    code = (await shared_service.wait_mail(address)).code
    registration = signed_up.headers["Location"].rpartition("/")[2]
    body = {"registration": registration, "code": code}
    assert (await shared_service.post("/confirm-email/code", body, handle_of(signed_up))).status_code == 200
    assert (await log_in(shared_service, authenticator)).status_code == 200


async def test_an_assertion_confirms_with_the_link_on_another_device(shared_service: Service) -> None:
    address = f"{uuid4()}@example.com"
    authenticator = Authenticator(shared_service.url)
    await sign_up(shared_service, address, authenticator)
    token = (await shared_service.wait_mail(address)).token
    stranger = Authenticator(shared_service.url, user_handle=authenticator.user_handle)
    for asserted, status in (
        (stranger.get(await ask(shared_service)), 409),  # another passkey
        (
            authenticator.get(await ask(shared_service), signer=stranger.signer),
            400,
        ),  # the same, signed by another
        (authenticator.get(await ask(shared_service)), 200),
    ):
        answer = await shared_service.post("/confirm-email", {"token": token, "assertion": asserted})
        assert answer.status_code == status, answer.text
    assert (await log_in(shared_service, authenticator)).status_code == 200


async def test_no_password_logs_in_and_one_by_mail_is_added(shared_service: Service) -> None:
    address = f"{uuid4()}@example.com"
    authenticator = Authenticator(shared_service.url)
    await confirm_with_handle(shared_service, address, await sign_up(shared_service, address, authenticator))
    refused = await shared_service.post("/login", {"email": address, "password": PASSWORD})
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_credentials")
    await shared_service.post("/password/forgot", {"email": address})
    reset = {"token": await shared_service.wait_link("reset", address), "password": PASSWORD}
    assert (await shared_service.post("/password/reset", reset)).status_code == 204
    await shared_service.log_in(address)
    assert (await log_in(shared_service, authenticator)).status_code == 200  # a reset removes no factor


async def test_a_sign_up_has_a_password_or_a_passkey(shared_service: Service) -> None:
    created = Authenticator(shared_service.url).create(await offer(shared_service, "dan@example.com"))
    both = {"email": "dan@example.com", "name": "Dan", "password": PASSWORD, "passkey": created}
    neither = {"email": "dan@example.com", "name": "Dan"}
    for body, code in ((both, "invalid"), (neither, "missing")):
        refused = await shared_service.post("/register", body)
        assert refused.status_code == 400
        assert [(each["pointer"], each["code"]) for each in refused.json()["errors"]] == [("/password", code)]


async def test_a_sign_up_that_is_sent_twice_is_one(shared_service: Service) -> None:
    address = f"{uuid4()}@example.com"
    created = Authenticator(shared_service.url).create(await offer(shared_service, address))
    body = {"email": address, "name": "Ann", "passkey": created}
    first = await shared_service.post("/register", body)
    second = await shared_service.post("/register", body)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.headers["Location"] == second.headers["Location"]
    changed = await shared_service.post("/register", body | {"name": "Another"})
    assert (changed.status_code, changed.json()["code"]) == (410, "passkey_expired")


async def test_a_passkey_that_an_account_has_becomes_no_other_accounts(shared_service: Service) -> None:
    """A stranger signs up with the identifier of another's passkey and a key of their own."""
    victim, owner = f"{uuid4()}@example.com", Authenticator(shared_service.url)
    await confirm_with_handle(shared_service, victim, await sign_up(shared_service, victim, owner))
    stranger = Authenticator(shared_service.url, id=owner.id)
    theirs = f"{uuid4()}@example.com"
    await confirm_with_handle(shared_service, theirs, await sign_up(shared_service, theirs, stranger))
    assert (await log_in(shared_service, stranger)).status_code == 400
    answer = await log_in(shared_service, owner)
    assert answer.status_code == 200
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await shared_service.client.get("/api/v1/me", headers=bearer)).json()["email"] == victim
