"""The stage: a PostgreSQL, a RabbitMQ, mail servers, the program, and a bad network between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import trio
from aiormq.exceptions import ChannelNotFoundEntity

from tests.amqp import open_channel
from tests.faults.inbox import Inbox, SeatMails
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.mischief import Mischief
from tests.faults.seats import Seat
from tests.mail.providers import ProviderServer
from tests.nodes import PrivateBroker
from tests.postgres_servers import PostgresServer, open_postgres
from tests.programs import serve_environ
from tests.proxies import Proxy, open_proxy
from tests.smtp_servers import ScriptedServer
from tests.suite.ports import take_port

QUEUE, DEAD = "email_confirm", "email_confirm.dead"
# Shorter than what people run, so that a mail server's silence does not last.
SMTP_SECONDS = {"connect": 3, "command": 3, "data": 3, "accept": 5}


@dataclass(eq=False)
class Stage:
    """All of it, running.

    Args:
        postgres: the database server.
        broker: the RabbitMQ node.
        mischief: what the mail servers do wrong.
        inbox: what they accepted.
        seats: the processes of the program.
        load: the sign-ups.
        ledger: the books.
        nursery: ends with the stage.
    """

    postgres: PostgresServer
    broker: PrivateBroker
    mischief: Mischief
    inbox: Inbox
    seats: Sequence[Seat]
    load: Load
    ledger: Ledger
    nursery: trio.Nursery
    mail_servers: list[ScriptedServer] = field(default_factory=list)

    def of(self, role: str) -> list[Seat]:
        """Return the processes of a role; `any` is all of them."""
        return [seat for seat in self.seats if role in {seat.role, "any"}]

    def wires(self, dependency: str) -> list[Proxy]:
        """Return what lies between the processes and one dependency."""
        return [seat.wires[dependency] for seat in self.seats]

    async def wait_ready(self) -> None:
        """Wait until every process is ready."""
        async with trio.open_nursery() as nursery:
            for seat in self.seats:
                nursery.start_soon(seat.wait_ready)

    async def query(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Execute one statement at the server itself, again and again while it is away, and return its rows."""

        def run() -> list[tuple[Any, ...]]:
            # What a fault does to sessions in general is not meant for this one.
            options = "-c default_transaction_read_only=off"
            with psycopg.connect(self.postgres.conninfo, autocommit=True, options=options) as connection:
                cursor = connection.execute(statement.encode(), parameters)
                return cursor.fetchall() if cursor.description else []

        while True:
            try:
                return await trio.to_thread.run_sync(run)
            except psycopg.OperationalError:
                await trio.sleep(0.2)

    async def ctl(self, action: str) -> None:
        """Do something to the broker, one of `PrivateBroker`'s methods without arguments."""
        await trio.to_thread.run_sync(getattr(self.broker, action))

    async def depths(self) -> tuple[int, int]:
        """Return how many messages wait in the queue and in the dead letters; in one that is gone, none do."""

        async def depth(queue: str) -> int:
            found = 0
            try:
                async with open_channel(self.broker.url()) as channel:
                    found = await channel.depth(queue)
            except* ChannelNotFoundEntity:
                pass
            return found

        return await depth(QUEUE), await depth(DEAD)

    def note_cut(self, seat: Seat | None = None, life: int | None = None, *, since: float = 0.0) -> None:
        """Look which mails, accepted before a fault, are not booked: those alone may come twice.

        Args:
            seat: the process that was hit; None is all of them.
            life: of that process; the present one by default.
            since: only mails accepted after this, by Trio's clock.
        """
        seats = self.seats if seat is None else [seat]
        hit = [d for s in seats for d in self.inbox.of(s.name, [life or s.life]) if d.at >= since]
        if hit:
            self.nursery.start_soon(self.ledger.note_cut, self.load.tag, [d.mail_id for d in hit])

    async def note_lost_answers(self, *, since: float) -> None:
        """Look for mails whose acceptance the program never learned of, when it has lost mail servers' answers.

        Args:
            since: when that began, by Trio's clock; whoever waited for an answer then may have done so for a while.
        """
        # It notices at once, and tries again no sooner than in four seconds.
        await trio.sleep(1)
        self.note_cut(since=since - SMTP_SECONDS["accept"])

    async def heal(self, seconds: float = 400) -> bool:
        """Stop the load and wait until nothing is left to be done; say whether that came to pass."""
        await self.load.pause()
        self.mischief.disarm()
        with trio.move_on_after(seconds):
            await self.wait_ready()
            while True:
                ((left,),) = await self.query(
                    "SELECT count(*) FROM mails WHERE state IN ('queued', 'sending', 'delayed')"
                )
                if not left:
                    return True
                await trio.sleep(0.25)
        return False


