"""A service that leaks is found out, whatever it leaks by; one that does not is let off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import pytest

from regsvc.errors import ConfigurationError
from regsvc.selftest.caller import Caller, HeldBackError, UnreachableError
from regsvc.selftest.enumeration import Stranger, UnexpectedAnswerError
from regsvc.selftest.measurement import Measurement
from regsvc.selftest.people import Account, Addresses, check_account
from tests.selftest.stand_in import KNOWN, PASSWORD, Answer, Call, Leak, running, wait

SAMPLES = 40
SINGLE = ("register", "login, wrong password", "login, password of the sign-up", "resend", "forgot")


def measure(leak: Leak, samples: int = SAMPLES, *, pages: bool = False) -> dict[str, Measurement]:
    """Measure a stand-in with a leak."""
    with running(leak, pages=pages) as url, closing(Caller(url)) as caller:
        account = Account(KNOWN, PASSWORD)
        check_account(caller, account)
        found = Stranger(caller, account, Addresses(KNOWN), None).measure_all(samples, lambda _: None)
    return {measurement.name: measurement for measurement in found}


def verdicts(found: dict[str, Measurement]) -> dict[str, str]:
    return {
        name: measurement.verdict for name, measurement in found.items() if measurement.verdict != "alike"
    }


def is_known(call: Call) -> bool:
    return call.email == KNOWN


def is_pending(call: Call) -> bool:
    return call.email in call.signed_up and call.email != KNOWN


def slow(name: str, whose: Callable[[Call], bool]) -> Leak:
    """Take 5 ms longer for some."""

    def leak(call: Call) -> None:
        if call.name == name and whose(call):
            wait(0.005)

    return leak


def different(name: str, whose: Callable[[Call], bool], change: Callable[[Answer], Answer]) -> Leak:
    """Answer some otherwise."""
    return lambda call: change(call.answer) if call.name == name and whose(call) else None


def test_a_service_that_answers_everybody_alike_is_let_off() -> None:
    """A busy machine may leave something unclear, but not most of it, and not again and again."""
    for _ in range(5):
        found = measure(lambda _: None)
        assert set(SINGLE) < set(found)
        assert "distinguishable" not in verdicts(found).values()
        assert not any(measurement.answers_differ for measurement in found.values())
        if len(verdicts(found)) < len(found) / 2:
            return
    pytest.fail(f"most of it stays unclear: {verdicts(found)}")


@pytest.mark.parametrize(
    ("call", "whose", "named"),
    [
        ("POST /api/v1/register", is_known, "register"),
        ("POST /api/v1/login", is_pending, "login, wrong password"),
        ("POST /api/v1/confirm-email/resend", is_known, "resend"),
        ("POST /api/v1/password/forgot", is_known, "forgot"),
        ("PATCH /api/v1/registrations/ID", is_known, "change of a sign-up's address"),
        ("GET /api/v1/registrations/ID", is_known, "after a sign-up: until its mail is sent"),
    ],
)
def test_a_call_that_takes_longer_for_some_is_found(
    call: str, whose: Callable[[Call], bool], named: str
) -> None:
    found = measure(slow(call, whose))
    assert verdicts(found)[named] == "distinguishable"
    assert not found[named].answers_differ


CHANGES: dict[str, Callable[[Answer], Answer]] = {
    "status": lambda answer: (409, *answer[1:]),
    "header": lambda answer: (answer[0], {**answer[1], "X-Account": "1"}, answer[2]),
    "value of a header": lambda answer: (answer[0], {**answer[1], "Content-Type": "text/plain"}, answer[2]),
    "member": lambda answer: (answer[0], answer[1], {**answer[2], "exists": True}),
    "space": lambda answer: (answer[0], answer[1], {"message": "welcome "}),
}


def test_the_last_answer_of_a_connection_is_no_leak() -> None:
    change = different(
        "POST /api/v1/login", is_known, lambda answer: (answer[0], {"Connection": "close"}, answer[2])
    )
    found = measure(change, 10)
    assert not any(measurement.answers_differ for measurement in found.values())


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_an_answer_that_differs_for_some_is_found(change: Callable[[Answer], Answer]) -> None:
    found = measure(different("POST /api/v1/confirm-email/resend", is_pending, change), 10)
    assert found["resend"].answers_differ
    assert found["resend"].verdict == "distinguishable"


def test_what_only_a_second_call_shows_is_found() -> None:
    """The live status, or a code, of whoever signs up for an address with an account."""
    for name, named in (
        ("GET /api/v1/registrations/ID", "until its mail is sent"),
        ("POST /api/v1/confirm-email/code", "code"),
    ):
        leak = different(name, is_known, lambda answer: (answer[0], {}, {"state": "sent", "seq": 4}))
        found = measure(leak, 10)
        assert list(verdicts(found)) == [f"after a sign-up: {named}"]


@pytest.mark.parametrize(
    ("call", "named"),
    [
        ("POST /login", "page: login, wrong password"),
        ("POST /forgot", "page: forgot"),
        ("GET /signup/status", "page: sign-up"),
    ],
)
def test_a_page_that_differs_for_some_is_found(call: str, named: str) -> None:
    """The address that it shows is no difference."""
    change = different(
        call, is_known, lambda answer: (answer[0], answer[1], {**answer[2], "greeting": "Hello again"})
    )
    found = measure(change, 10, pages=True)
    assert {name for name, each in found.items() if each.answers_differ} == {named}


def test_one_call_may_be_measured_alone() -> None:
    with running(lambda _: None) as url, closing(Caller(url)) as caller:
        stranger = Stranger(caller, Account(KNOWN, PASSWORD), Addresses(KNOWN), None)
        found = stranger.measure_all(11, lambda _: None, only="login, ")
    assert [measurement.name for measurement in found] == list(SINGLE[1:3])


def test_a_service_with_limits_is_not_measured() -> None:
    limited = different(
        "POST /api/v1/confirm-email/resend", lambda _: True, lambda _: (429, {}, {"code": "too_soon"})
    )
    with pytest.raises(HeldBackError, match="REGSVC_RATE_LIMITS=off"):
        measure(limited)


def test_a_call_that_fails_for_everybody_is_not_taken_for_alike() -> None:
    broken = different(
        "POST /api/v1/password/forgot", lambda _: True, lambda _: (404, {}, {"code": "not_found"})
    )
    with pytest.raises(UnexpectedAnswerError, match="forgot is answered with 404"):
        measure(broken, 10)


def test_an_account_that_is_none_and_a_url_that_is_none_are_named() -> None:
    with (
        running(lambda _: None) as url,
        closing(Caller(url)) as caller,
        pytest.raises(ConfigurationError, match=KNOWN),
    ):
        check_account(caller, Account(KNOWN, "wrong"))
    for wrong in ("localhost", "ftp://x", "http://", "http://x/api"):
        with pytest.raises(ConfigurationError, match="looks like"):
            Caller(wrong)
    with pytest.raises(UnreachableError, match="reached"):
        Caller("http://127.0.0.1:1").call("GET", "/")
