"""The span of sending one mail."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from regsvc.consumer.sending.in_hand import InHand
from regsvc.mail.outcome import Aborted, Accepted, Outcome
from regsvc.tracing.spans import begin_span, entered, get_trace_id
from regsvc.tracing.trace_context import read_stored


async def trace_sending(held: InHand, send: Callable[[], Awaitable[Outcome]]) -> Outcome:
    """Send a mail, in a trace of its own if the request for it was traced.

    It links to that request and to the message that brought its id: a retry may come hours later, and one trace of all
    that would never end.

    Args:
        held: the mail.
        send: sends it.
    """
    span = begin_span(
        "send mail",
        "consumer",
        links=(read_stored(held.job.trace), held.published),
        attributes={
            "messaging.message.id": str(held.job.id),
            "regsvc.mail.attempt": held.job.attempts,
            "regsvc.mail.age_seconds": round(held.job.age.total_seconds(), 3),
        },
    )
    if span is None:
        return await send()
    with entered(span):
        held.trace_id = get_trace_id()
        outcome = await send()
        span.note(_describe(outcome))
        if not isinstance(outcome, Accepted):
            span.fail()
    return outcome


def _describe(outcome: Outcome) -> dict[str, str]:
    """Return the attributes of an outcome; what the server said may name the recipient."""
    told = {"regsvc.mail.outcome": type(outcome).__name__.lower()}
    if isinstance(outcome, Aborted):
        return told
    if outcome.route:
        told["regsvc.mail.route"] = outcome.route
    if not isinstance(outcome, Accepted):
        told |= {"regsvc.mail.reason": outcome.reason, "regsvc.mail.stage": outcome.stage}
    return told
