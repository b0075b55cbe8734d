"""Proof of work: right solutions count for their purpose and time, and nothing else does."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import altcha
import pytest

from regsvc.security import challenge
from regsvc.security.challenge import WORK, mint_challenge, read_solution
from regsvc.security.tokens import Secrets
from regsvc.selftest.caller import solve

OLD, NEW = Secrets(b"o" * 32), Secrets(b"n" * 32, b"o" * 32)
Change = Callable[[dict[str, Any]], object]


@pytest.fixture(scope="module")
def solved() -> dict[str, Any]:
    """A task of the old secret, with its solution."""
    task = mint_challenge(OLD, "register")
    payload: dict[str, Any] = json.loads(base64.b64decode(solve(task)))
    assert 0 <= payload["solution"]["counter"] < WORK
    return payload


def write(payload: object) -> str:
    return base64.b64encode(json.dumps(payload).encode()).decode()


def test_a_solution_counts_for_its_purpose_alone(solved: dict[str, Any]) -> None:
    text = write(solved)
    found = read_solution(OLD, text, "register")
    assert found is not None
    assert found.signature == solved["challenge"]["signature"]
    assert read_solution(OLD, text, "login") is None


def test_a_solution_outlives_a_rotation_of_the_secret(solved: dict[str, Any]) -> None:
    assert read_solution(NEW, write(solved), "register") is not None
    assert read_solution(Secrets(b"n" * 32), write(solved), "register") is None


def test_two_tasks_are_never_the_same() -> None:
    assert mint_challenge(OLD, "login")["signature"] != mint_challenge(OLD, "login")["signature"]


def test_a_task_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(challenge, "LIFE", -1)
    assert read_solution(OLD, solve(mint_challenge(OLD, "register")), "register") is None


CHANGES: dict[str, Change] = {
    "another number": lambda it: it["solution"].update(counter=it["solution"]["counter"] + 1),
    "a number that is none": lambda it: it["solution"].update(counter="1"),
    "a negative number": lambda it: it["solution"].update(counter=-1),
    "a fraction": lambda it: it["solution"].update(counter=0.5),
    "another hash": lambda it: it["solution"].update(derivedKey="00" * 32),
    "no hash": lambda it: it["solution"].pop("derivedKey"),
    "an easier task": lambda it: it["challenge"]["parameters"].update(keyPrefix=""),
    "a dearer task": lambda it: it["challenge"]["parameters"].update(cost=10**9),
    "a task without end": lambda it: it["challenge"]["parameters"].pop("expiresAt"),
    "a later end": lambda it: it["challenge"]["parameters"].update(expiresAt=4_000_000_000),
    "another purpose": lambda it: it["challenge"]["parameters"].update(data={"purpose": "login"}),
    "no signature": lambda it: it["challenge"].pop("signature"),
    "a signature in capitals": lambda it: it["challenge"].update(
        signature=it["challenge"]["signature"].upper()
    ),
    "no parameters": lambda it: it.update(challenge={}),
    "a list for a task": lambda it: it.update(challenge=[]),
    "a text for parameters": lambda it: it["challenge"].update(parameters="x"),
    "a key of another kind": lambda it: it["challenge"]["parameters"].update(nonce=1),
    "nothing": dict.clear,
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_was_changed_counts_for_nothing(solved: dict[str, Any], change: Change) -> None:
    copied = json.loads(json.dumps(solved))
    change(copied)
    assert read_solution(OLD, write(copied), "register") is None
    assert read_solution(OLD, write(copied), "login") is None


@pytest.mark.parametrize(
    "text",
    ["", "x", "é", "=" * 9, write([]), write("text"), write(None), write(1), write({}), "A" * 3000]
    + [base64.b64encode(raw).decode() for raw in (b"\xff", b"[" * 900, b'{"challenge": NaN}')],
    ids=lambda text: f"{len(text)}-{text[:6]!a}",
)
def test_what_is_no_solution_counts_for_nothing(text: str) -> None:
    assert read_solution(OLD, text, "register") is None


def test_a_task_of_anothers_making_counts_for_nothing() -> None:
    task = altcha.create_challenge("SHA-256", 1, counter=1, data={"purpose": "register"}, hmac_secret=b"own")
    assert read_solution(OLD, solve(task.to_dict()), "register") is None
