"""Test from the outside whether a stranger can learn which addresses have an account.

Every call that takes an address is made for one that has an account (known), for one that signed up but is not
confirmed (pending), and for new ones (unknown): in rounds, in random order within each. The replies must be alike in
status, headers, body and time. So must sequences of calls: sign up, then watch, log in, ask for another mail, try a
code.
"""

from __future__ import annotations

import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

from regsvc.errors import ConfigurationError, RegsvcError
from regsvc.selftest.caller import PREFIX, Caller, Reply
from regsvc.selftest.measurement import KINDS, Kind, Measurement, Sample, take
from regsvc.selftest.pages import Browser, has_pages
from regsvc.selftest.people import Account, Addresses, make_password, register
from regsvc.selftest.sequences import Sequences, follow

SAMPLES = 300
_WARM_UP = 3  # rounds before measuring
_CODES = 3  # attempts for each kind, since an address has 30 a day
_BEARER_LIFE = 300.0  # seconds, half the life of an access token
_AFTER = "after a sign-up"
_NEXT = {"until its mail is sent": 200, "login": 401, "resend": 202, "code": 400}
_CLOSED = ("signup_closed", "invitation_needed")


class UnexpectedAnswerError(RegsvcError):
    """A call failed for all addresses, so nothing can be measured with it."""


Ask = Callable[[Kind], Sample]
Report = Callable[[Measurement], None]


@dataclass(frozen=True)
class _Call:
    """A call to measure, and its status when it works."""

    name: str
    status: int
    ask: Ask


class _ChangingUser:
    """A user who asks to change the address of their account; logs in again before the token expires."""

    def __init__(self, caller: Caller, account: Account) -> None:
        self._caller = caller
        self._account = account
        self._bearer: dict[str, str] = {}
        self._since = -_BEARER_LIFE

    def ask(self, address: str) -> Sample:
        """Ask for an email change to an address."""
        password = self._account.password
        if time.monotonic() - self._since > _BEARER_LIFE:
            known = {"email": self._account.email, "password": password}
            reply = self._caller.call("POST", f"{PREFIX}/login", known)
            self._bearer = {"Authorization": f"Bearer {reply.value['access_token']}"}
            self._since = time.monotonic()
        body = {"email": address, "password": password}
        return take(self._caller.call("POST", f"{PREFIX}/me/email", body, self._bearer))


