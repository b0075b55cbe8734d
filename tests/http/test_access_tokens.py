"""Attacks on access tokens: whatever is wrong with one, it is 401 with a challenge (RFC 8725, RFC 9068, RFC 6750).

Most of them are signed with the service's own key, so that the one thing that is wrong is what refuses them.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest
import trio
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from regsvc.postgres.connection import Connection
from regsvc.security.signing.key_ring import KeyRing
from regsvc.security.signing.key_store import load_key_ring
from regsvc.security.tokens import Secrets, mint_handle, mint_link_token
from tests.http.forgery import MISSING, Forger, encode, hmac_signer, other_spelling
from tests.programs import SharedProgram, talk_to_shared
from tests.services import PASSWORD, SECRET, Service

Attack = Callable[[Forger], str]

STRANGER = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
CLAIMS = ("iss", "aud", "sub", "sid", "jti", "iat", "nbf", "exp", "role")
INSTANTS = ("iat", "nbf", "exp")
TEXTS = ("iss", "aud", "sub", "sid", "jti", "role")
NO_INSTANT: tuple[Any, ...] = (
    *("soon", "4102444800", None, True, [], {}),
    *(4102444800.5, float("inf"), float("-inf"), float("nan")),
)
NO_TEXT: tuple[Any, ...] = (1, None, True, [], {}, [""], "")


@pytest.fixture(scope="module")
def forger(shared_program: SharedProgram) -> Forger:
    """The service's own key, and what stands in a token that it gave to somebody."""
    database, issuer = (shared_program.environ[f"REGSVC_{name}"] for name in ("DATABASE_URL", "PUBLIC_URL"))

    async def load() -> tuple[KeyRing, str]:
        address = f"{uuid4()}@example.com"
        async with talk_to_shared(shared_program) as service:
            await service.confirm(address)
            header = await service.log_in(address)
        async with await Connection.connect(database) as conn:
            ring = await load_key_ring(conn, Secrets(SECRET.encode()), issuer)
        return ring, header["Authorization"].removeprefix("Bearer ")

    ring, token = trio.run(load)
    claims = jwt.decode(token, options={"verify_signature": False})
    private = ring.private.key
    assert isinstance(private, Ed25519PrivateKey)
    return Forger(private, jwt.get_unverified_header(token), claims)


def rs256(forger: Forger) -> str:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return forger.forge(h_alg="RS256", sign=lambda data: key.sign(data, padding.PKCS1v15(), SHA256()))


def es256(forger: Forger) -> str:
    key = ec.generate_private_key(ec.SECP256R1())
    return forger.forge(h_alg="ES256", sign=lambda data: key.sign(data, ec.ECDSA(SHA256())))


