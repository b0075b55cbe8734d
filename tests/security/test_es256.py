"""Access tokens signed with ES256, for services that cannot verify EdDSA."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.hashes import SHA256

from regsvc.config.settings import TokenAlgorithm
from regsvc.postgres.pool import Pool
from regsvc.security.signing.access_token import AccessToken, AccessTokenInvalidError
from regsvc.security.signing.algorithms import ALGORITHMS
from regsvc.security.signing.key_ring import KeyRing
from regsvc.security.signing.key_store import announce_algorithm, list_keys, load_key_ring, rotate_keys
from regsvc.security.tokens import Secrets

ISSUER = "https://accounts.example.org"
SECRETS = Secrets(b"a secret of the tests with 32 bytes")
SOMEBODY = AccessToken(uuid4(), uuid4(), "user")
ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256


def make_ring() -> KeyRing:
    """Return a ring with a key of each algorithm, of which ES256 signs."""
    elliptic, edwards = ALGORITHMS["ES256"].generate(), ALGORITHMS["EdDSA"].generate()
    return KeyRing(ISSUER, "p", elliptic, {"p": elliptic.public, "e": edwards.public})


def encode(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    return urlsafe_b64decode(text + "==")


def test_a_token_is_verified_by_us_and_by_a_library_with_the_published_key() -> None:
    ring = make_ring()
    text = ring.sign(SOMEBODY)
    assert ring.verify(text) == SOMEBODY
    assert jwt.get_unverified_header(text) == {"alg": "ES256", "kid": "p", "typ": "at+jwt"}
    published = {key["kid"]: key for key in ring.jwks()["keys"]}
    assert published["p"].keys() == {"kty", "crv", "x", "y", "kid", "alg", "use"}  # RFC 7518, 6.2.1
    key = jwt.PyJWK(published["p"]).key
    claims = jwt.decode(text, key, algorithms=["ES256"], audience=ISSUER, issuer=ISSUER)
    assert claims["sub"] == str(SOMEBODY.user_id)


def test_a_key_read_back_signs_and_verifies_as_before() -> None:
    for algorithm in ALGORITHMS.values():
        private = algorithm.generate()
        again = algorithm.load_private(private.raw)
        public = algorithm.load_public(private.public.raw)
        text = KeyRing(ISSUER, "k", again, {}).sign(SOMEBODY)
        assert KeyRing(ISSUER, "k", private, {"k": public}).verify(text) == SOMEBODY


def with_header(**members: str) -> Callable[[KeyRing], str]:
    """Sign a good token's claims under another header, with the right key."""

    def forge(ring: KeyRing) -> str:
        _, payload, _ = ring.sign(SOMEBODY).split(".")
        header = {"alg": "ES256", "kid": "p", "typ": "at+jwt", **members}
        signed = f"{encode(json.dumps(header).encode())}.{payload}"
        return f"{signed}.{encode(sign(ring, signed))}"

    return forge


def sign(ring: KeyRing, signed: str) -> bytes:
    return jwt.get_algorithm_by_name("ES256").sign(signed.encode(), ring.private.key)


def with_signature(change: Callable[[bytes], bytes]) -> Callable[[KeyRing], str]:
    def forge(ring: KeyRing) -> str:
        signed, _, signature = ring.sign(SOMEBODY).rpartition(".")
        return f"{signed}.{encode(change(decode(signature)))}"

    return forge


def as_der(ring: KeyRing) -> str:
    signed, _, _ = ring.sign(SOMEBODY).rpartition(".")
    assert isinstance(ring.private.key, EllipticCurvePrivateKey)
    return f"{signed}.{encode(ring.private.key.sign(signed.encode(), ECDSA(SHA256())))}"


FORGERIES: dict[str, Callable[[KeyRing], str]] = {
    "other algorithm": with_header(alg="EdDSA"),
    "no algorithm": with_header(alg="none"),
    "other key": with_header(kid="e"),
    "other key and algorithm": with_header(kid="e", alg="EdDSA"),
    "der": as_der,
    "zeros": with_signature(lambda _: bytes(64)),
    "r zero": with_signature(lambda text: bytes(32) + text[32:]),
    "s zero": with_signature(lambda text: text[:32] + bytes(32)),
    "order": with_signature(lambda _: ORDER.to_bytes(32, "big") * 2),
    "r beyond the order": with_signature(
        lambda text: (
            (int.from_bytes(text[:32], "big") + ORDER & (1 << 256) - 1).to_bytes(32, "big") + text[32:]
        )
    ),
    "halves exchanged": with_signature(lambda text: text[32:] + text[:32]),
    "one bit": with_signature(lambda text: text[:-1] + bytes([text[-1] ^ 4])),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forged_token_is_refused(forgery: str) -> None:
    ring = make_ring()
    with pytest.raises(AccessTokenInvalidError):
        ring.verify(FORGERIES[forgery](ring))


async def load(pool: Pool, algorithm: TokenAlgorithm = "EdDSA") -> KeyRing:
    async with pool.connection() as conn:
        return await load_key_ring(conn, SECRETS, ISSUER, algorithm)


async def announce(pool: Pool, algorithm: TokenAlgorithm) -> str | None:
    async with pool.connection() as conn:
        return await announce_algorithm(conn, SECRETS, algorithm)


async def states(pool: Pool) -> list[tuple[str, str]]:
    async with pool.connection() as conn:
        return [(key.algorithm, key.state) for key in await list_keys(conn)]


async def test_the_first_key_is_of_the_algorithm_that_is_set(pool: Pool) -> None:
    ring = await load(pool, "ES256")
    assert await states(pool) == [("ES256", "signing")]
    assert (await load(pool)).verify(ring.sign(SOMEBODY)) == SOMEBODY
    assert await announce(pool, "ES256") is None


async def test_another_algorithm_is_announced_once_and_signs_after_the_usual_wait(pool: Pool) -> None:
    before = (await load(pool)).sign(SOMEBODY)
    kid = await announce(pool, "ES256")
    assert await announce(pool, "ES256") is None
    assert await states(pool) == [("ES256", "announced"), ("EdDSA", "signing")]
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE signing_keys SET signs_from = signs_from - interval '13 min',"
            " retired_at = retired_at - interval '13 min'"
        )
    after = await load(pool)
    assert after.signer == kid
    assert jwt.get_unverified_header(after.sign(SOMEBODY))["alg"] == "ES256"
    assert after.verify(before) == SOMEBODY


async def test_a_rotation_keeps_the_algorithm(pool: Pool) -> None:
    await load(pool, "ES256")
    async with pool.transaction() as conn:
        await rotate_keys(conn, SECRETS)
    assert await states(pool) == [("ES256", "announced"), ("ES256", "signing")]
