"""Hashes that other systems made, each with the password that they hashed.

Those of Django and Argon2 were made by Django 5.2 and argon2-cffi; Firebase's is the example of its documentation.
"""

from __future__ import annotations

import base64
import hashlib
import time

import pytest

from regsvc.security.imported.hashes import LONGEST, read_hash
from regsvc.security.passwords import HashingLane, is_migrated_hash

TYPED = "Paßwort 123"
MADE = {
    "Django, PBKDF2 with SHA-256": (
        "pbkdf2_sha256$1200$IXScpxKMU1dm8PchBrxbzR$9eXedi5k4XAqRPEf6XP12I9EqjKP/lPDCT1CnAbFKgw="
    ),
    "Django, PBKDF2 with SHA-1": "pbkdf2_sha1$1200$7u2Zk3XUp0tj9QKE6D5P25$Ww1LfzwBVvMCYDxCOZkxIk0Cov8=",
    "Django, Argon2": (
        "argon2$argon2id$v=19$m=1024,t=1,p=8$YkJHSng1bjU4ajdwdjFVRWQ4dGZnOQ"
        "$LVPrLErZS1KICLhVRuDUkbDKK+fZxjYMXUWFYyHr1d0"
    ),
    "Django, bcrypt of SHA-256": (
        "bcrypt_sha256$$2b$04$BND0RPT/MUYk96AOCH0jAOsyFSRGFPZnl3e0xgx25S.7igSfW46RS"
    ),
    "Django, bcrypt": "bcrypt$$2b$04$DtTPDwFiOCGJFcx/4oyaZ.vwQH58zKySB.mRx0oQboKGGWwVLa6Wa",
    "Django, scrypt": (
        "scrypt$16384$awLJ8b4y53LXM5rE2mLfQH$8$5"
        "$peJsVF1y7xADjOmEd8FLeHfdrxWgDwhMHKhcUL0Xt91Zq2vSjZqG4Y6rbt3lJjF+RbxsuijLR3Po23/0bXoN0Q=="
    ),
    "argon2i": "$argon2i$v=19$m=512,t=2,p=2$EWdOwHgkCH/mvdBqqPNpIw$dx5kI/fsH4HwjS0smcD0arvTXC6tOABryOoTeVvYs60",
    "argon2d": "$argon2d$v=19$m=512,t=2,p=2$JEdTjXStO5XH7Vsu40oRTg$GswhHmsD3aaWDkdUMar6Rib/Q91hXdac1EM5UR32riI",
    "argon2id": "$argon2id$v=19$m=512,t=2,p=2$Af7mbFP18U64uJy+Mon12A$oXYhmS0X0axyi2Y7KhCN9HpjCRBaWiKUvfBWCtd6OR0",
}
FIREBASE = (
    "$firebase-scrypt$ln=14,r=8$Bw==$42xEC+ixf3L2lw=="
    "$lSrfV15cpx95/sZS2W9c9Kp6i/LVgQNDNC/qzrCnh1SAyZvqmZqAjTdn3aoItz+VHjoZilo78198JAdRuid5lQ=="
    "$jxspr8Ki0RYycVU8zykbdLGjFQ3McFUH0uiiTvC8pVMXAn210wjLNmdZJzxUECKbm0QsEmYUSDzZvpjeJ9WmXA=="
)


@pytest.mark.parametrize("system", MADE)
def test_a_hash_matches_its_password_alone(system: str) -> None:
    found = read_hash(MADE[system])
    assert found is not None
    assert found.matches(TYPED.encode())
    for other in (TYPED.lower(), TYPED + " ", "Passwort 123", ""):
        assert not found.matches(other.encode())


def test_firebases_hash_matches_its_password_alone() -> None:
    found = read_hash(FIREBASE)
    assert found is not None
    assert found.matches(b"user1password")
    assert not found.matches(b"user1Password")


