"""A primary is lost under load and its synchronous standby promoted: seconds of 503, and nothing lost.

Two API processes and two workers have both hosts in REGSVC_DATABASE_URL. People sign up all the time. The primary is
killed, or the network swallows it; the standby is promoted a second later, from which moment on the time counts.
"""

from __future__ import annotations

import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from email import message_from_bytes, policy
from functools import partial
from pathlib import Path

import psycopg
import pytest
import trio

from tests.faults.load import Load, SignUp
from tests.programs import run_program, serve_environ
from tests.smtp_servers import ScriptedServer
from tests.standbys import Pair, open_pair

pytestmark = pytest.mark.timeout(600)

PACE = 6.0  # sign-ups a second
CALM = 6.0  # seconds of traffic before
AFTER = 25.0  # seconds of traffic after
PROMISED = 10.0  # seconds of 503 from the promotion
SESSIONS = 8  # conversations of the two workers with the mail server
PATIENCE = 120.0  # seconds for the last mail


async def kill(pair: Pair) -> None:
    """Kill the primary."""
    await pair.primary.end(signal.SIGKILL)


async def swallow(pair: Pair) -> None:
    """Have the network swallow what goes to the primary; it is fenced off, so no process writes to it again."""
    pair.primary_wire.black_hole = True
    await trio.lowlevel.checkpoint()


async def stop(pair: Pair) -> None:
    """Stop the primary in order, as for maintenance."""
    await pair.primary.end(signal.SIGINT)


@pytest.mark.parametrize("lose", [kill, swallow, stop], ids=["killed", "silent", "stopped"])
async def test_a_standby_takes_over_in_seconds_and_nothing_is_lost(
    amqp_url: str,
    short_directory: Path,
    root_directory: Path,
    tmp_path: Path,
    lose: Callable[[Pair], Awaitable[None]],
) -> None:
    async with (
        open_pair(short_directory, root_directory) as pair,
        ScriptedServer().running() as smtp,
        AsyncExitStack() as stack,
    ):
        environ = serve_environ(pair.url, tmp_path, amqp_url=amqp_url, smtp_url=smtp.url)
        programs = [
            await stack.enter_async_context(
                run_program("serve", "--role", role, folder=tmp_path, environ=environ)
            )
            for role in ("api", "api", "worker", "worker")
        ]
        load = Load([program.url for program in programs[:2]], PACE)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(load.run)
            load.go()
            await trio.sleep(CALM)
            lost_at = trio.current_time()
            await lose(pair)
            await trio.sleep(1)
            await pair.promote()
            promoted_at = trio.current_time()
            await trio.sleep(AFTER)
            await load.pause()
            for program in programs:
                await program.wait_ready()
            await _wait_mailed(pair)
            nursery.cancel_scope.cancel()
        for program in programs:
            assert await program.stop() == 0, program.log()
            program.check_log()
        wrong = await _judge(pair, load.outcomes, smtp, lost_at, promoted_at)
    assert wrong == []


async def _wait_mailed(pair: Pair) -> None:
    with trio.move_on_after(PATIENCE):
        while await trio.to_thread.run_sync(  # noqa: ASYNC110 - rows of other processes
            partial(
                _count, pair, "SELECT count(*) FROM mails WHERE state IN ('queued', 'sending', 'delayed')"
            )
        ):
            await trio.sleep(0.3)


def _count(pair: Pair, statement: str) -> int:
    with psycopg.connect(pair.standby.conninfo) as connection:
        row = connection.execute(statement.encode()).fetchone()
    assert row is not None
    return int(row[0])


async def _judge(
    pair: Pair, outcomes: list[SignUp], smtp: ScriptedServer, lost_at: float, promoted_at: float
) -> list[str]:
    """Print the figures, and return what is wrong."""
    statuses = Counter(outcome.status for outcome in outcomes)
    refused = [o.at + o.seconds - promoted_at for o in outcomes if o.status != 201]
    longest = max([o.seconds for o in outcomes])
    with psycopg.connect(pair.standby.conninfo) as connection:
        rows = {
            str(id_): (address, state)
            for id_, address, state in connection.execute("SELECT id, email, state FROM registrations")
        }
    told = {o.registration_id: o.address for o in outcomes if o.status == 201}
    lost = [address for id_, address in told.items() if id_ not in rows]
    copies = Counter(str(message_from_bytes(m.data, policy=policy.default)["Message-ID"]) for m in smtp.mails)
    mailed = {mail.recipient for mail in smtp.mails}
    unmailed = [address for address, _ in rows.values() if address not in mailed]
    doubled = sum(count > 1 for count in copies.values())
    last = max(refused, default=0.0)
    print(  # noqa: T201
        f"\n{len(outcomes)} sign-ups: {statuses[201]} answered 201, {statuses[503]} answered 503, the last {last:.1f} s"
        f" after the promotion, {promoted_at - lost_at:.1f} s after the loss; longest answer {longest:.1f} s;"
        f" {len(lost)} lost, {len(unmailed)} not mailed, {doubled} mailed twice"
    )
    wrong = [f"201, and not there: {address}" for address in lost]
    wrong += [f"not mailed: {address}" for address in unmailed]
    if unknown := set(statuses) - {201, 503}:
        wrong.append(f"answered with {sorted(unknown)}")
    if last > PROMISED:
        wrong.append(f"503 {last:.1f} s after the promotion")
    if doubled > SESSIONS:  # a mail each that was between its dot and the commit
        wrong.append(f"{doubled} mails came twice")
    return wrong
