"""No hostile answer of an identity provider opens an account, a session or an attempt."""

from __future__ import annotations

import hmac
import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from regsvc.config.identities.identity_settings import ProviderSettings
from regsvc.security.identities.errors import IdentityRefusedError, ProviderUnavailableError
from regsvc.security.identities.flow_state import begin_flow
from regsvc.security.identities.metadata import read_metadata
from regsvc.security.identities.provider import IdentityProvider
from regsvc.security.identities.web_client import WebClient
from tests.identities.issuer import (
    CLIENT_ID,
    CLIENT_SECRET,
    Issuer,
    Reply,
    encode,
    provider_environment,
    public_jwk,
    rsa_key,
)
from tests.identities.visitor import COUNTED, count_rows, visiting
from tests.services import run_test_service

NOW = int(time.time())
PEM = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def make_token(header: dict[str, Any], claims: dict[str, Any] | bytes, sign: Callable[[bytes], bytes]) -> str:
    """Return a token by hand, as libraries refuse to make it."""
    payload = claims if isinstance(claims, bytes) else json.dumps(claims).encode()
    text = f"{encode(json.dumps(header).encode())}.{encode(payload)}"
    return f"{text}.{encode(sign(text.encode()))}"


def sign_rs256(text: bytes, key: RSAPrivateKey | None = None) -> bytes:
    return (key or rsa_key()).sign(text, PKCS1v15(), SHA256())


def sign_hs256(key: bytes) -> Callable[[bytes], bytes]:
    return lambda text: hmac.digest(key, text, "sha256")


def with_twice(name: str, first: object) -> Callable[[dict[str, Any], dict[str, Any]], str]:
    """Sign claims with one key twice: parsers differ in which one counts."""

    def sign(header: dict[str, Any], claims: dict[str, Any]) -> str:
        payload = json.dumps(claims)[:-1] + f", {json.dumps(name)}: {json.dumps(first)}}}"
        return make_token({"alg": "RS256", **header}, payload.encode(), sign_rs256)

    return sign


