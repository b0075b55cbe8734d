"""The figures of several ways out: a first route that dies among many mails, and kills on a route with keys."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from typing import TYPE_CHECKING, Literal

import trio

from tests.faults.figures import Finding, summarize
from tests.faults.inbox import Delivery, Inbox
from tests.faults.kill_points import KEYED_POINTS
from tests.faults.ledger import print_table
from tests.faults.stage import Stage, open_stage
from tests.faults.suite import Suite
from tests.mail.providers import ProviderServer, SeenRequest
from tests.smtp_servers import Hold

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.ledger import Entry

PROMISED = 5.0  # seconds from sign-up to acceptance for 99 of 100 mails while the first route is dead
_MINUTES = 60.0  # after which no further kill begins
_UNANSWERED = 3  # mails whose dot is sent and not answered when it dies
How = Literal["refuses connections", "is a black hole"]


@dataclass(frozen=True)
class Dying:
    """What came of the mails among which the first route died.

    Args:
        entry: the books of those who signed up from shortly before that moment on.
        waits: seconds from each sign-up to the acceptance of its mail, of those.
        unanswered: mails whose dot was sent and not answered.
        doubled: mails that came twice.
        wrong: what is wrong, in words.
    """

    entry: Entry
    waits: Sequence[float]
    unanswered: int
    doubled: int
    wrong: list[str]


async def measure_dying(folder: Path, root: Path, *, how: How, sign_ups: int, pace: float = 8.0) -> Dying:
    """Sign people up, let the first route of every worker die meanwhile, and see what becomes of their mails."""
    usual = {"connect": 10, "command": 30, "data": 60, "accept": 120}
    async with open_stage(folder, root, pace=pace, routes=2, smtp_seconds=usual) as stage:
        run = Suite(stage, lambda _: None)
        run.entries.append(stage.ledger.begin("first route well"))
        stage.load.go()
        await stage.load.wait_sent(stage.load.tag, sign_ups // 4)
        entry = stage.ledger.begin(f"first route {how}")
        run.entries.append(entry)
        released = trio.Event()
        stage.mischief.arm("DOT", Hold(released), _UNANSWERED)
        await stage.mischief.wait_done("DOT")
        began = trio.current_time()
        for wire in stage.wires("mail"):
            if how == "is a black hole":
                wire.black_hole = True
            else:
                await wire.refuse()
                wire.reset()
        released.set()
        await stage.note_lost_answers(since=began)
        await stage.load.wait_sent(entry.tag, sign_ups - sign_ups // 4)
        await stage.load.pause()
        entry.rounds, entry.ended = 1, trio.current_time()
        await _settle(stage)
        wrong = await run.judge()
    first = {deliveries[0].recipient: deliveries[0].at for deliveries in stage.inbox.by_mail().values()}
    waits = [
        first[each.address] - each.at
        for each in stage.load.outcomes
        if each.tag == entry.tag and each.address in first
    ]
    doubled = sum(each.doubled for each in run.entries)
    if doubled > _UNANSWERED:
        wrong.append(f"{doubled} mails came twice, and {_UNANSWERED} had their dot sent and not answered")
    return Dying(entry, waits, _UNANSWERED, doubled, wrong)


async def _settle(stage: Stage, seconds: float = 300) -> None:
    """Wait until nothing is open but mails whose fate is unknown, and let their ten minutes pass."""
    with trio.move_on_after(seconds):
        while True:
            await stage.query(
                "UPDATE mails SET due_at = now(), ambiguous_at = ambiguous_at - interval '10 minutes'"
                " WHERE state = 'delayed' AND ambiguous_at > now() - interval '10 minutes'"
            )
            ((left,),) = await stage.query(
                "SELECT count(*) FROM mails WHERE state IN ('queued', 'sending', 'delayed')"
            )
            if not left:
                return
            await trio.sleep(0.5)


async def dying(folder: Path, long: bool) -> Finding:  # noqa: FBT001 - trio.run passes by position
    """Let the first route die among a thousand mails, in both ways."""
    lines, wrong, entries = [], [], []
    hows: tuple[How, ...] = ("refuses connections", "is a black hole")
    for number, how in enumerate(hows):
        place = folder / str(number)
        place.mkdir(mode=0o755)
        found = await measure_dying(place, folder, how=how, sign_ups=1000 if long else 60)
        entries.append(found.entry)
        half, p99 = summarize(found.waits)
        lines.append(
            f"first route {how}: sign-up to acceptance median {half:.2f} s, p99 {p99:.2f} s,"
            f" longest {max(found.waits):.2f} s; {found.unanswered} dots unanswered, {found.doubled} doubled"
        )
        wrong += found.wrong
        if long and p99 > PROMISED:
            wrong.append(f"first route {how}: the p99 is {p99:.1f} s")
    return Finding("\n".join([print_table(entries), "", *lines]), wrong)


class _TakenMails(list[SeenRequest]):
    """The mails that a provider took, as deliveries of the inbox. A key that it knows comes here once."""

    def __init__(self, inbox: Inbox) -> None:
        super().__init__()
        self._inbox = inbox

    def append(self, seen: SeenRequest) -> None:
        """Hand a mail on."""
        super().append(seen)
        said = seen.document
        message = EmailMessage()
        message.set_content(said["text"])
        (mail_id,) = [tag["value"] for tag in said["tags"] if tag["name"] == "regsvc_mail"]
        recipient = said["to"][0]
        self._inbox.add(Delivery(mail_id, recipient, trio.current_time(), "", 0, message.as_bytes()))


@dataclass(frozen=True)
class Keyed:
    """What came of kills on a route with keys.

    Args:
        entry: the books.
        kills: how often a worker was killed.
        repeated: requests that named a key which the provider knew.
        wrong: what is wrong, in words.
    """

    entry: Entry
    kills: int
    repeated: int
    wrong: list[str]


async def measure_keyed(
    folder: Path, root: Path, *, kills: int, seed: int, workers: int, patient: bool
) -> Keyed:
    """Kill workers around the request that hands a mail to a provider, while people sign up.

    Args:
        folder: for all data.
        root: where the database is when this runs as root.
        kills: how many.
        seed: of the choice.
        workers: processes of role `worker`.
        patient: let the leases of the killed run out by themselves at the end.
    """
    inbox, rng = Inbox(), random.Random(seed)
    provider = ProviderServer("resend", mails=_TakenMails(inbox))
    async with (
        provider.running(),
        open_stage(folder, root, workers=workers, inbox=inbox, provider=provider) as stage,
    ):
        run = Suite(stage, lambda _: None)
        entry = stage.ledger.begin("kill -9 on a route with keys")
        run.entries.append(entry)
        stage.load.go()
        misses, until = 0, trio.current_time() + _MINUTES * 60
        while entry.rounds < kills and misses < 20 and trio.current_time() < until:
            if rng.random() < 0.8 and not await rng.choice(KEYED_POINTS).strike(stage):
                misses += 1
                continue
            if rng.random() < 0.25:
                await trio.sleep(rng.uniform(0, 0.5))
                seat = rng.choice(stage.of("worker"))
                await seat.wait_alive()
                seat.kill()
                await seat.wait_ended()
            entry.rounds += 1
        entry.ended = trio.current_time()
        await stage.load.pause()
        if not patient:
            await stage.wait_ready()
            await stage.query("UPDATE mails SET due_at = now() WHERE state = 'sending'")
        wrong = await run.judge()
        if entry.rounds < kills:
            wrong.append(f"{entry.rounds} kills of {kills}")
        return Keyed(entry, entry.rounds, len(provider.requests) - len(provider.mails), wrong)


async def keyed(folder: Path, long: bool) -> Finding:  # noqa: FBT001 - trio.run passes by position
    """Kill workers five hundred times on a route with keys."""
    seed = random.SystemRandom().randrange(10**6)
    found = await measure_keyed(folder, folder, kills=500 if long else 10, seed=seed, workers=3, patient=long)
    text = (
        f"{print_table([found.entry])}\n\n{found.kills} kills (seed {seed});"
        f" {found.repeated} requests repeated a key that the provider knew"
    )
    return Finding(text, found.wrong)
