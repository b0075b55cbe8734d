"""What an operator does with a new server: look, cancel what was sent, start, and see that all is well."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from tests.drill.before import ANN, BOB, Lost, MailServer, find_due, read_token, serve
from tests.drill.servers import Grounds, ask
from tests.programs import clean_environ, talk_to
from tests.services import PASSWORD, SECRET, Service

WRONG = "quite another secret, and long enough: 7Kq2xV9"


@dataclass
class Found:
    """What a restored database turned out to have.

    Args:
        seconds: from the empty machine to the database that takes connections.
        verified: exit code of `regsvc verify` with the right secret.
        verified_wrong: the same with a wrong one.
        missing: sign-ups that were accepted and are not there.
        ended_session: status of refreshing a session that had been ended.
        login: status of a login with password and code.
        link: status of confirming a sign-up by a link that was mailed after the backup.
        due: mails that were due after the restore.
        cancelled: of those, how many the operator cancelled since the log says that they were sent.
        sent: how often each mail was accepted after the restore.
    """

    seconds: float
    verified: int
    verified_wrong: int
    missing: int
    ended_session: int = 0
    login: int = 0
    link: int = 0
    due: set[str] = field(default_factory=set)
    cancelled: int = 0
    sent: Counter[str] = field(default_factory=Counter)


async def regsvc(database: str, *arguments: str, secret: str = SECRET) -> int:
    """Run one of the operator's commands and return its exit code."""
    environ = {"REGSVC_DATABASE_URL": database, "REGSVC_SECRET_KEY": secret}
    with trio.fail_after(60):
        done = await trio.run_process(
            [sys.executable, "-m", "regsvc", *arguments],
            env=clean_environ(environ),
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
    return done.returncode


@asynccontextmanager
async def timed(opening: AbstractAsyncContextManager[str]) -> AsyncIterator[tuple[str, float]]:
    """Open a restored server and give its URI with the seconds that it took."""
    began = time.monotonic()
    async with opening as database:
        yield database, time.monotonic() - began


async def restore(
    way: str, grounds: Grounds, server: MailServer, folder: Path, lost: Lost, *, careful: bool = True
) -> Found:
    """Restore into a new server, start the program there, and return what was found.

    Args:
        way: `dump`, or `log` for the base backup and the log behind it.
        grounds: where servers are.
        server: where mail goes.
        folder: for logs.
        lost: what there was.
        careful: whether the operator cancels mails that the log calls accepted since the backup.
    """
    opening = grounds.restore_dump() if way == "dump" else grounds.restore_base()
    async with timed(opening) as (database, seconds):
        assert await regsvc(database, "migrate") == 0
        ((there,),) = await ask(database, "SELECT count(*) FROM registrations")
        assert isinstance(there, int)
        found = Found(
            seconds,
            await regsvc(database, "verify"),
            await regsvc(database, "verify", secret=WRONG),
            lost.signed_up - there,
        )
        found.due = await find_due(database)
        if careful and (again := sorted(found.due & lost.sent_since)):
            assert await regsvc(database, "mail", "cancel", *again) == 0
            found.cancelled = len(again)
        before, wanted = server.counted(), len(server.mails) + len(found.due) - found.cancelled
        async with serve(database, server, folder, "all") as program, talk_to(program, folder) as service:
            answer = await service.post("/token/refresh", {"refresh_token": lost.refresh_token})
            found.ended_session = answer.status_code
            found.login = await log_in(service, lost)
            mailed = server.find(lost.sent_since & lost.backed_up)[0]
            answer = await service.post("/confirm-email", {"token": read_token(mailed)})
            found.link = answer.status_code
            await server.wait_mails(wanted)
            await program.stop()
        found.sent = server.counted() - before
        assert await find_due(database) == set()
    return found


async def log_in(service: Service, lost: Lost) -> int:
    """Log Ann in with her password and her app's code, and Bob with his password; return the last status."""
    first = await service.post("/login", {"email": ANN, "password": PASSWORD})
    token = first.json()["mfa_token"]
    second = await service.post("/login/second-factor", {"mfa_token": token, "code": lost.owner.code()})
    assert second.status_code == 200, second.text
    return (await service.post("/login", {"email": BOB, "password": PASSWORD})).status_code