def own_jwk() -> dict[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": encode(STRANGER.public_key().public_bytes_raw())}


def with_segment(index: int, change: Callable[[str], str]) -> Attack:
    """Change one segment of a good token."""

    def attack(forger: Forger) -> str:
        parts = forger.parts()
        parts[index] = change(parts[index])
        return ".".join(parts)

    return attack


def other_ending(segment: str) -> str:
    """Set the bits of the last character that carry nothing."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return segment[:-1] + alphabet[alphabet.index(segment[-1]) ^ 1]


def other_alphabet(forger: Forger) -> str:
    """Return a token whose signature has the characters of plain base64."""
    while not set((parts := forger.forge(jti=uuid4().hex).split("."))[2]) & {"-", "_"}:
        pass
    return ".".join([*parts[:2], parts[2].replace("-", "+").replace("_", "/")])


def each(what: str, values: Iterable[Any], attack: Callable[[Any, Forger], str]) -> dict[str, Attack]:
    """Make one attack of every value."""
    return {f"{what} {value!r}"[:40]: partial(attack, value) for value in values}


UNSIGNED = ("none", "None", "NONE", "nOnE", "", None, MISSING)
ALGORITHMS = (
    *("none", "EdDSA ", "eddsa", "Ed25519", "Ed448", "HS256", ""),
    *(None, MISSING, 1, True, ["EdDSA"], {"EdDSA": 1}),
)
KIDS: tuple[object, ...] = (
    *("", "unknown", "../../../../dev/null", "/etc/passwd", "' OR 1=1 --", "x" * 1000, "\0"),
    *(None, MISSING, 1, [], {}),
)
TYPES: tuple[object, ...] = ("JWT", "jwt", "at+jwt ", "rt+jwt", "", None, MISSING, 1, ["at+jwt"], {})
HEADERS: dict[str, Any] = {
    "jku": "https://evil.example/jwks.json",
    "x5u": "https://evil.example/x.pem",
    "x5c": ["MIIB"],
    "x5t": "AA",
    "jwk": {},
    "zip": "DEF",
    "cty": "JWT",
    "enc": "A256GCM",
    "b64": True,
    "nonce": "x",
}

ATTACKS: dict[str, Attack] = {
    **each("alg, unsigned,", UNSIGNED, lambda alg, f: f.forge(h_alg=alg, sign=lambda _: b"")),
    **each("alg", ALGORITHMS, lambda alg, f: f.forge(h_alg=alg)),
    **each("HS256 with the public key, spelling", range(5),
           lambda n, f: f.forge(h_alg="HS256", sign=hmac_signer(f.public_spellings[n]))),
    "HS256 with the service's secret": lambda f: f.forge(h_alg="HS256", sign=hmac_signer(SECRET.encode())),
    "RS256": rs256,
    "ES256": es256,
    "key of a stranger": lambda f: f.forge(sign=STRANGER.sign),
    "key of a stranger in jwk": lambda f: f.forge(sign=STRANGER.sign, h_jwk=own_jwk()),
    "key of a stranger in jwk, without kid": lambda f: f.forge(sign=STRANGER.sign, h_jwk=own_jwk(), h_kid=MISSING),
    **each("header", HEADERS, lambda name, f: f.forge(**{f"h_{name}": HEADERS[name]})),
    **each("crit", (["exp"], [], ["b64"], None, "exp"), lambda crit, f: f.forge(h_crit=crit)),
    "b64 false": lambda f: f.forge(h_crit=["b64"], h_b64=False),
    **each("kid", KIDS, lambda kid, f: f.forge(h_kid=kid)),
    **each("typ", TYPES, lambda typ, f: f.forge(h_typ=typ)),
    **each("without", CLAIMS, lambda name, f: f.forge(**{name: MISSING})),
    **each("wrong", itertools.product(INSTANTS, NO_INSTANT), lambda pair, f: f.forge(**{pair[0]: pair[1]})),
    **each("wrong", itertools.product(TEXTS, NO_TEXT), lambda pair, f: f.forge(**{pair[0]: pair[1]})),
    "issuer of another": lambda f: f.forge(iss="https://evil.example"),
    "issuer with a slash": lambda f: f.forge(iss=f.claims["iss"] + "/"),
    "audience of another": lambda f: f.forge(aud="https://evil.example"),
    "audience in a list": lambda f: f.forge(aud=[f.claims["aud"]]),
    "audience among others": lambda f: f.forge(aud=[f.claims["aud"], "https://evil.example"]),
    "subject that is no id": lambda f: f.forge(sub="ann@example.com"),
    "subject in other words": lambda f: f.forge(sub="{" + f.claims["sub"] + "}"),
    "subject of nobody": lambda f: f.forge(sub=str(uuid4())),
    "session of nobody": lambda f: f.forge(sid=str(uuid4())),
    "session in other words": lambda f: f.forge(sid="urn:uuid:" + f.claims["sid"]),
    "expired": lambda f: f.forge(exp=f.after(-31)),
    "expired long ago": lambda f: f.forge(exp=0),
    "expires beyond all numbers": lambda f: f.forge(exp=10**400),
    "not yet good": lambda f: f.forge(nbf=f.after(60)),
    "issued in the future": lambda f: f.forge(iat=f.after(60)),
    **each("claims", ([], "text", 1, True, [{}]), lambda body, f: f.forge(body=body)),
    "claims are no JSON": lambda f: f.seal(json.dumps(dict(f.header)).encode(), b"{"),
    "claims are not UTF-8": lambda f: f.seal(json.dumps(dict(f.header)).encode(), b'{"iss": "\xff"}'),
    "header is no JSON": lambda f: f.seal(b"{", json.dumps(dict(f.claims)).encode()),
    "header is a list": lambda f: f.seal(b"[]", json.dumps(dict(f.claims)).encode()),
    "header is nothing": lambda f: f.seal(b"", json.dumps(dict(f.claims)).encode()),
    "header is nested deeply": lambda f: f.seal(b"[" * 1400, b"{}"),
    "header has a byte order mark": lambda f: f.seal(b"\xef\xbb\xbf" + json.dumps(dict(f.header)).encode(), b"{}"),
    "claims are changed": with_segment(1, lambda _: encode(b'{"role": "admin"}')),
    "signature is cut": with_segment(2, lambda s: s[:-1]),
    "signature is cut by a group": with_segment(2, lambda s: s[:-4]),
    "signature is longer": with_segment(2, lambda s: s + "AAAA"),
    "signature is empty": with_segment(2, lambda _: ""),
    "signature is of zeros": with_segment(2, lambda _: encode(bytes(64))),
    "signature has another ending": with_segment(2, other_ending),
    "signature in other numbers": lambda f: f.forge(sign=lambda data: other_spelling(f.private.sign(data))),
    "signature in another alphabet": other_alphabet,
    **each("within segment", itertools.product(range(3), (" ", "!", "=", "%2e", "~")),
           lambda at, f: with_segment(at[0], lambda s: s[:9] + at[1] + s[9:])(f)),
    **each("after segment", itertools.product(range(3), ("=", "==", "!", "A")),
           lambda at, f: with_segment(at[0], lambda s: s + at[1])(f)),
    "no segment": lambda _: "...",
    "one segment": lambda f: f.parts()[0],
    "two segments": lambda f: ".".join(f.parts()[:2]),
    "four segments": lambda f: f.forge() + ".AAAA",
    "an empty fourth segment": lambda f: f.forge() + ".",
    "five segments, as if encrypted": lambda f: f.forge() + ".AAAA.AAAA",
    "two tokens": lambda f: f"{f.forge()},{f.forge()}",
    "two tokens and a space": lambda f: f"{f.forge()} {f.forge()}",
    "quoted": lambda f: f'"{f.forge()}"',
    "as a member of JSON": lambda f: json.dumps({"token": f.forge()}),
    "over 4 KiB": lambda f: f.forge(jti="x" * 4096),
    "the session's id": lambda f: str(f.claims["sid"]),
    "a handle": lambda _: mint_handle(Secrets(SECRET.encode()), uuid4()),
    "a link's token": lambda _: mint_link_token(Secrets(SECRET.encode()), uuid4(), "ann@example.com"),
}  # fmt: skip


async def ask(service: Service, *authorization: str) -> httpx.Response:
    """Ask for the profile with so many headers of this kind."""
    headers = [("Authorization", value) for value in authorization]
    return await service.client.get("/api/v1/me", headers=headers)


def check_challenge(answer: httpx.Response) -> None:
    """Check that an answer refuses the token and says how to bring a good one (RFC 6750, section 3)."""
    assert (answer.status_code, answer.json()["code"]) == (401, "access_token_invalid"), answer.text
    brought = answer.request.headers.get("Authorization", "").lower().startswith("bearer ")
    # A request that brings no bearer token is told no error (3.1).
    assert answer.headers["WWW-Authenticate"] == ('Bearer error="invalid_token"' if brought else "Bearer")


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
async def test_a_token_with_one_thing_wrong_is_401(
    shared_service: Service, forger: Forger, attack: Attack
) -> None:
    check_challenge(await ask(shared_service, f"Bearer {attack(forger)}"))


async def test_a_token_with_nothing_wrong_is_good_however_the_scheme_is_written(
    shared_service: Service, forger: Forger
) -> None:
    for scheme in ("Bearer", "bearer", "BEARER", "Bearer  "):
        assert (await ask(shared_service, f"{scheme} {forger.forge()}")).status_code == 200
    for token in (forger.forge(exp=forger.after(-20)), forger.forge(nbf=forger.after(20))):  # clocks differ
        assert (await ask(shared_service, f"Bearer {token}")).status_code == 200


async def test_a_good_token_in_any_other_place_is_401(shared_service: Service, forger: Forger) -> None:
    token = forger.forge()
    for value in (
        token,
        f"Bearer{token}",
        f"Basic {token}",
        f"DPoP {token}",
        f"Bearer\t{token}",
        f"Bearer, {token}",
    ):
        check_challenge(await ask(shared_service, value))
    for url in (f"/api/v1/me?access_token={token}", f"/api/v1/me?token={token}"):
        check_challenge(await shared_service.client.get(url))


async def test_a_good_token_beside_another_authorization_is_refused(
    shared_service: Service, forger: Forger
) -> None:
    token = forger.forge()
    for values in (
        (f"Bearer {token}",) * 2,
        ("Bearer x", f"Bearer {token}"),
        (f"Bearer {token}", "Basic eDp5"),
    ):
        answer = await ask(shared_service, *values)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_request"), answer.text
    for headers in ({"Cookie": f"access_token={token}"}, {"Proxy-Authorization": f"Bearer {token}"}):
        check_challenge(await shared_service.client.get("/api/v1/me", headers=headers))
    answer = await shared_service.client.patch("/api/v1/me", json={"access_token": token, "name": "B"})
    check_challenge(answer)


async def test_a_refresh_token_is_no_access_token_and_the_other_way_round(shared_service: Service) -> None:
    address = f"{uuid4()}@example.com"
    await shared_service.confirm(address)
    tokens = (await shared_service.post("/login", {"email": address, "password": PASSWORD})).json()
    check_challenge(await ask(shared_service, f"Bearer {tokens['refresh_token']}"))
    answer = await shared_service.post("/token/refresh", {"refresh_token": tokens["access_token"]})
    assert (answer.status_code, answer.json()["code"]) in {
        (401, "refresh_token_invalid"),
        (400, "validation_failed"),
    }


async def test_every_call_that_needs_a_token_is_401_without_a_good_one(
    shared_service: Service, forger: Forger
) -> None:
    """Whatever the description says is for whoever has a token, in all of its methods."""
    document = (await shared_service.client.get("/openapi.json")).json()
    guarded = [
        (method, path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if operation["security"]
    ]
    assert len(guarded) > 5
    bad = forger.forge(sign=STRANGER.sign)
    for method, path in guarded:
        url = path.replace("{", "").replace("}", "")
        for headers in ({}, {"Authorization": f"Bearer {bad}"}):
            answer = await shared_service.client.request(method, url, headers=headers, json={})
            check_challenge(answer)