@asynccontextmanager
async def open_stage(
    folder: Path,
    root: Path,
    *,
    apis: int = 1,
    workers: int = 2,
    pace: float = 5.0,
    inbox: Inbox | None = None,
    settings: Mapping[str, str] | None = None,
    routes: int = 1,
    smtp_seconds: Mapping[str, float] = SMTP_SECONDS,
    provider: ProviderServer | None = None,
) -> AsyncIterator[Stage]:
    """Run a stage as long as the block lasts; nobody signs up yet.

    Args:
        folder: for all data; its path has to be short, and others must be able to enter it.
        root: where the database is when this runs as root.
        apis: processes of role `api`.
        workers: processes of role `worker`.
        pace: sign-ups a second.
        inbox: what keeps the books of deliveries.
        settings: of the processes, besides those of every stage.
        routes: mail servers of each process, of which the first is `mail` among its wires and the next `mail 2`.
        smtp_seconds: how long a mail server may take for each stage.
        provider: what takes all mail instead of mail servers.
    """
    async with _bare_errors(), AsyncExitStack() as stack:
        node = PrivateBroker()
        stack.push_async_callback(_close, node)
        await trio.to_thread.run_sync(node.launch)
        postgres = await stack.enter_async_context(open_postgres(folder / "pg", root, settings={}))
        await trio.to_thread.run_sync(node.wait_ready)
        nursery = await stack.enter_async_context(trio.open_nursery())
        stack.callback(nursery.cancel_scope.cancel)
        mischief, inbox = Mischief(), inbox or Inbox()
        servers: list[ScriptedServer] = []
        roles = [*[("api", n) for n in range(1, apis + 1)], *[("worker", n) for n in range(1, workers + 1)]]
        seats: list[Seat] = []
        stage_box: list[Stage] = []

        def on_death(seat: Seat, life: int) -> None:
            stage_box[0].note_cut(seat, life)

        for role, number in roles:
            name, port = f"{role} {number}", take_port()
            mails = SeatMails(inbox, name)
            wires = {}
            for route in range(1, routes + 1):
                if provider is None:
                    servers.append(ScriptedServer(mischief, mails=mails))
                    await stack.enter_async_context(servers[-1].running())
                upstream = servers[-1].port if provider is None else provider.port
                wire = await stack.enter_async_context(open_proxy(("127.0.0.1", upstream)))
                wires["mail" if route == 1 else f"mail {route}"] = wire
            ways_out = [f"smtp://127.0.0.1:{wire.port}" for wire in wires.values()]
            if provider is not None:
                ways_out = [f"resend://canary-key@?base=http://127.0.0.1:{wires['mail'].port}"]
            wires |= {
                "postgres": await stack.enter_async_context(open_proxy(_socket(postgres.conninfo))),
                "broker": await stack.enter_async_context(open_proxy(("127.0.0.1", node.port))),
            }
            environ = serve_environ(
                _through(postgres.conninfo, wires["postgres"].port),
                folder,
                smtp_url=" ".join(ways_out),
                http_port=str(port),
                amqp_url=node.url().replace(str(node.port), str(wires["broker"].port)),
                **{f"smtp_{stage}_seconds": str(seconds) for stage, seconds in smtp_seconds.items()},
                **(settings or {}),
            )
            output = folder / f"{name.replace(' ', '-')}.log"
            output.touch()
            url = f"http://127.0.0.1:{port}"
            seats.append(Seat(name, role, environ, wires, mails, url, output, on_death))
        load = Load([seat.url for seat in seats if seat.role == "api"], pace)
        ledger = Ledger(inbox, load)
        stage = Stage(postgres, node, mischief, inbox, seats, load, ledger, nursery, servers)
        ledger.query = stage.query
        stage_box.append(stage)
        for seat in seats:
            nursery.start_soon(seat.keep)
        nursery.start_soon(load.run)
        await stage.wait_ready()
        yield stage
        # The processes end before what they talk to, or they would have much to say about it.
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def _bare_errors() -> AsyncIterator[None]:
    """Raise what went wrong itself, where it is one thing, and not a group of a group for each nursery around it."""
    try:
        yield
    except ExceptionGroup as group:
        error: Exception = group
        while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        raise error from error.__cause__


async def _close(node: PrivateBroker) -> None:
    with trio.CancelScope(shield=True):
        await trio.to_thread.run_sync(partial(node.close))


def _socket(conninfo: str) -> Path:
    parameters = psycopg.conninfo.conninfo_to_dict(conninfo)
    return Path(str(parameters["host"])) / f".s.PGSQL.{parameters['port']}"


def _through(conninfo: str, port: int) -> str:
    parameters = psycopg.conninfo.conninfo_to_dict(conninfo)
    return f"postgresql://{parameters['user']}@127.0.0.1:{port}/{parameters['dbname']}?sslmode=disable"
