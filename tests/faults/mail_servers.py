"""Faults of the mail server, at each step of the conversation."""

from __future__ import annotations

from collections.abc import Mapping

import trio

from tests.faults.stage import SMTP_SECONDS, Stage
from tests.smtp_servers import Drip, HangUp, Hold, Reaction, Say, Silence

STEPS = ("greeting", "EHLO", "MAIL", "RCPT", "DATA", "content", "DOT")
_PATIENCE = 40.0  # seconds that an occurrence may take to come: an open breaker is probed every ten seconds
_OPENING = frozenset({"greeting", "EHLO"})

TEMPORARY: Mapping[str, Reaction] = dict.fromkeys(STEPS, "451 4.3.0 not now")
PERMANENT: Mapping[str, Reaction] = {
    "greeting": "554 5.7.1 go away",
    "EHLO": "550 5.7.1 go away",
    "MAIL": "550 5.7.1 not you",
    "RCPT": "550 5.1.1 no such user",
    "DATA": "554 5.5.0 no",
    "DOT": "554 5.6.0 not this",
}
SILENT: Mapping[str, Reaction] = dict.fromkeys(STEPS, Silence())
GARBLED: Mapping[str, Reaction] = dict.fromkeys(STEPS, Say(b"\xff\x00 what?\r\n"))
SLOW: Mapping[str, Reaction] = dict.fromkeys(STEPS, Drip(b"250-a line that never ends", 1.0))
HANGING_UP: Mapping[str, Reaction] = dict.fromkeys(STEPS, HangUp())
RESETTING: Mapping[str, Reaction] = dict.fromkeys(STEPS, HangUp(reset=True))


class Misbehave:
    """The mail servers react so at one step, once; each round takes the next step.

    Args:
        reactions: for each step.
        steps: which of them; all by default.
    """

    def __init__(self, reactions: Mapping[str, Reaction], *steps: str) -> None:
        self._reactions = reactions
        self._steps = list(steps or reactions)

    @property
    def rounds(self) -> int:
        """How many steps there are."""
        return len(self._steps)

    async def __call__(self, stage: Stage) -> bool:
        """Misbehave once, and say whether it came to that."""
        step = self._steps.pop(0)
        self._steps.append(step)
        if step in _OPENING:  # sessions are kept open: have the program open a new one
            stage.mischief.arm("MAIL", HangUp())
        stage.mischief.arm(step, self._reactions[step])
        with trio.move_on_after(_PATIENCE) as patience:
            await stage.mischief.wait_done(step)
        stage.mischief.disarm()
        return not patience.cancelled_caught


async def keep_and_hang_up(stage: Stage) -> bool:
    """A mail server takes a mail and dies before it says so."""
    began = trio.current_time()
    stage.mischief.arm("DOT", HangUp(kept=True))
    with trio.move_on_after(_PATIENCE) as patience:
        await stage.mischief.wait_done("DOT")
    stage.mischief.disarm()
    await stage.note_lost_answers(since=began)
    return not patience.cancelled_caught


async def accept_too_late(stage: Stage) -> bool:
    """A mail server takes a mail after the program has given up waiting for that."""
    began = trio.current_time()
    released = trio.Event()
    stage.mischief.arm("DOT", Hold(released))
    with trio.move_on_after(_PATIENCE) as patience:
        await stage.mischief.wait_done("DOT")
    stage.mischief.disarm()
    await trio.sleep(SMTP_SECONDS["accept"] + 0.5)
    released.set()
    await stage.note_lost_answers(since=began)
    return not patience.cancelled_caught