@pytest.mark.parametrize("digest", ["sha1", "sha256", "sha512"])
def test_pbkdf2_as_keycloak_has_it_matches(digest: str) -> None:
    salt = bytes(range(16))
    key = base64.b64encode(hashlib.pbkdf2_hmac(digest, TYPED.encode(), salt, 5000, 64)).decode()
    found = read_hash(f"$pbkdf2-{digest}$i=5000${base64.b64encode(salt).decode()}${key}")
    assert found is not None
    assert found.matches(TYPED.encode())
    assert not found.matches(b"x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "!",
        "plain",
        "md5$salt$5f4dcc3b5aa765d61d8327deb882cf99",
        "pbkdf2_sha256$0$salt$AAAA",
        "pbkdf2_sha256$2000001$salt$AAAA",
        "pbkdf2_sha256$99999999$salt$AAAA",
        "pbkdf2_sha256$1200$salt$",
        "pbkdf2_sha256$1200$salt$A",
        "pbkdf2_sha256$1200$salt$!!!!",
        "pbkdf2_sha256$1200$s\u00e4lz$AAAA",
        "$argon2id$v=16$m=512,t=2,p=2$EWdOwHgkCH/mvdBqqPNpIw$AAAAAAAA",
        "$argon2id$v=19$m=9999999,t=2,p=2$EWdOwHgkCH/mvdBqqPNpIw$AAAAAAAA",
        "$argon2id$v=19$m=262144,t=5,p=2$EWdOwHgkCH/mvdBqqPNpIw$AAAAAAAA",
        "$argon2id$v=19$m=8,t=2,p=2$EWdOwHgkCH/mvdBqqPNpIw$AAAAAAAA",
        "$argon2id$v=19$m=512,t=0,p=2$EWdOwHgkCH/mvdBqqPNpIw$AAAAAAAA",
        "$argon2id$v=19$m=512,t=2,p=0$EWdOwHgkCH/mvdBqqPNpIw$AAAAAAAA",
        "$argon2id$v=19$m=512,t=2,p=2$AAAA$AAAAAAAA",
        "scrypt$16383$salt$8$1$AAAA",
        "scrypt$1048576$salt$8$1$AAAA",
        "$firebase-scrypt$ln=21,r=8$Bw==$AAAA$AAAA$AAAA",
        "$firebase-scrypt$ln=14,r=8$Bw==$AAAA$AAAA$AAAAAAAA",
        "bcrypt_sha256$$2b$31$BND0RPT/MUYk96AOCH0jAOsyFSRGFPZnl3e0xgx25S.7igSfW46RS",
        "pbkdf2_sha256$1200$salt$" + "A" * LONGEST,
    ],
)
def test_what_cannot_be_verified_or_would_take_too_long_is_no_hash(text: str) -> None:
    assert read_hash(text) is None
    assert not is_migrated_hash(text)


def make_lane() -> HashingLane:
    return HashingLane(cost=10, pepper="1", peppers={"1": b"x" * 32}, threads=1)


async def test_an_imported_hash_is_to_be_replaced_once_it_matched() -> None:
    async with make_lane() as lane:
        for stored in MADE.values():
            assert is_migrated_hash(stored)
            right, wrong = await lane.verify(TYPED, stored), await lane.verify("x", stored)
            assert (right.ok, right.rehash_needed, right.unreadable) == (True, True, False)
            assert (wrong.ok, wrong.rehash_needed, wrong.unreadable) == (False, False, False)


async def measure(lane: HashingLane, stored: str | None) -> float:
    """Return the quickest of three refusals, in seconds."""
    times = []
    for _ in range(3):
        began = time.perf_counter()
        assert not (await lane.verify("wrong", stored)).ok
        times.append(time.perf_counter() - began)
    return min(times)


async def test_a_refusal_takes_as_long_for_an_imported_hash_as_for_no_account() -> None:
    """Both for a hash that is quicker than ours and for one that is slower; bcrypt of cost 10 takes some 50 ms."""
    slow = "pbkdf2_sha256$1000000$salt$9eXedi5k4XAqRPEf6XP12I9EqjKP/lPDCT1CnAbFKgw="
    async with make_lane() as lane:
        await measure(lane, None)
        own, quick = await measure(lane, None), await measure(lane, MADE["argon2id"])
        assert quick > 0.5 * own
        slower = await measure(lane, slow)
        assert slower > 2.5 * own  # or there is nothing to hide
        assert await measure(lane, None) > 0.5 * slower
        assert await measure(lane, MADE["argon2id"]) > 0.5 * slower
