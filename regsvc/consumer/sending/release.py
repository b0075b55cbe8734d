"""Releasing claimed mails unsent, for other workers or for later."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import structlog
import trio

from regsvc.consumer.sending.in_hand import InHand, MailsInHand
from regsvc.consumer.sending.line import Line
from regsvc.errors import DatabaseUnavailableError
from regsvc.mail.queue import leases
from regsvc.postgres.pool import Pool

log = structlog.get_logger()

_SHED_EVERY = 1.0  # seconds between checks for mails that wait for slow receivers
_SHED_FOR = timedelta(seconds=15)  # until those are claimed again


async def shed(pool: Pool, in_hand: MailsInHand, line: Line) -> None:
    """Release mails that wait for slow receivers beyond half of the room, which is kept for all others."""
    while True:
        await trio.sleep(_SHED_EVERY)
        excess = line.take_excess()
        try:
            await release(pool, in_hand, excess, after=_SHED_FOR)
        except DatabaseUnavailableError:
            continue  # their leases expire
        if excess:
            log.info("mails put off behind a slow receiver", mails=len(excess))


async def release(
    pool: Pool, in_hand: MailsInHand, waiting: Sequence[InHand], *, after: timedelta = timedelta(0)
) -> None:
    """Give up the leases of mails that wait in line.

    Args:
        pool: PostgreSQL.
        in_hand: forgets them, whether or not that succeeds: leases expire by themselves.
        waiting: the mails.
        after: time until they may be claimed again.

    Raises:
        DatabaseUnavailableError: the database is unavailable.
    """
    if not waiting:
        return
    try:
        async with pool.transaction() as conn:
            jobs = [held.job for held in waiting]
            admitted = [held.job.id for held in waiting if held.turn is None]
            await leases.release_jobs(conn, jobs, admitted=admitted, after=after)
    finally:
        in_hand.forget(waiting)
