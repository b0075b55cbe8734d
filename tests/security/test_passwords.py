"""Passwords: the policy, what is stored, and that every verification costs the same."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import time

import bcrypt
import pytest
import trio
import trio.testing

from regsvc.errors import OverloadedError
from regsvc.security.password_rules import Policy, check_password
from regsvc.security.passwords import HashingLane, Verdict, fold

PEPPERS = {"new": b"n" * 32, "old": b"o" * 32}
WRONG = Verdict(ok=False)
UNREADABLE = Verdict(ok=False, unreadable=True)


def make_lane(*, cost: int = 10, pepper: str = "new", peppers: dict[str, bytes] = PEPPERS) -> HashingLane:
    return HashingLane(cost=cost, pepper=pepper, peppers=peppers)


def plain(password: bytes, *, cost: int = 4, version: str = "2b") -> str:
    """What another system stored."""
    return bcrypt.hashpw(password, bcrypt.gensalt(cost)).decode().replace("$2b$", f"${version}$", 1)


def codes(policy: Policy, password: str, *, common: frozenset[str] = frozenset()) -> list[str]:
    found = check_password(policy, password, email="Ann.Lee@example.com", name="Zoë Ann Lee", common=common)
    assert all(weakness.detail for weakness in found)
    return [weakness.code for weakness in found]


# --- policy -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("x" * 7, ["too_short"]),
        ("x" * 8, []),
        ("x" * 72, []),
        ("x" * 73, []),
        ("x" * 128, []),
        ("x" * 129, ["too_long"]),
        ("密" * 64, []),
        ("🔑" * 8, []),
        ("🔑" * 7, ["too_short"]),
        ("nul\0inside", []),
        ("e\u0301" * 7, ["too_short"]),  # seven letters, however they are typed
        ("e\u0301" * 128, []),
        ("", ["too_short"]),
        ("aNN.lEE@EXAMPLE.com", ["same_as_email"]),
        ("ann.lee@example.com!", []),
        ("zOË ann LEE", ["same_as_name"]),
        ("zoe\u0308 ann lee", ["same_as_name"]),
    ],
)
def test_basic_wants_8_to_128_characters_that_are_neither_address_nor_name(
    password: str, expected: list[str]
) -> None:
    assert codes("basic", password) == expected


@pytest.mark.parametrize(
    ("password", "expected"),
    [
        ("x" * 14, ["too_short"]),
        ("qwertz uiop asdf", []),
        ("q" * 129, ["too_long"]),
        ("ann.lee@example.com", ["same_as_email"]),
        ("AnnLeeAnnLeeAnnLee1", ["context_words"]),
        ("example-zoë-2024", ["context_words"]),
        ("ann likes green trees", []),  # a name within a phrase is no weakness
        ("Correct Horse Battery", ["common"]),
    ],
)
def test_strict_wants_15_characters_and_more_than_what_everybody_would_try(
    password: str, expected: list[str]
) -> None:
    assert codes("strict", password, common=frozenset({fold("correct horse battery")})) == expected


def test_the_name_is_compared_however_its_letters_are_composed() -> None:
    (weakness,) = check_password("basic", "zo\u00eb ann lee", email="a@example.com", name="Zoe\u0308 Ann Lee")
    assert weakness.code == "same_as_name"


# --- what is stored ---------------------------------------------------------------------------------------


async def test_what_is_stored_names_scheme_and_pepper_and_is_bcrypt_of_a_keyed_hash() -> None:
    async with make_lane() as lane:
        stored = await lane.hash("password123")
    assert re.fullmatch(r"\$hmac-sha384-bcrypt\$new\$2b\$10\$[./A-Za-z0-9]{53}", stored)
    key = base64.b64encode(hmac.new(PEPPERS["new"], b"password123", hashlib.sha384).digest())
    assert bcrypt.checkpw(key, stored.removeprefix("$hmac-sha384-bcrypt$new").encode())


@pytest.mark.parametrize(
    ("password", "other"),
    [
        ("password123", "password124"),
        ("x" * 73 + "a", "x" * 73 + "b"),  # bcrypt alone would not see the difference
        ("nul\0a", "nul\0b"),
        ("密" * 64, "密" * 63 + "码"),
        ("lone \ud800 surrogate", "lone \ud801 surrogate"),
    ],
)
async def test_a_password_verifies_and_another_does_not(password: str, other: str) -> None:
    async with make_lane() as lane:
        stored = await lane.hash(password)
        assert await lane.verify(password, stored) == Verdict(ok=True)
        assert await lane.verify(other, stored) == WRONG


async def test_a_password_is_the_same_however_its_letters_are_composed() -> None:
    async with make_lane() as lane:
        assert (await lane.verify("cafe\u0301 au lait", await lane.hash("caf\u00e9 au lait"))).ok


async def test_one_password_is_never_stored_alike_twice() -> None:
    async with make_lane() as lane:
        assert await lane.hash("password123") != await lane.hash("password123")


# --- rotation and migration -------------------------------------------------------------------------------


async def test_an_older_pepper_verifies_and_asks_for_a_new_hash() -> None:
    async with make_lane(pepper="old") as before, make_lane() as now:
        stored = await before.hash("password123")
        assert await now.verify("password123", stored) == Verdict(ok=True, rehash_needed=True)
        assert await now.verify("password124", stored) == WRONG


async def test_a_hash_of_a_lost_pepper_is_unreadable() -> None:
    async with make_lane(pepper="old") as before, make_lane(peppers={"new": PEPPERS["new"]}) as now:
        assert await now.verify("password123", await before.hash("password123")) == UNREADABLE


async def test_another_cost_asks_for_a_new_hash_once_the_password_is_right() -> None:
    async with make_lane(cost=10) as before, make_lane(cost=11) as now:
        stored = await before.hash("password123")
        assert await now.verify("password123", stored) == Verdict(ok=True, rehash_needed=True)
        assert await now.verify("password124", stored) == WRONG


@pytest.mark.parametrize("version", ["2a", "2b", "2y"])
async def test_plain_bcrypt_of_another_system_verifies_and_asks_for_a_new_hash(version: str) -> None:
    stored = plain(b"password123", version=version)
    async with make_lane() as lane:
        assert await lane.verify("password123", stored) == Verdict(ok=True, rehash_needed=True)
        assert await lane.verify("password124", stored) == WRONG


async def test_plain_bcrypt_sees_72_bytes_as_it_always_did() -> None:
    async with make_lane() as lane:
        assert (await lane.verify("x" * 100, plain(b"x" * 72))).ok
        assert (await lane.verify("密" * 64, plain(("密" * 24).encode()))).ok
        assert not (await lane.verify("x" * 71, plain(b"x" * 72))).ok


async def test_plain_bcrypt_takes_a_password_as_it_was_typed() -> None:
    async with make_lane() as lane:
        assert (await lane.verify("e\u0301" * 8, plain(("e\u0301" * 8).encode()))).ok


# --- one answer in one time -------------------------------------------------------------------------------

DIGEST = "." * 53


@pytest.mark.parametrize(
    "stored",
    [
        "",
        "password123",
        f"$2x$10${DIGEST}",
        f"$2b$03${DIGEST}",
        f"$2b$16${DIGEST}",
        f"$2b$31${DIGEST}",
        f"$2b$99${DIGEST}",
        f"$2b$10${DIGEST}.",
        f"$2b$10${DIGEST[1:]}",
        f"$2b$10${DIGEST}\n",
        f"$2b$10${'.' * 21}A{'.' * 31}",  # a salt that bcrypt refuses at once, without any work
        f"$2b$\u0661\u0660${DIGEST}",  # 10 in Arabic digits, which int() would read
        f"$hmac-sha384-bcrypt$${DIGEST}",
        f"$hmac-sha384-bcrypt$none$2b$10${DIGEST}",
        f"$hmac-sha384-bcrypt$new$2b$16${DIGEST}",
        f"$argon2id$v=19$m=65536,t=3,p=4${DIGEST}",
        "\ud800",
        "密" * 1000,
    ],
)
async def test_nonsense_in_the_database_is_a_wrong_password_and_is_said_to_the_operator(stored: str) -> None:
    async with make_lane() as lane:
        assert await lane.verify("password123", stored) == UNREADABLE
        assert lane.statistics().done == 1  # not without the work


async def test_nobody_has_no_password() -> None:
    async with make_lane() as lane:
        assert await lane.verify("password123", None) == WRONG
        assert lane.statistics().done == 1


async def test_every_verification_does_the_same_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts the rounds asked of bcrypt, which are its time, instead of measuring a busy machine."""
    rounds: list[int] = []
    checkpw, hashpw = bcrypt.checkpw, bcrypt.hashpw

    def count(salt: bytes) -> bytes:
        rounds.append(2 ** int(salt.split(b"$")[2]))
        return salt

    peppered = "$hmac-sha384-bcrypt$old"
    lane = make_lane(cost=11)
    stored = [None, "nonsense", plain(b"a"), plain(b"password123", cost=9), plain(b"a", cost=11)]
    stored += [peppered + plain(b"a", cost=10), f"$2b$31${DIGEST}"]
    monkeypatch.setattr(bcrypt, "checkpw", lambda key, hashed: checkpw(key, count(hashed)))
    monkeypatch.setattr(bcrypt, "hashpw", lambda key, salt: hashpw(key, count(salt)))
    async with lane:
        for each in stored:
            rounds.clear()
            await lane.verify("password123", each)
            assert sum(rounds) == 2**11, each


