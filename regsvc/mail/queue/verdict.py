"""What outcomes say about the mail server as a whole, decided without a database or a clock.

Blame follows the stage (as Postfix distinguishes site, message and recipient). Replies before RCPT concern the server
and count against it, whatever the code. Replies about a recipient delay or end that message only. They concern us only
if several recipients are refused in the same words and none is accepted in between: no table of replies covers every
provider.
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

OPENS_AT: Final = 10  # consecutive failures
ALIKE_DOMAINS: Final = 3  # different domains refused in the same words blame us
ALIKE_RECIPIENTS: Final = 5  # or as many recipients, whatever their domains
AGAIN: Final = 5  # times as many, in words that have not blocked every recipient before
_PASSED: Final = "passed"
_TEXTS: Final = 8  # remembered at a time

EARLY: Final[frozenset[Stage]] = frozenset(
    {"connect", "tls", "greeting", "ehlo", "starttls", "auth", "rset", "mail"}
)
"""Stages before the server has heard of a recipient."""
CHECKED: Final[frozenset[Stage]] = frozenset({"connect", "tls", "greeting", "ehlo", "starttls", "auth"})
"""Stages whose failures a test without a message finds."""
_LATE: Final[frozenset[Stage]] = frozenset({"rcpt", "data", "dot"})

# Reasons of delays that end when the server works again, including its objections to us.
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
    """The state of the breaker.

    Args:
        open: only probes are sent.
        failures: consecutive failures, weighted.
        reason: why it opened, one of `regsvc.mail.outcome.Reason`.
        reply: reply of the server at that time.
        opened_at: when it opened.
        stage: stage of the reply.
        alike: digests of refused recipients by digest of the reply's words, since the last acceptance.
        recovered: number of recoveries; a message waiting since before the latest is due.
        closed: number of the recovery that last closed the breaker.
        recovered_for: seconds since the last recovery; None once all released messages are claimed.
        version: changes with every write.
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
    """An outcome, with what distinguishes recipients.

    Args:
        outcome: of an attempt, or of a probe without a message.
        recipient: address of the message; empty for a probe without a message.
        attempt: attempts of the message, including this one.
    """

    outcome: Outcome
    recipient: str = ""
    attempt: int = 1


def judge(state: Breaker, evidence: Sequence[Evidence]) -> Breaker:
    """Return the breaker's state after outcomes, latest last; `state` itself if nothing changes.

    An accepted message shows that the server works. A failed connection, or a temporary refusal before RCPT, weighs 1;
    a permanent refusal before RCPT opens the breaker. A reply about a recipient only shows that the server is
    reachable: only an accepted message revokes a refusal.
    """
    for each in evidence:
        state = _add(state, each)
    return state


def is_about_us(outcome: Refused) -> bool:
    """Return whether a refusal came before the server knew a recipient, and so concerns us."""
    return outcome.stage in EARLY


def is_alike(state: Breaker, each: Evidence) -> bool:
    """Return whether enough other recipients were refused in the same words to blame us."""
    outcome = each.outcome
    if not isinstance(outcome, Refused | Bounced) or outcome.stage not in _LATE:
        return False
    return _is_enough(state.alike.get(_digest_words(outcome, each.recipient), ()), outcome)


def waits_for_server(reason: str, stage: Stage | None) -> bool:
    """Return whether a delayed message is due as soon as the server recovers.

    Args:
        reason: of the delay.
        stage: stage of the failure; None for a message held without an attempt.
    """
    if reason in CONNECTION_REASONS:
        return True
    return reason in SERVER_REASONS if stage is None else stage in EARLY


def refuses_us(state: Breaker) -> bool:
    """Return whether the server refuses us, rather than being unreachable."""
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
    if isinstance(outcome, Delayed) or each.attempt > 1:  # a repeated attempt is no other recipient
        return state
    return _remember(state, outcome, each.recipient)


def _pass(state: Breaker) -> Breaker:
    """Forget refused recipients, but not the words that several met: one recipient has still passed."""
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
        return state  # a short outage revokes no refusal
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


# Mailbox status codes (RFC 3463, 3.2 and 3.3) of a recipient's own trouble; strangers type such addresses.
_OWN_TROUBLE: Final = re.compile(r"\d{3} 5\.(1\.([1236]|10)|2\.[12])(?![0-9.])")


def _is_enough(people: Sequence[str], outcome: Refused | Bounced) -> bool:
    domains, factor = _count_domains(people), AGAIN if _PASSED in people else 1
    if isinstance(outcome, Bounced) and _OWN_TROUBLE.match(outcome.reply):
        return domains >= ALIKE_RECIPIENTS * factor
    return domains >= ALIKE_DOMAINS * factor or len(people) - (factor > 1) >= ALIKE_RECIPIENTS * factor


def _count_domains(people: Sequence[str]) -> int:
    return len({person.partition("/")[0] for person in people if person != _PASSED})


def refused_domains(state: Breaker) -> set[str]:
    """Return the digests of the domains refused since a message was last accepted."""
    return {
        person.partition("/")[0] for people in state.alike.values() for person in people if person != _PASSED
    }


_HOST: Final = re.compile(r"(?:[a-z0-9-]+\.)+[a-z]{2,}")


def mask(reply: str, recipient: str = "") -> str:
    """Return a reply's code and words without what differs between messages refused alike.

    Mask words with a digit, addresses and host names, and the recipient or its parts.
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