def reply(status: int, body: bytes = b"{}", **headers: str) -> Callable[[], Reply]:
    return lambda: (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


# Each is an issuer that lies in one way, and answers honestly otherwise.
HOSTILE: dict[str, Callable[[], Issuer]] = {
    "issuer of another provider": lambda: Issuer(claims={"iss": "https://accounts.google.com"}),
    "issuer with a slash more": lambda: Issuer(claims={"iss": "http://127.0.0.1/"}),
    "audience of another client": lambda: Issuer(claims={"aud": "another"}),
    "a second audience": lambda: Issuer(claims={"aud": [CLIENT_ID, "another"], "azp": CLIENT_ID}),
    "no audience": lambda: Issuer(claims={"aud": None}),
    "issued to another client": lambda: Issuer(claims={"azp": "another"}),
    "another nonce": lambda: Issuer(claims={"nonce": "another"}),
    "no nonce": lambda: Issuer(claims={"nonce": None}),
    "a nonce that is no text": lambda: Issuer(claims={"nonce": 1}),
    "expired": lambda: Issuer(claims={"exp": NOW - 3600}),
    "no expiry": lambda: Issuer(claims={"exp": None}),
    "an expiry that is a text": lambda: Issuer(claims={"exp": str(NOW + 300)}),
    "issued in the future": lambda: Issuer(claims={"iat": NOW + 3600, "exp": NOW + 7200}),
    "no time of issue": lambda: Issuer(claims={"iat": None}),
    "not valid yet": lambda: Issuer(claims={"nbf": NOW + 3600}),
    "no subject": lambda: Issuer(claims={"sub": None}),
    "an empty subject": lambda: Issuer(claims={"sub": ""}),
    "a subject that is a number": lambda: Issuer(claims={"sub": 1}),
    "a subject with a NUL": lambda: Issuer(claims={"sub": "a\x00b"}),
    "a subject without end": lambda: Issuer(claims={"sub": "a" * 256}),
    "of another access token": lambda: Issuer(claims={"at_hash": "AAAAAAAAAAAAAAAAAAAAAA"}),
    "unsigned": lambda: Issuer(sign=lambda header, claims: jwt.encode(claims, "", "none", headers=header)),
    "unsigned, as it says": lambda: Issuer(
        sign=lambda _, claims: make_token({"alg": "none", "kid": "one"}, claims, lambda _: b""),
        metadata={"id_token_signing_alg_values_supported": ["none", "RS256"]},
    ),
    "a MAC with the public key": lambda: Issuer(
        sign=lambda _, claims: make_token({"alg": "HS256", "kid": "one"}, claims, sign_hs256(PEM)),
        metadata={"id_token_signing_alg_values_supported": ["HS256", "RS256"]},
    ),
    "a MAC with the client's secret": lambda: Issuer(
        sign=lambda _, claims: make_token(
            {"alg": "HS256", "kid": "one"}, claims, sign_hs256(CLIENT_SECRET.encode())
        )
    ),
    "an algorithm that is not in the metadata": lambda: Issuer(
        metadata={"id_token_signing_alg_values_supported": ["ES256"]}
    ),
    "the key's name unknown": lambda: Issuer(header={"kid": "two"}),
    "no key's name among several keys": lambda: Issuer(
        header={"kid": None}, keys=[public_jwk(rsa_key(), "one"), public_jwk(rsa_key(1), "two")]
    ),
    "another key of the same name": lambda: Issuer(keys=[public_jwk(rsa_key(1))]),
    "two keys of one name": lambda: Issuer(keys=[public_jwk(rsa_key(1)), public_jwk(rsa_key())]),
    "a key for encryption": lambda: Issuer(keys=[{**public_jwk(rsa_key()), "use": "enc"}]),
    "a short key": lambda: Issuer(
        keys=[public_jwk(rsa_key(9, 1024))],
        sign=lambda header, claims: make_token(
            {"alg": "RS256", **header}, claims, lambda text: sign_rs256(text, rsa_key(9, 1024))
        ),
    ),
    "a symmetric key": lambda: Issuer(keys=[{"kty": "oct", "kid": "one", "k": encode(PEM)}]),
    "the key in the token itself": lambda: Issuer(
        keys=[],
        sign=lambda header, claims: jwt.encode(
            claims, rsa_key(1), "RS256", headers={**header, "jwk": public_jwk(rsa_key(1))}
        ),
    ),
    "a critical header": lambda: Issuer(
        sign=lambda header, claims: make_token(
            {"alg": "RS256", "crit": ["exp"], "exp": 1, **header}, claims, sign_rs256
        )
    ),
    "a signature of other words": lambda: Issuer(
        sign=lambda header, claims: make_token(
            {"alg": "RS256", **header}, claims, lambda _: sign_rs256(b"other")
        )
    ),
    "an address twice": lambda: Issuer(sign=with_twice("email", "victim@example.com")),
    "a subject twice": lambda: Issuer(sign=with_twice("sub", "victim")),
    "an audience twice": lambda: Issuer(sign=with_twice("aud", "another")),
    "claims that are no object": lambda: Issuer(
        sign=lambda header, _: make_token({"alg": "RS256", **header}, b"[]", sign_rs256)
    ),
    "no token at all": lambda: Issuer(sign=lambda *_: "a.b"),
    "a token without end": lambda: Issuer(sign=lambda *_: "a" * 100_000),
    "keys without end": lambda: Issuer(
        replies={"/jwks": reply(200, b'{"keys": [' + b" " * 2_000_000 + b"]}")}
    ),
    "too many keys": lambda: Issuer(keys=[public_jwk(rsa_key(), str(each)) for each in range(65)]),
    "keys elsewhere": lambda: Issuer(replies={"/jwks": reply(302, Location="http://127.0.0.1:1/jwks")}),
    "keys that are no JSON": lambda: Issuer(replies={"/jwks": reply(200, b"<html>")}),
    "tokens elsewhere": lambda: Issuer(replies={"/token": reply(307, Location="http://127.0.0.1:1/token")}),
    "tokens that are no JSON": lambda: Issuer(replies={"/token": reply(200, b"access_token=a")}),
    "tokens without an ID token": lambda: Issuer(
        replies={"/token": reply(200, b'{"access_token": "a", "token_type": "Bearer"}')}
    ),
    "a code that is refused": lambda: Issuer(replies={"/token": reply(400, b'{"error": "invalid_grant"}')}),
    "a failing server": lambda: Issuer(replies={"/token": reply(500)}),
    "no issuer in the answer": lambda: Issuer(names_itself=False),
    "claims of another person from userinfo": lambda: Issuer(
        claims={"email": None},
        replies={"/userinfo": reply(200, b'{"sub": "another", "email": "victim@example.com"}')},
    ),
}
# The same in the answer that the browser brings: what a stranger may send to a victim's browser, or put into it.
MEDDLED: dict[str, Callable[[dict[str, str]], dict[str, str]]] = {
    "another state": lambda fields: {**fields, "state": "A" * 43},
    "no state": lambda fields: {**fields, "state": ""},
    "a state that is no ASCII": lambda fields: {
        **fields,
        "state": "é\ud800".encode("utf-8", "replace").decode(),
    },
    "the issuer of another provider": lambda fields: {**fields, "iss": "https://attacker.example"},
    "a code that was never given": lambda fields: {**fields, "code": "never"},
    "no code": lambda fields: {**fields, "code": ""},
    "a code without end": lambda fields: {**fields, "code": "a" * 5000},
    "an error beside the code": lambda fields: {**fields, "error": "access_denied"},
}


# Those that only the provider, or what is known of it, can tell.
SENT_ON = ("the issuer of another provider", "a code that was never given", "a code without end")


async def test_no_hostile_answer_opens_an_account(database: str, tmp_path: Path) -> None:
    assert len(HOSTILE) >= 30
    with ExitStack() as stack:
        issuers = {name: stack.enter_context(make().running()) for name, make in HOSTILE.items()}
        honest = stack.enter_context(Issuer().running())
        environ = provider_environment("HONEST", honest)
        for number, issuer in enumerate(issuers.values()):
            environ |= provider_environment(f"H{number}", issuer)
        async with run_test_service(database, tmp_path, environ) as service:
            for number, (name, issuer) in enumerate(issuers.items()):
                async with visiting(service) as visitor:
                    answer = await visitor.go(f"h{number}", issuer)
                    expected = 503 if name == "a failing server" else 401
                    assert answer.status_code == expected, (name, answer.status_code)
                    assert "regsvc-session" not in visitor.client.cookies, name
            for name, meddle in MEDDLED.items():
                async with visiting(service) as visitor:
                    url = honest.authorize(await visitor.depart("honest"))
                    action, fields = await visitor.arrive(url)
                    answer = await visitor.post(action, meddle(fields))
                    expected = 401 if name in {*SENT_ON} else 400
                    assert answer.status_code == expected, (name, answer.status_code)
            assert await count_rows(database) == dict.fromkeys(COUNTED, 0)
            # The same way with an honest answer opens one: the cases above fail for their lie alone.
            async with visiting(service) as visitor:
                assert (await visitor.go("honest", honest)).headers["Location"] == "/account"
            counted = await count_rows(database)
            assert (counted["users"], counted["identities"], counted["sessions"]) == (1, 1, 1)


async def test_an_answer_is_of_one_browser_one_provider_and_one_use(database: str, tmp_path: Path) -> None:
    """Mix-up, login CSRF and replay: the code is good, the browser, provider or moment is not."""
    with (
        Issuer(answers_once=False).running() as one,
        Issuer(subject="person-2", claims={"email": "bob@example.com"}).running() as two,
    ):
        environ = provider_environment("ONE", one) | provider_environment("TWO", two)
        async with run_test_service(database, tmp_path, environ) as service, visiting(service) as visitor:
            _, fields = await visitor.arrive(one.authorize(await visitor.depart("one")))
            async with visiting(service) as victim:
                assert (await victim.post("/login/with/one/finish", fields)).status_code == 400
                # Nor with a flow of its own under way.
                await victim.depart("one")
                assert (await victim.post("/login/with/one/finish", fields)).status_code == 400
            assert (await visitor.post("/login/with/two/finish", fields)).status_code == 400
            _, fields = await visitor.arrive(one.authorize(await visitor.depart("one")))
            kept = dict(visitor.client.cookies)
            assert (await visitor.post("/login/with/one/finish", fields)).status_code == 303
            async with visiting(service) as thief:
                thief.client.cookies.update(kept)
                assert (await thief.post("/login/with/one/finish", fields)).status_code == 400
            assert sum(login.used for login in one.logins.values()) == 1
            counted = await count_rows(database)
            assert (counted["users"], counted["sessions"]) == (1, 1)


@pytest.mark.parametrize(
    ("issuer", "change", "reason"),
    [
        ("https://issuer.example", {"issuer": "https://attacker.example"}, "metadata of another issuer"),
        ("https://issuer.example", {"issuer": "https://issuer.example/"}, "metadata of another issuer"),
        ("https://issuer.example", {"token_endpoint": "http://issuer.example/token"}, "an unusable URL"),
        ("https://issuer.example", {"token_endpoint": "ftp://issuer.example/token"}, "an unusable URL"),
        ("https://issuer.example", {"jwks_uri": None}, "an unusable URL"),
        ("https://issuer.example", {"jwks_uri": "https://a:b@issuer.example/"}, "an unusable URL"),
        ("https://issuer.example", {"authorization_endpoint": "javascript:alert(1)"}, "an unusable URL"),
        ("https://issuer.example", {"authorization_endpoint": ["https://a.example"]}, "an unusable URL"),
    ],
    ids=["issuer", "slash", "plain", "scheme", "no-keys", "user", "script", "list"],
)
def test_metadata_of_another_kind_is_refused(issuer: str, change: dict[str, Any], reason: str) -> None:
    honest = {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/authorize",
        "token_endpoint": f"{issuer}/token",
        "jwks_uri": f"{issuer}/jwks",
    }
    assert read_metadata(settings_of(issuer), json.dumps(honest).encode()).issuer == issuer
    with pytest.raises(IdentityRefusedError) as refused:
        read_metadata(settings_of(issuer), json.dumps(honest | change).encode())
    assert reason in refused.value.reason


async def test_a_slow_provider_costs_its_deadline_and_no_more() -> None:
    with Issuer().running() as issuer:

        def hang() -> Reply:
            issuer.closing.wait(30)
            return 200, {}, b"{}"

        issuer.replies["/.well-known/openid-configuration"] = hang
        provider = IdentityProvider(settings_of(issuer.url), WebClient(patience=0.2))
        with trio.fail_after(10), pytest.raises(ProviderUnavailableError):
            await provider.make_request(begin_flow("x"), "https://x.example/done")
        # The next browsers do not wait for it again, for a while.
        with trio.fail_after(0.15), pytest.raises(ProviderUnavailableError):
            await provider.make_request(begin_flow("x"), "https://x.example/done")
        issuer.closing.set()
        assert len(issuer.requests) == 1


async def test_no_provider_has_more_than_its_share_of_requests() -> None:
    with Issuer().running() as issuer:
        issuer.replies["/jwks"] = lambda: (issuer.closing.wait(30), (200, {}, b"{}"))[1]
        web = WebClient(patience=20)
        refused = 0

        async def ask() -> None:
            nonlocal refused
            try:
                await web.get(f"{issuer.url}/jwks")
            except ProviderUnavailableError:
                refused += 1
                issuer.closing.set()

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask)
        assert refused == 4


async def test_a_new_key_is_fetched_once_and_unknown_names_do_not_have_it_fetched_again(
    database: str, tmp_path: Path
) -> None:
    with Issuer().running() as issuer:
        environ = provider_environment("ONE", issuer)
        async with run_test_service(database, tmp_path, environ) as service:
            async with visiting(service) as visitor:
                assert (await visitor.go("one", issuer)).status_code == 303
            issuer.header = {"kid": "unknown"}
            for _ in range(5):
                async with visiting(service) as visitor:
                    assert (await visitor.go("one", issuer)).status_code == 401
    assert issuer.requests.count("GET /jwks") == 1
    assert issuer.requests.count("GET /.well-known/openid-configuration") == 1


def settings_of(url: str) -> ProviderSettings:
    return ProviderSettings("x", url, CLIENT_ID, CLIENT_SECRET, label="X")
