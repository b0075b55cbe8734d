"""The figure of a long outage: very many held mails, and a server that is well again."""

from __future__ import annotations

from pathlib import Path

import trio

from regsvc.mail.queue import breaker
from regsvc.postgres.pool import Pool
from tests.faults.figures import Finding
from tests.mail.test_courier import run_sending
from tests.mail.test_many_held import hold
from tests.postgres_servers import open_postgres
from tests.smtp_servers import ScriptedServer

PROMISED = 60.0  # seconds until sending is at full speed
_WINDOW = 10.0  # seconds over which a speed is measured


async def held(folder: Path, long: bool) -> Finding:  # noqa: FBT001 - trio.run passes by position
    """Hold mails, let the server be well again, and look at the speed a minute later and after the next."""
    count = 1_000_000 if long else 60_000
    async with open_postgres(folder / "pg", folder, settings={"max_wal_size": "4GB"}) as server:
        pool = Pool(server.conninfo, size=4, application_name="regsvc figures")
        await hold(pool, count)
        async with pool.connection() as conn:
            await conn.execute("UPDATE mail_breaker SET probe_at = now()")
        async with (
            ScriptedServer().running() as smtp,
            run_sending(pool, server.conninfo, smtp, sessions=4),
        ):
            began = trio.current_time()
            await smtp.wait(lambda: bool(smtp.mails), seconds=PROMISED)
            first = trio.current_time() - began
            await trio.sleep_until(began + PROMISED)
            early = await _measure(smtp)
            later = await _measure(smtp)
            async with pool.connection() as conn:
                state = await breaker.get_breaker(conn)
        await pool.aclose()
    text = (
        f"{count} held mails: the first sent after {first:.1f} s, {early:.0f} a second after {PROMISED:.0f} s,"
        f" {later:.0f} later; the breaker is {'open' if state.open else 'closed'}"
    )
    wrong = ["the breaker is open"] if state.open else []
    if early < later * 0.7:
        wrong.append(f"{early:.0f} mails a second after a minute, and {later:.0f} later")
    return Finding(text, wrong)


async def _measure(smtp: ScriptedServer) -> float:
    before = len(smtp.mails)
    await trio.sleep(_WINDOW)
    return (len(smtp.mails) - before) / _WINDOW
