"""Leases of claimed messages, by a clock that this process can trust."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

import trio

from regsvc.consumer.sending.in_hand import InHand
from regsvc.errors import DatabaseUnavailableError
from regsvc.mail.queue import leases
from regsvc.mail.queue.jobs import LEASE
from regsvc.postgres.pool import Pool
from regsvc.waiting import lease_time

TRUSTED: Final = LEASE.total_seconds() - 5.0
"""Seconds from a claim or renewal in which mails are sent under a lease."""


async def keep_leases(pool: Pool, find_in_hand: Callable[[], Sequence[InHand]]) -> None:
    """Renew the leases of claimed messages forever; messages whose lease is lost are not sent."""
    while True:
        await trio.sleep(leases.RENEW_EVERY.total_seconds())
        held = find_in_hand()
        if held:
            await _renew(pool, held)


async def _renew(pool: Pool, held: Sequence[InHand]) -> None:
    renewed_at = lease_time()
    jobs = [each.job for each in held]
    try:
        async with pool.connection() as conn:
            renewed = await leases.renew_leases(conn, jobs)
            ours = renewed if len(renewed) == len(jobs) else await leases.find_leased(conn, jobs)
    except DatabaseUnavailableError:
        return  # the leases expire by themselves, and with them the right to send
    for each in held:
        if each.job.id in renewed:
            each.held_until = renewed_at + TRUSTED
        elif each.job.id not in ours:
            each.held_until = renewed_at
