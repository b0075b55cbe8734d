"""What outcomes say about the mail server as a whole, decided without a database or a clock.

Blame follows the stage (as Postfix tells site, message and recipient apart). What is said before RCPT is about the
server: it counts against it whatever the code. What is said of a recipient delays or ends that mail alone. It is about
us only when several different recipients are refused in the same words and none is accepted in between: no table of
replies knows every provider.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from hashlib import sha256
from typing import Final, get_args

from regsvc.mail.outcome import (
    CONNECTION_REASONS,
    Accepted,
    Bounced,
    Delayed,
    Failure,
    Outcome,
    Reason,
    Refused,
    Stage,
)

OPENS_AT: Final = 10  # failures in a row
ALIKE_DOMAINS: Final = 3  # different domains, refused in the same words, make it ours
ALIKE_RECIPIENTS: Final = 5  # or so many recipients, whatever their domains
AGAIN: Final = 5  # times as many, in words that did not stand in another recipient's way before
_PASSED: Final = "passed"
_TEXTS: Final = 8  # that are remembered at a time

EARLY: Final[frozenset[Stage]] = frozenset(
    {"connect", "tls", "greeting", "ehlo", "starttls", "auth", "rset", "mail"}
)
"""Stages before the server has heard of a recipient."""
_LATE: Final[frozenset[Stage]] = frozenset({"rcpt", "data", "dot"})

# Of delays that end when the server works again, also for what it has against us.
SERVER_REASONS: Final = frozenset(get_args(Reason)) - {
    "temporary_failure",
    "mailbox_busy",
    "mailbox_full",
    "maildir_write_failed",
}
AWAY: Final[frozenset[Reason]] = CONNECTION_REASONS | {
    "auth_unavailable",
    "temporary_failure",
    "mailbox_busy",
    "mailbox_full",
}
"""Reasons for which a mail waits until the server can be reached, and for no change of its mind."""
_REFUSALS: Final = SERVER_REASONS - AWAY - {"recipient_refused", "recipient_invalid"}


@dataclass(frozen=True)
class Breaker:
    """How the breaker stands.

    Args:
        open: nothing is sent but probes.
        failures: in a row, weighed.
        reason: why it opened, one of `regsvc.mail.outcome.Reason`.
        reply: what the server said then.
        opened_at: when that was.
        stage: at which it said so.
        alike: digests of recipients by the digest of the words that refused them, since a mail was last accepted.
        recovered: how often the server has recovered; a mail that waits since an earlier recovery is due.
        closed: the number of the recovery that closed the breaker last.
        recovered_for: seconds since the last recovery; None when what it released has all been taken up.
        version: changes with every change.
    """

    open: bool
    failures: int
    reason: str | None
    reply: str | None
    opened_at: datetime | None
    stage: str | None = None
    alike: Mapping[str, Sequence[str]] = field(default_factory=dict)
    recovered: int = 0
    closed: int = 0
    recovered_for: float | None = None
    version: int = 0


UNKNOWN = Breaker(open=False, failures=0, reason=None, reply=None, opened_at=None)


@dataclass(frozen=True)
class Evidence:
    """One outcome, with what it takes to tell recipients apart.

    Args:
        outcome: of an attempt, or of a probe without a mail.
        recipient: the address that the mail went to; empty for a probe without a mail.
        attempt: how many attempts the mail has had, this one included.
    """

    outcome: Outcome
    recipient: str = ""
    attempt: int = 1


def judge(state: Breaker, evidence: Sequence[Evidence]) -> Breaker:
    """Return how the breaker stands after some outcomes, the latest last; `state` itself if nothing changes.

    An accepted mail shows that the server works. A connection that failed, or a "not now" before RCPT, weighs 1; a
    refusal before RCPT all that it takes to open. A word about a recipient shows that the server can be reached, no
    more: only an accepted mail takes a refusal back.
    """
    for each in evidence:
        state = _add(state, each)
    return state


def is_about_us(outcome: Refused) -> bool:
    """Return whether a refusal came before the server knew of a recipient, and so is about us for certain."""
    return outcome.stage in EARLY


def is_alike(state: Breaker, each: Evidence) -> bool:
    """Return whether a recipient was refused in the same words as so many others that it is about us."""
    outcome = each.outcome
    if not isinstance(outcome, Refused | Bounced) or outcome.stage not in _LATE:
        return False
    return _is_enough(state.alike.get(_digest_words(outcome, each.recipient), ()), outcome)


def waits_for_server(reason: str, stage: Stage | None) -> bool:
    """Return whether a delayed mail is due as soon as the server recovers.

    Args:
        reason: of the delay.
        stage: at which it came; None for a mail that was held without being tried.
    """
    if reason in CONNECTION_REASONS:
        return True
    return reason in SERVER_REASONS if stage is None else stage in EARLY


def refuses_us(state: Breaker) -> bool:
    """Return whether the trouble is what the server has against us, not that it is away."""
    late = state.open and state.stage in _LATE and state.reason not in CONNECTION_REASONS
    return late or state.reason in _REFUSALS


def _add(state: Breaker, each: Evidence) -> Breaker:
    outcome = each.outcome
    if isinstance(outcome, Accepted):
        return _recover(_pass(state))
    if isinstance(outcome, Refused) and is_about_us(outcome):
        return _fail(state, outcome, OPENS_AT)
    if isinstance(outcome, Delayed) and (outcome.stage in EARLY or outcome.reason in CONNECTION_REASONS):
        return _fail(state, outcome, 1)
    if (
        not isinstance(outcome, Delayed | Bounced | Refused)
        or outcome.stage not in _LATE
        or not outcome.reply
    ):
        return state
    if not refuses_us(state):
        state = _recover(state)
    if isinstance(outcome, Delayed) or each.attempt > 1:  # the same mail again is not another recipient
        return state
    return _remember(state, outcome, each.recipient)


def _pass(state: Breaker) -> Breaker:
    """Forget who was refused, but not in which words several were: one recipient has passed all the same."""
    passed = {
        words: (_PASSED,)
        for words, people in state.alike.items()
        if _PASSED in people or len(people) >= ALIKE_RECIPIENTS or _count_domains(people) >= ALIKE_DOMAINS
    }
    return (
        state
        if all(tuple(people) == (_PASSED,) for people in state.alike.values())
        else replace(state, alike=passed)
    )


def _recover(state: Breaker) -> Breaker:
    if not state.open and not state.failures:
        return state
    number = state.recovered + 1
    return replace(
        state,
        open=False,
        failures=0,
        reason=None,
        reply=None,
        stage=None,
        recovered=number,
        closed=number if state.open else state.closed,
    )


def _fail(state: Breaker, outcome: Failure, weight: int) -> Breaker:
    failures = min(state.failures + weight, 1_000_000)
    state = replace(state, failures=failures, open=state.open or failures >= OPENS_AT)
    if refuses_us(state) and not isinstance(outcome, Refused):
        return state  # being away for a moment takes no refusal back
    return replace(state, reason=outcome.reason, reply=outcome.reply, stage=outcome.stage)


def _remember(state: Breaker, outcome: Refused | Bounced, recipient: str) -> Breaker:
    words = _digest_words(outcome, recipient)
    domain = recipient.rpartition("@")[2]
    person = f"{_digest(domain.lower())}/{_digest(recipient.lower())}"
    seen = state.alike.get(words, ())
    if person in seen or _is_enough(seen, outcome):
        return state
    others = {text: people for text, people in state.alike.items() if text != words}
    for text in list(others)[: max(0, len(others) + 1 - _TEXTS)]:
        del others[text]
    state = replace(state, alike={**others, words: [*seen, person]})
    if not _is_enough(state.alike[words], outcome):
        return state
    return replace(
        state,
        open=True,
        failures=max(state.failures, OPENS_AT),
        reason=outcome.reason,
        reply=outcome.reply,
        stage=outcome.stage,
    )


# Mailbox status codes (RFC 3463, 3.2 and 3.3) that name a recipient's own trouble; strangers type such addresses.
_OWN_TROUBLE: Final = re.compile(r"\d{3} 5\.(1\.([1236]|10)|2\.[12])(?![0-9.])")


def _is_enough(people: Sequence[str], outcome: Refused | Bounced) -> bool:
    domains, factor = _count_domains(people), AGAIN if _PASSED in people else 1
    if isinstance(outcome, Bounced) and _OWN_TROUBLE.match(outcome.reply):
        return domains >= ALIKE_RECIPIENTS * factor
    return domains >= ALIKE_DOMAINS * factor or len(people) - (factor > 1) >= ALIKE_RECIPIENTS * factor


def _count_domains(people: Sequence[str]) -> int:
    return len({person.partition("/")[0] for person in people if person != _PASSED})


def refused_domains(state: Breaker) -> set[str]:
    """Return the digests of the domains that were refused since a mail was last accepted."""
    return {
        person.partition("/")[0] for people in state.alike.values() for person in people if person != _PASSED
    }


_HOST: Final = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}")


def mask(reply: str, recipient: str = "") -> str:
    """Return the words of a reply with its codes, less all that differs between two mails refused alike.

    Words with a digit, addresses and host names are masked, and where the recipient or its parts stand.
    """
    code, _, rest = reply.lower().partition(" ")
    enhanced = re.match(r"[245]\.\d{1,3}\.\d{1,3}(?![0-9.])", rest)
    kept = f"{code} {enhanced[0]}" if enhanced else code
    rest = rest[enhanced.end() :] if enhanced else rest
    local, _, domain = recipient.lower().rpartition("@")
    own = {word for word in (recipient.lower(), local, domain) if word}
    words: list[str] = []
    for word in re.split(r"[\s<>\[\](){}\"',;:=]+", rest):
        bare = word.strip(".-")
        if not bare:
            continue
        masked = bare in own or "@" in bare or _HOST.fullmatch(bare) or re.search(r"\d", bare)
        if not masked:
            words.append(bare)
        elif not words or words[-1] != "*":
            words.append("*")
    return " ".join([kept, *words])


def _digest_words(outcome: Refused | Bounced, recipient: str) -> str:
    return _digest(mask(outcome.reply, recipient))


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
