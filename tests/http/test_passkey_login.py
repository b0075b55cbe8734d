"""Logging in with a passkey: no hostile answer does, and each challenge works once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from pathlib import Path
from typing import Any

import pytest
import trio
from fido2 import cbor

from regsvc.accounts.factors.passkey_challenges import LIFE, purge_challenges
from regsvc.postgres.pool import Pool
from regsvc.security.passkeys.encoding import decode_bytes, encode_bytes
from tests.http.passkey_calls import ask, log_in, make_account, offer, sign_up
from tests.passkeys import (
    ATTESTED,
    BACKED_UP,
    ELIGIBLE,
    PRESENT,
    SYNCED,
    USUAL,
    VERIFIED,
    Authenticator,
    EcSigner,
    EdSigner,
    RsaSigner,
)
from tests.services import Service, run_test_service

AT_ONCE = 20
ELSEWHERE = "https://127.0.0.1.evil.example"

# What is wrong with an assertion, by the words of the test.
HOSTILE: dict[str, dict[str, Any]] = {
    "another site's page": {"client": {"origin": ELSEWHERE}},
    "our host on another port": {"client": {"origin": "http://127.0.0.1:1"}},
    "no origin": {"client": {"origin": None}},
    "in a frame of another site": {"client": {"crossOrigin": True, "topOrigin": ELSEWHERE}},
    "a frame that only names its top": {"client": {"topOrigin": ELSEWHERE}},
    "cross-origin as a text": {"client": {"crossOrigin": "false"}},
    "a registration": {"client": {"type": "webauthn.create"}},
    "another site's passkey": {"party": "evil.example"},
    "our site with a trailing dot": {"party": "127.0.0.1."},
    "user not verified": {"flags": PRESENT},
    "user not present": {"flags": VERIFIED},
    "backed up without being eligible": {"flags": USUAL | BACKED_UP},
    "data cut off": {"flags": USUAL | ATTESTED},
    "signed by another key": {"signer": EcSigner()},
    "signed by another algorithm": {"signer": EdSigner()},
    "signature empty": {"signature": b"\0"},
    "another user's handle": {"user_handle": bytes(16)},
    "handle cut off": {"user_handle": b"\1"},
    "no handle": {"user_handle": None},
    "no JSON": {"sent_client": b"{"},
    "JSON of another kind": {"sent_client": b"[]"},
    "a text in no encoding": {"sent_client": b"\xff\xfe"},
    "nested without end": {"sent_client": b"[" * 5000},
}


@pytest.fixture
async def authenticator(shared_service: Service) -> Authenticator:
    """A passkey with an account."""
    found = Authenticator(shared_service.url)
    await make_account(shared_service, found)
    return found


@pytest.mark.parametrize("wrong", HOSTILE.values(), ids=HOSTILE)
async def test_no_hostile_assertion_logs_in(
    shared_service: Service, authenticator: Authenticator, wrong: dict[str, Any]
) -> None:
    refused = await log_in(shared_service, authenticator, **wrong)
    assert (refused.status_code, refused.json()["code"]) == (400, "passkey_invalid"), refused.text
    assert (await log_in(shared_service, authenticator)).status_code == 200


async def test_a_changed_bit_of_a_signed_part_is_noticed(
    shared_service: Service, authenticator: Authenticator
) -> None:
    def change(text: str) -> str:
        return ("B" if text[45] == "A" else "A").join((text[:45], text[46:]))

    for part in ("authenticatorData", "signature", "clientDataJSON"):
        asserted = authenticator.get(await ask(shared_service))
        asserted["response"][part] = change(asserted["response"][part])
        refused = await shared_service.post("/login/passkey", {"assertion": asserted})
        assert refused.json()["code"] in {"passkey_invalid", "passkey_expired"}, (part, refused.text)


async def test_a_challenge_is_used_once_by_twenty_at_once(
    shared_service: Service, authenticator: Authenticator
) -> None:
    asserted = authenticator.get(await ask(shared_service))
    statuses: list[int] = []

    async def use() -> None:
        answer = await shared_service.post("/login/passkey", {"assertion": asserted})
        statuses.append(answer.status_code)

    async with trio.open_nursery() as nursery:
        for _ in range(AT_ONCE):
            nursery.start_soon(use)
    assert sorted(statuses) == [200] + [410] * (AT_ONCE - 1)


async def test_a_challenge_that_was_answered_wrongly_is_used_up(
    shared_service: Service, authenticator: Authenticator
) -> None:
    options = await ask(shared_service)
    for wrong, code in (({"flags": PRESENT}, "passkey_invalid"), ({}, "passkey_expired")):
        answer = await shared_service.post(
            "/login/passkey", {"assertion": authenticator.get(options, **wrong)}
        )
        assert answer.json()["code"] == code


async def test_a_challenge_is_ours_and_of_its_purpose(
    shared_service: Service, authenticator: Authenticator
) -> None:
    ours = await ask(shared_service)
    made_up = {"publicKey": ours["publicKey"] | {"challenge": encode_bytes(bytes(32))}}
    of_a_sign_up = {
        "publicKey": ours["publicKey"]
        | {"challenge": (await offer(shared_service, "eve@example.com"))["publicKey"]["challenge"]}
    }
    for options in (made_up, of_a_sign_up):
        answer = await shared_service.post("/login/passkey", {"assertion": authenticator.get(options)})
        assert (answer.status_code, answer.json()["code"]) == (410, "passkey_expired")


async def test_an_unknown_passkey_is_named_unknown(shared_service: Service) -> None:
    options = await ask(shared_service)
    stranger = Authenticator(shared_service.url, user_handle=bytes(16))
    answer = await shared_service.post("/login/passkey", {"assertion": stranger.get(options)})
    assert (answer.status_code, answer.json()["code"]) == (401, "passkey_unknown")


def _challenge(options: dict[str, Any]) -> bytes:
    return decode_bytes(options["publicKey"]["challenge"])


async def test_a_challenge_has_an_end_and_is_cleared_away(service: Service, pool: Pool) -> None:
    authenticator = Authenticator(service.url)
    await make_account(service, authenticator)
    old, young = await ask(service), await ask(service)
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE passkey_challenges SET expires_at = now() WHERE challenge = %(old)s",
            {"old": _challenge(old)},
        )
    refused = await service.post("/login/passkey", {"assertion": authenticator.get(old)})
    assert (refused.status_code, refused.json()["code"]) == (410, "passkey_expired")
    async with pool.connection() as conn:
        await purge_challenges(conn, 500)
        cursor = await conn.execute("SELECT challenge, expires_at FROM passkey_challenges")
        left = {bytes(challenge): expires for challenge, expires in await cursor.fetchall()}
    assert list(left) == [_challenge(young)]
    assert timedelta() < left[_challenge(young)] - datetime.now(UTC) <= LIFE


async def test_a_count_that_goes_back_is_an_event_and_no_refusal(service: Service, pool: Pool) -> None:
    counting = Authenticator(service.url, flags=USUAL, count=10)
    await make_account(service, counting)
    for count in (11, 5, 6):
        assert (await log_in(service, counting, count=count)).status_code == 200
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT details FROM audit_events WHERE event = 'passkey_count_went_back'"
        )
        events = [row[0] for row in await cursor.fetchall()]
    assert [(event["before"], event["now"]) for event in events] == [(11, 5)]


async def test_a_synced_passkey_counts_nothing_and_is_no_event(service: Service, pool: Pool) -> None:
    synced = Authenticator(service.url, flags=SYNCED)
    await make_account(service, synced)
    for _ in range(3):
        assert (await log_in(service, synced)).status_code == 200
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT FROM audit_events WHERE event = 'passkey_count_went_back'")
        assert cursor.rowcount == 0
        cursor = await conn.execute("SELECT synced, last_used_at IS NOT NULL FROM passkeys")
        assert await cursor.fetchall() == [(True, True)]


async def test_a_disabled_user_gets_in_with_no_passkey(service: Service, pool: Pool) -> None:
    authenticator = Authenticator(service.url)
    await make_account(service, authenticator)
    async with pool.connection() as conn:
        await conn.execute("UPDATE users SET disabled_at = now()")
    refused = await log_in(service, authenticator)
    # Not "unknown": a browser would have the passkey forgotten.
    assert (refused.status_code, refused.json()["code"]) == (401, "invalid_credentials")


def _rsa(bits: int) -> Any:
    return RsaSigner(bits).cose()


# What is wrong with a new passkey.
UNFIT: dict[str, Callable[[], dict[str, Any]]] = {
    "another site's page": lambda: {"client": {"origin": ELSEWHERE}},
    "an assertion": lambda: {"client": {"type": "webauthn.get"}},
    "in a frame of another site": lambda: {"client": {"crossOrigin": True}},
    "another site's passkey": lambda: {"party": "evil.example"},
    "user not verified": lambda: {"flags": PRESENT | ATTESTED},
    "backed up without being eligible": lambda: {"flags": USUAL | ATTESTED | BACKED_UP},
    "no credential in it": lambda: {"flags": USUAL | ELIGIBLE},
    "another identifier": lambda: {"id": "AAAA"},
    "an unknown algorithm": lambda: {"cose": {1: 2, 3: -47, -1: 8, -2: bytes(32), -3: bytes(32)}},
    "an algorithm of another key": lambda: {"cose": {**EcSigner().cose(), 3: -8}},
    "a point on no curve": lambda: {"cose": {**EcSigner().cose(), -2: bytes(32)}},
    "another curve": lambda: {"cose": {**EcSigner().cose(), -1: 2}},
    "a short modulus": lambda: {"cose": _rsa(1024)},
    "no algorithm": lambda: {"cose": {1: 2}},
    "a key that is a list": lambda: {"cose": cbor.encode([1, 2])},
    "a key without end": lambda: {"cose": b"\x9b" + b"\xff" * 8},
    "nested without end": lambda: {"attestation": b"\x81" * 6000},
    "no map": lambda: {"attestation": cbor.encode("none")},
    "a map of other things": lambda: {
        "attestation": cbor.encode({"fmt": "none", "attStmt": {}, "authData": 1})
    },
    "more behind it": lambda: {"attestation": cbor.encode({}) + b"\0"},
}


@pytest.mark.parametrize("make", UNFIT.values(), ids=UNFIT)
async def test_no_unfit_passkey_signs_up(shared_service: Service, make: Callable[[], dict[str, Any]]) -> None:
    address = "unfit@example.com"
    created = Authenticator(shared_service.url).create(await offer(shared_service, address), **make())
    refused = await shared_service.post("/register", {"email": address, "name": "Ann", "passkey": created})
    assert refused.status_code == HTTPStatus.BAD_REQUEST, refused.text
    assert refused.json()["code"] == "passkey_invalid"
    assert (await sign_up(shared_service, address, Authenticator(shared_service.url))).status_code == 201


async def test_other_sites_of_the_operators_may_use_the_passkeys(database: str, tmp_path: Path) -> None:
    """Their browsers ask for the list; an answer from there is taken, and from a site that is not listed it is not."""
    app = "https://app.example.org"
    environ = {"REGSVC_ALLOWED_ORIGINS": f"{app},http://shop.localhost"}
    async with run_test_service(database, tmp_path, environ) as service:
        listed = (await service.client.get("/.well-known/webauthn")).json()
        assert listed == {"origins": [app]}
        authenticator = Authenticator(app)
        await make_account(service, authenticator)
        assert (await log_in(service, authenticator)).status_code == 200
        refused = await log_in(service, authenticator, client={"origin": "https://example.org"})
        assert refused.json()["code"] == "passkey_invalid"
