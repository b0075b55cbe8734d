"""What a stranger sees of reports about mails, and of addresses that bounced or complained.

An attempt must show the same, as soon, whether its address has an account or not: when its mail is reported as
delayed, and when sign-up mail to its address is not sent after a bounce or a complaint.
"""

from __future__ import annotations

import random
import secrets
from pathlib import Path
from typing import Final

from regsvc.errors import RegsvcError
from regsvc.selftest.caller import PREFIX, Caller, Reply
from regsvc.selftest.mailbox import Fate, Mailbox
from regsvc.selftest.measurement import KINDS, Kind, Measurement, Sample, take
from regsvc.selftest.people import Addresses, make_account, make_password, register

_MOST_BOUNCED: Final = 50  # rounds: a bounce is shown as late as receivers report one, some seconds
_PATIENCE: Final = 60.0  # seconds until an attempt shows what it must
_ENDS: Final[dict[Fate, str]] = {"delayed": "delayed", "bounced": "bounced", "complained": "sent"}


class UnexpectedStateError(RegsvcError):
    """An attempt does not show what was reported."""


def measure_reported(
    caller: Caller, addresses: Addresses, folder: Path, token: str, samples: int
) -> list[Measurement]:
    """Measure what attempts show of reports.

    Args:
        caller: makes the calls.
        addresses: makes addresses.
        folder: Maildir of the service's mail.
        token: bearer token of REGSVC_FEEDBACK_MESSAGE.
        samples: rounds, of which bounces get 50 at most.

    Raises:
        ConfigurationError: no mail came, or a report was not taken.
    """
    mailbox = Mailbox(folder, caller, token)
    follower = _Follower(caller, addresses, folder, mailbox)
    # Of some milliseconds, fifty pairs on a busy machine show neither a difference nor that there is none.
    return [
        follower.measure_delays(samples),
        *follower.measure_suppressed("bounced", min(samples, _MOST_BOUNCED)),
        *follower.measure_suppressed("complained", samples),
    ]


class _Follower:
    def __init__(self, caller: Caller, addresses: Addresses, folder: Path, mailbox: Mailbox) -> None:
        self._caller = caller
        self._addresses = addresses
        self._folder = folder
        self._mailbox = mailbox

    def measure_delays(self, rounds: int) -> Measurement:
        """Report the mails of attempts as delayed, and follow the attempts."""
        measurement = Measurement("report: delayed")
        people = self._make_people()
        for _ in range(rounds):
            for kind in random.sample(KINDS, len(KINDS)):
                address = people.get(kind) or self._addresses.make()
                path, handle = self._sign_up(address)
                self._mailbox.report(self._mailbox.wait_mail(address), "delayed")
                measurement.add(kind, self._follow(path, handle, "delayed"))
        return measurement

    def measure_suppressed(self, fate: Fate, rounds: int) -> list[Measurement]:
        """Sign up addresses that bounced or complained, and ask for another mail with the handle."""
        walk, again = Measurement(f"address {fate}: sign-up"), Measurement(f"address {fate}: resend")
        people = self._make_people(fate)
        for _ in range(rounds):
            for kind in random.sample(list(people), len(people)):
                path, handle = self._sign_up(people[kind])
                walk.add(kind, self._follow(path, handle, _ENDS[fate]))
                body = {"email": people[kind], "registration": path.rpartition("/")[2]}
                again.add(
                    kind, take(self._caller.call("POST", f"{PREFIX}/confirm-email/resend", body, handle))
                )
        return [walk, again]

    def _make_people(self, fate: Fate | None = None) -> dict[Kind, str]:
        """Return an address with an account and one with a pending sign-up, whose mails had this fate."""
        self._mailbox.forget()
        known = make_account(self._caller, self._addresses.make(), self._folder).email
        pending = self._addresses.make()
        self._sign_up(pending)
        people: dict[Kind, str] = {"known": known, "pending": pending}
        mails = [self._mailbox.wait_mail(address) for address in people.values()]
        for message_id in mails if fate else ():
            assert fate is not None  # noqa: S101 - for the type
            self._mailbox.report(message_id, fate)
        return people

    def _sign_up(self, address: str) -> tuple[str, dict[str, str]]:
        reply = register(self._caller, address, make_password(), f"Selftest {secrets.token_hex(4)}")
        return reply.headers["location"], {"Regsvc-Handle": reply.headers["regsvc-handle"]}

    def _follow(self, path: str, handle: dict[str, str], end: str) -> Sample:
        """Follow an attempt to a state, and return what it shows there."""
        seconds, seq = 0.0, 0
        while seconds < _PATIENCE:
            reply: Reply = self._caller.call("GET", f"{path}?wait=25&seq={seq}", None, handle)
            seconds += reply.seconds
            shown = reply.value
            if shown["state"] == end:
                return Sample(reply.status, reply.shape, seconds)
            seq = shown["seq"]
        raise UnexpectedStateError(f"an attempt is {shown['state']} and not {end} after {_PATIENCE:g} s")
