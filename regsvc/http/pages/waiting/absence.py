"""Why nothing came yet: an answer from the facts of this mail and the usual time of its receiver.

`static/waiting.js` says the same where scripts run.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Protocol

from regsvc.accounts.registrations.registration import LINK_LIFE
from regsvc.http.pages.texts import Texts, fill
from regsvc.http.pages.times import say_moment
from regsvc.http.pages.waiting.mailbox import Mailbox


class Waited(Protocol):
    """What is waited for, such as a registration."""

    @property
    def state(self) -> str:
        """Return its state."""

    @property
    def expires_at(self) -> datetime | None:
        """Return the end of what the mail brings, which counts from the acceptance."""

    @property
    def delivered_at(self) -> datetime | None:
        """Return when the mailbox was reported to have the mail."""


def explain_absence(
    texts: Texts,
    waited: Waited,
    mailbox: Mailbox,
    *,
    life: timedelta = LINK_LIFE,
    now: datetime | None = None,
) -> str:
    """Return why nothing came yet, in the reader's words; empty where the state says it already.

    Args:
        texts: the table `waiting`.
        waited: the mail's facts, as the client is shown them.
        mailbox: of the reader.
        life: of what the mail brings, from its acceptance on.
        now: of the answer.
    """
    domain = mailbox.domain
    if waited.state in {"queued", "sending", "delayed"}:
        return fill(texts["nothing_sent"], domain=domain)
    if waited.state != "sent":
        return ""
    if waited.delivered_at is not None:
        return fill(texts["nothing_delivered"], domain=domain, time=say_moment(waited.delivered_at))
    if waited.expires_at is None:
        return ""
    accepted = waited.expires_at - life
    if mailbox.usual is None:
        return fill(texts["nothing_accepted"], domain=domain, time=say_moment(accepted))
    due = accepted + timedelta(seconds=mailbox.usual)
    key = "nothing_yet" if (now or datetime.now(UTC)) < due else "nothing_late"
    return fill(texts[key], domain=domain, time=say_moment(accepted), due=say_moment(due))