class Stranger:
    """A client that tries to find out which addresses have an account.

    Args:
        caller: makes the calls.
        known: an existing account; its password is used only where a call requires it.
        addresses: makes addresses without an account.
        other: another account, whose owner requests the address of `known`; None skips that measurement.
        guarded: an account with a second factor; None skips that measurement.
    """

    def __init__(
        self,
        caller: Caller,
        known: Account,
        addresses: Addresses,
        other: Account | None,
        guarded: Account | None = None,
    ) -> None:
        self._caller = caller
        self._known = known
        self._addresses = addresses
        self._other = other
        self._guarded = guarded
        self._password = make_password()
        self._pending = addresses.make()
        self._codes: Counter[Kind] = Counter()
        self._refused = False
        self._sequences = Sequences(caller, self._password)
        paths = caller.call("GET", "/openapi.json").value["paths"]
        self._calls = {(method.upper(), path) for path, methods in paths.items() for method in methods}

    def measure_all(self, samples: int, report: Report, *, only: str = "") -> list[Measurement]:
        """Measure every call of the service whose name contains a text, and report each when it is done.

        A call that looks distinguishable or unclear is measured once more, and the second result counts.

        Raises:
            HeldBackError: the service applies rate limits, which would distort the measurement.
        """
        self._refused = self._is_refused(self._register(self._pending))
        self._post("/confirm-email/resend", {"email": self._pending})  # is 429 where limits apply
        done = []
        for call in self._list_calls():
            if only in call.name:
                done += self._measure_twice(partial(self._measure, call, samples), report)
        if only in _AFTER and not self._refused:
            done += self._measure_twice(partial(self._follow_sign_ups, samples), report)
        return done

    @staticmethod
    def _measure_twice(measure: Callable[[], list[Measurement]], report: Report) -> list[Measurement]:
        """Measure, and measure once more if needed."""
        found = measure()
        if any(measurement.verdict != "alike" for measurement in found):
            found = measure()
        for measurement in found:
            report(measurement)
        return found

    def _measure(self, call: _Call, rounds: int) -> list[Measurement]:
        measurement = Measurement(call.name)
        for number in range(-_WARM_UP, rounds):
            for kind in random.sample(KINDS, len(KINDS)):
                sample = call.ask(kind)
                if number >= 0:
                    measurement.add(kind, sample)
        _check(measurement, call.status)
        return [measurement]

    def _list_calls(self) -> Iterator[_Call]:
        yield _Call(
            "register", 403 if self._refused else 201, lambda kind: take(self._register(self._address(kind)))
        )
        wrong = "not " + self._password
        yield _Call("login, wrong password", 401, lambda kind: take(self._log_in(self._address(kind), wrong)))
        if self._guarded is not None:
            yield _Call(
                "login, wrong password, second factor",
                401,
                lambda kind: take(self._log_in(self._guard(kind), wrong)),
            )
        own = self._password
        yield _Call(
            "login, password of the sign-up",
            401,
            lambda kind: take(self._log_in(self._address(kind), own)),
        )
        yield self._post_address("resend", "/confirm-email/resend")
        if self._has("POST", "/password/forgot"):
            yield self._post_address("forgot", "/password/forgot")
        if self._has("POST", "/login/code"):
            yield self._post_address("code to log in", "/login/code")
            yield _Call(
                "wrong code to log in", 400, lambda kind: self._sequences.give_code(self._address(kind))
            )
        if not self._refused:
            path, handle = follow(self._register(self._addresses.make()))
            yield _Call(
                "change of a sign-up's address",
                202,
                lambda kind: take(self._caller.call("PATCH", path, {"email": self._address(kind)}, handle)),
            )
            if self._has("POST", "/login/passkey"):
                use = self._sequences.use_passkey
                yield _Call(
                    "passkey sign-up, and a login with it", 401, lambda kind: use(self._address(kind))
                )
        if self._has("POST", "/address-advice"):
            yield self._post_address("advice", "/address-advice", 200)
        if self._other is not None and self._has("POST", "/me/email"):
            mover = _ChangingUser(self._caller, self._other)
            yield _Call("change of an account's address", 202, lambda kind: mover.ask(self._address(kind)))
        if has_pages(self._caller):
            yield from self._list_pages()

    def _list_pages(self) -> Iterator[_Call]:
        wrong, sequences = "not " + self._password, self._sequences
        if not self._refused:
            yield _Call("page: sign-up", 200, lambda kind: sequences.sign_up_on_page(self._address(kind)))
        yield self._send_form("page: login, wrong password", 401, "/login", email="", password=wrong)
        yield self._send_form("page: forgot", 200, "/forgot", email="")
        if self._has("POST", "/login/code"):
            name = "page: wrong code to log in"
            yield _Call(name, 400, lambda kind: sequences.give_code_on_page(self._address(kind)))

    def _send_form(self, name: str, status: int, path: str, **fields: str) -> _Call:
        return _Call(
            name, status, lambda kind: take(Browser(self._caller, self._address(kind)).send(path, **fields))
        )

    def _post_address(self, name: str, path: str, status: int = 202) -> _Call:
        return _Call(name, status, lambda kind: take(self._post(path, {"email": self._address(kind)})))

    def _follow_sign_ups(self, rounds: int) -> list[Measurement]:
        """Sign up with each kind of address, and make all calls that the handle permits."""
        found = [Measurement(f"{_AFTER}: {name}") for name in _NEXT]
        self._codes.clear()
        for _ in range(rounds):
            for kind in random.sample(KINDS, len(KINDS)):
                address = self._address(kind)
                samples = self._follow_sign_up(kind, address)
                for measurement, sample in zip(found, samples, strict=False):
                    measurement.add(kind, sample)
        for measurement, status in zip(found, _NEXT.values(), strict=True):
            _check(measurement, status)
        return found

    def _follow_sign_up(self, kind: Kind, address: str) -> list[Sample]:
        path, handle = follow(self._register(address))
        samples = [self._sequences.watch(path, handle)]
        samples.append(take(self._log_in(address, self._password)))
        known = {"email": address, "registration": path.rpartition("/")[2]}
        samples.append(take(self._post("/confirm-email/resend", known, handle)))
        if self._codes[kind] < _CODES:
            self._codes[kind] += 1
            code = {"registration": known["registration"], "code": "000000"}
            samples.append(take(self._post("/confirm-email/code", code, handle)))
        return samples

    def _address(self, kind: Kind) -> str:
        match kind:
            case "known":
                return self._known.email
            case "pending":
                return self._pending
            case "unknown":
                return self._addresses.make()

    def _guard(self, kind: Kind) -> str:
        """Return the address of a kind, where the known account has a second factor."""
        return self._guarded.email if kind == "known" and self._guarded is not None else self._address(kind)

    @staticmethod
    def _is_refused(reply: Reply) -> bool:
        """Return whether the service takes no sign-ups, so that no address is pending.

        Raises:
            ConfigurationError: it refuses this one for another reason.
        """
        if reply.status == HTTPStatus.CREATED:
            return False
        if reply.value.get("code") in _CLOSED:
            return True
        raise ConfigurationError(f"the addresses cannot be signed up: {reply.value.get('detail')}")

    def _has(self, method: str, path: str) -> bool:
        return (method, PREFIX + path) in self._calls

    def _post(self, path: str, body: object, headers: dict[str, str] | None = None) -> Reply:
        return self._caller.call("POST", PREFIX + path, body, headers)

    def _register(self, address: str) -> Reply:
        # A new name each time: the same sign-up within seconds counts as a double click.
        return register(self._caller, address, self._password, f"Selftest {secrets.token_hex(4)}")

    def _log_in(self, address: str, password: str) -> Reply:
        return self._post("/login", {"email": address, "password": password})


def _check(measurement: Measurement, status: int) -> None:
    """Check that a call works at all: if it fails for all addresses, equal replies prove nothing."""
    if status not in measurement.statuses:
        found = ", ".join(map(str, sorted(measurement.statuses)))
        raise UnexpectedAnswerError(f"{measurement.name} is answered with {found} for all addresses")