# --- the lane in front ------------------------------------------------------------------------------------


async def test_beyond_the_line_it_is_overloaded() -> None:
    async with HashingLane(cost=10, pepper="new", peppers=PEPPERS, threads=1, patience=0) as lane:
        await lane.hash("warms the estimate up")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lane.hash, "password123")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(OverloadedError):
                await lane.verify("password123", None)


@pytest.mark.parametrize("cost", [9, 16])
def test_a_cost_that_is_too_low_or_never_ends_is_refused(cost: int) -> None:
    with pytest.raises(ValueError, match="not within 10 to 15"):
        make_lane(cost=cost)


@pytest.mark.parametrize(("pepper", "versions"), [("new", ["old"]), ("a$b", ["a$b"]), ("a", ["a", ""])])
def test_a_pepper_must_be_there_and_its_version_fit_the_stored_string(
    pepper: str, versions: list[str]
) -> None:
    with pytest.raises(ValueError, match="no such pepper"):
        make_lane(pepper=pepper, peppers=dict.fromkeys(versions, b"x" * 32))


def test_hashing_leaves_the_interpreter_to_others() -> None:
    """Bcrypt must release the GIL, or no thread would help anybody: here is never a gap as long as a hash."""
    hashing = threading.Thread(target=bcrypt.hashpw, args=(b"password123", bcrypt.gensalt(12)))
    hashing.start()
    begin = beat = time.perf_counter()
    gap = 0.0
    while hashing.is_alive():
        now = time.perf_counter()
        gap, beat = max(gap, now - beat), now
    assert gap < (beat - begin) / 2
