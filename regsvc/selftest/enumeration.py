"""Can a stranger learn who has an account? Measured from the outside, as a stranger would.

Every call that takes an address is made for one that has an account (known), for one that signed up and has not
confirmed (pending), and for ever new ones (unknown): in rounds, in random order within each. What comes back has to
be alike in status, headers and body, and in time. So have pairs of calls: sign up as somebody, then watch, log in,
ask for the mail again, try a code.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import combinations
from typing import Literal

from regsvc.selftest.caller import PREFIX, Caller, Reply
from regsvc.selftest.people import Account, Addresses, make_password, sign_up
from regsvc.selftest.timing import FEWEST, Comparison, Verdict, compare

Kind = Literal["known", "pending", "unknown"]

KINDS: tuple[Kind, ...] = ("known", "pending", "unknown")
SAMPLES = 300
_WARM_UP = 3  # rounds that are not counted
_FOLLOWED_UP = 10  # times fewer sign-ups are followed up than calls are made
_CODES = 3  # tried for each kind, since an address has 30 a day
_FINAL = ("sent", "bounced", "confirmed", "expired", "repudiated")


@dataclass(frozen=True)
class Sample:
    """What one call brought: everything in its answer that may be compared, and seconds."""

    shape: str
    seconds: float


@dataclass
class Measurement:
    """All samples of one call."""

    name: str
    times: dict[Kind, list[float]] = field(default_factory=lambda: defaultdict(list))
    shapes: dict[Kind, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    @property
    def answers_differ(self) -> bool:
        """Whether some kind was answered in a way that another never was."""
        return len({frozenset(shapes) for shapes in self.shapes.values()}) > 1

    def comparisons(self) -> Iterator[tuple[tuple[Kind, Kind], Comparison]]:
        """Yield how each two kinds compare in time, if there are samples enough to tell anything."""
        for first, second in combinations(KINDS, 2):
            if min(len(self.times[first]), len(self.times[second])) >= FEWEST:
                yield (first, second), compare(self.times[first], self.times[second])

    @property
    def verdict(self) -> Verdict:
        """The worst of all its comparisons."""
        found = {comparison.verdict for _, comparison in self.comparisons()}
        if self.answers_differ or "distinguishable" in found:
            return "distinguishable"
        return "unclear" if "unclear" in found else "alike"


Ask = Callable[[Kind], Sample]
Report = Callable[[Measurement], None]


class Stranger:
    """Somebody who wants to know who has an account.

    Args:
        caller: of the service.
        known: somebody who has one; the password is used only where the call asks for it.
        addresses: of nobody yet.
        other: another account, whose owner asks for `known`'s address; without one that is not measured.
    """

    def __init__(self, caller: Caller, known: Account, addresses: Addresses, other: Account | None) -> None:
        self._caller = caller
        self._known = known
        self._addresses = addresses
        self._other = other
        self._password = make_password()
        self._pending = addresses.make()
        self._codes: Counter[Kind] = Counter()
        paths = caller.call("GET", "/openapi.json").value["paths"]
        self._calls = {(method.upper(), path) for path, methods in paths.items() for method in methods}

    def measure_all(self, samples: int, report: Report) -> list[Measurement]:
        """Measure every call that the service has; each is reported as it is done.

        A call that looks distinguishable, or unclear, is measured once more, and what that brings counts.

        Raises:
            HeldBackError: the service has limits, which would be all that is measured.
        """
        sign_up(self._caller, self._pending, self._password)
        self._post("/confirm-email/resend", {"email": self._pending})  # is 429 where limits apply
        done = []
        for name, ask in self._single_calls():
            done += self._measure_twice(partial(self._measure, name, ask, samples), report)
        rounds = max(samples // _FOLLOWED_UP, FEWEST)
        return done + self._measure_twice(lambda: self._follow_sign_ups(rounds), report)

    @staticmethod
    def _measure_twice(measure: Callable[[], list[Measurement]], report: Report) -> list[Measurement]:
        """Measure, and once more if need be."""
        found = measure()
        if any(measurement.verdict != "alike" for measurement in found):
            found = measure()
        for measurement in found:
            report(measurement)
        return found

    def _measure(self, name: str, ask: Ask, rounds: int) -> list[Measurement]:
        measurement = Measurement(name)
        for number in range(-_WARM_UP, rounds):
            for kind in random.sample(KINDS, len(KINDS)):
                sample = ask(kind)
                if number >= 0:
                    measurement.times[kind].append(sample.seconds)
                    measurement.shapes[kind][sample.shape] += 1
        return [measurement]

    def _single_calls(self) -> Iterator[tuple[str, Ask]]:
        yield "register", lambda kind: _sample(self._register(self._address(kind)))
        yield (
            "login, wrong password",
            lambda kind: _sample(self._log_in(self._address(kind), "not " + self._password)),
        )
        yield (
            "login, password of the sign-up",
            lambda kind: _sample(self._log_in(self._address(kind), self._password)),
        )
        yield (
            "resend",
            lambda kind: _sample(self._post("/confirm-email/resend", {"email": self._address(kind)})),
        )
        if self._has("POST", "/password/forgot"):
            yield (
                "forgot",
                lambda kind: _sample(self._post("/password/forgot", {"email": self._address(kind)})),
            )
        path, headers = self._follow(self._register(self._addresses.make()))
        yield (
            "change of a sign-up's address",
            lambda kind: _sample(self._caller.call("PATCH", path, {"email": self._address(kind)}, headers)),
        )
        if self._other is not None and self._has("POST", "/me/email"):
            other = self._other
            bearer = {
                "Authorization": f"Bearer {self._log_in(other.email, other.password).value['access_token']}"
            }
            yield (
                "change of an account's address",
                lambda kind: _sample(
                    self._post(
                        "/me/email", {"email": self._address(kind), "password": other.password}, bearer
                    )
                ),
            )

    def _follow_sign_ups(self, rounds: int) -> list[Measurement]:
        """Sign up as everybody and do all that whoever holds the handle can do."""
        names = ("until its mail is sent", "login", "resend", "code")
        found = [Measurement(f"after a sign-up: {name}") for name in names]
        self._codes.clear()
        for _ in range(rounds):
            for kind in random.sample(KINDS, len(KINDS)):
                address = self._address(kind)
                samples = self._follow_sign_up(kind, address)
                for measurement, sample in zip(found, samples, strict=False):
                    measurement.times[kind].append(sample.seconds)
                    measurement.shapes[kind][sample.shape] += 1
        return found

    def _follow_sign_up(self, kind: Kind, address: str) -> list[Sample]:
        path, handle = self._follow(self._register(address))
        samples = [self._watch(path, handle)]
        samples.append(_sample(self._log_in(address, self._password)))
        known = {"email": address, "registration": path.rpartition("/")[2]}
        samples.append(_sample(self._post("/confirm-email/resend", known, handle)))
        if self._codes[kind] < _CODES:
            self._codes[kind] += 1
            code = {"registration": known["registration"], "code": "no code"}
            samples.append(_sample(self._post("/confirm-email/code", code, handle)))
        return samples

    def _watch(self, path: str, handle: dict[str, str]) -> Sample:
        """Follow a registration until its mail is sent."""
        reply = self._caller.call("GET", path, None, handle)
        seconds = reply.seconds
        while (shown := reply.value)["state"] not in _FINAL:
            reply = self._caller.call("GET", f"{path}?wait=25&seq={shown['seq']}", None, handle)
            seconds += reply.seconds
        return Sample(reply.shape, seconds)

    def _address(self, kind: Kind) -> str:
        match kind:
            case "known":
                return self._known.email
            case "pending":
                return self._pending
            case "unknown":
                return self._addresses.make()

    def _has(self, method: str, path: str) -> bool:
        return (method, PREFIX + path) in self._calls

    def _post(self, path: str, body: object, headers: dict[str, str] | None = None) -> Reply:
        return self._caller.call("POST", PREFIX + path, body, headers)

    def _register(self, address: str) -> Reply:
        return self._post("/register", {"email": address, "password": self._password, "name": "Selftest"})

    def _log_in(self, address: str, password: str) -> Reply:
        return self._post("/login", {"email": address, "password": password})

    @staticmethod
    def _follow(reply: Reply) -> tuple[str, dict[str, str]]:
        return reply.headers["location"], {"Regsvc-Handle": reply.headers["regsvc-handle"]}


def _sample(reply: Reply) -> Sample:
    return Sample(reply.shape, reply.seconds)
