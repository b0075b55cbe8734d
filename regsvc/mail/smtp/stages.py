"""How long each stage of a conversation takes, as histograms, and as spans of a mail that is traced."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from regsvc.metrics import SMTP_STAGE
from regsvc.tracing.spans import Stopwatch, record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from regsvc.mail.outcome import Stage
    from regsvc.mail.smtp.dialogue import Reply

_CLASSES: Final = {2: "ok", 3: "ok", 4: "transient", 5: "permanent"}  # by first digit (RFC 5321, 4.2.1)
_PARTING: Final = "quit"  # the mail is through by then, and no answer is waited for in earnest


def note_reply(stage: Stage, seconds: float, reply: Reply) -> None:
    """Note a reply, by its codes alone: its words may name the recipient.

    Args:
        stage: of the command.
        seconds: since the command was sent, or since the reply before this one if several were sent together.
        reply: the reply.
    """
    if stage == _PARTING:
        return
    outcome = _CLASSES[reply.code // 100]
    SMTP_STAGE.labels(stage, outcome).observe(seconds)
    attributes: dict[str, str | int] = {"smtp.reply.code": reply.code}
    if reply.enhanced is not None:
        attributes["smtp.reply.enhanced_code"] = reply.enhanced
    record(f"SMTP {stage}", seconds, kind="client", failed=outcome != "ok", attributes=attributes)


def note_stage(stage: Stage, seconds: float, *, lost: bool) -> None:
    """Note a stage without a reply: it was completed, or the connection was lost or given up."""
    if stage == _PARTING:
        return
    SMTP_STAGE.labels(stage, "lost" if lost else "ok").observe(seconds)
    record(f"SMTP {stage}", seconds, kind="client", failed=lost)


@contextmanager
def noting(stage: Stage) -> Iterator[None]:
    """Note the block as a stage without a reply."""
    watch, lost = Stopwatch(), True
    try:
        yield
        lost = False
    finally:
        note_stage(stage, watch.lap(), lost=lost)
