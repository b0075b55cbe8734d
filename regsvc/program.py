"""Running the program: signals, the first look at the database, the supervisor, the end."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from contextlib import suppress

import psycopg
import structlog
import trio

from regsvc import errors, logs, supervisor
from regsvc.config.settings import Settings
from regsvc.consumer.letters import Announce
from regsvc.http.app import check_templates
from regsvc.metrics import CHILD_FAILURES, CHILD_RUNNING
from regsvc.parts import LAME_DUCK, make_secrets, open_parts
from regsvc.postgres.connection import Connection
from regsvc.postgres.schema import check_rights, check_schema
from regsvc.roles import make_children
from regsvc.security.key_store import load_key_ring
from regsvc.supervisor import Supervisor, SupervisorStatistics

log = structlog.get_logger()

# What being away looks like: no bug of ours, so the log needs no traceback.
_EXPECTED = (errors.RegsvcError, psycopg.OperationalError, OSError)

GRACE = 20.0  # seconds that the children have to end by themselves


async def run_service(
    settings: Settings,
    *,
    stopping: trio.Event,
    announcer: Announce | None = None,
    dev: bool = False,
    lame_duck: float = LAME_DUCK,
    on_ready: Callable[[], None] | None = None,
) -> None:
    """Run the children of a role until `stopping` is set, then end in good order.

    Args:
        settings: of this process.
        stopping: asks everything to end.
        announcer: is told link and code of what was sent; in `dev` alone.
        dev: this is `regsvc dev`.
        lame_duck: seconds in which requests are still taken once it ends, for whoever sends them to learn of it.
        on_ready: is called once every child has started, or failed for the first time.

    Raises:
        ConfigurationError: a text of the operator's cannot be used.
        SchemaMismatchError: the database is there and has another schema.
        SealError: it is there, and its signing keys were sealed with another secret.
        GaveUpError: a child without which there is no point in going on failed too often.
    """
    _raise_file_limit()
    check_templates(settings)
    newer = await check_database(settings)
    supervisors: list[Supervisor] = []

    def children() -> SupervisorStatistics:
        return supervisors[0].statistics()

    def restart(name: str) -> None:
        supervisors[0].restart(name)

    async with open_parts(
        settings, stopping, children, restart, announcer=announcer, dev=dev, lame_duck=lame_duck, newer=newer
    ) as parts:
        supervisors.append(Supervisor(make_children(parts), stopping=stopping, hook=report, grace=GRACE))
        async with trio.open_nursery() as nursery:

            async def supervise(*, task_status: trio.TaskStatus[None]) -> None:
                await supervisors[0].run(task_status=task_status)
                nursery.cancel_scope.cancel()

            await nursery.start(supervise)
            if on_ready is not None and not stopping.is_set():
                on_ready()


def _raise_file_limit() -> None:
    """Allow as many open files as the system lets us: each client is one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS names a hard limit that it does not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def check_database(settings: Settings) -> tuple[str, ...]:
    """Look at server, schema, rights and signing keys.

    A database out of reach is waited for by answering 503, not by not starting.

    Returns:
        The migrations that are newer than this program.

    Raises:
        ServerNotUsableError: version or encoding of the server are none to work with.
        SchemaMismatchError: this program does not run on the schema.
        ConfigurationError: the database's user lacks rights.
        SealError: the secret is not the one that sealed the signing keys, which a worker has no use for.
    """
    try:
        conn = await Connection.connect(
            settings.database_url.get_secret_value(), application_name="regsvc start"
        )
        async with conn:
            newer = await check_schema(conn)
            if newer:
                log.warning("schema is newer than this program, and serves it", newer=newer)
            await check_rights(conn)
            if settings.role != "worker":
                await load_key_ring(conn, make_secrets(settings), settings.public_url)
    except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
        log.warning("database not usable yet", error=" ".join(str(error).split()))
        return ()
    return newer


async def heed_signals(
    stopping: trio.Event,
    *,
    at_once: Callable[[], None] = lambda: None,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Set `stopping` at the first SIGINT or SIGTERM; at the second, end the process on the spot.

    SIGHUP, by which a terminal that is closed says good-bye, counts as well, unless `nohup` has it ignored.

    Args:
        stopping: asks everything to end.
        at_once: is called before the process ends on the spot.
        task_status: told once signals are heeded.
    """
    heeded = {signal.SIGINT, signal.SIGTERM}
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        heeded.add(signal.SIGHUP)
    with trio.open_signal_receiver(*heeded) as signals:
        task_status.started()
        async for number in signals:
            name = signal.Signals(number).name
            if stopping.is_set():
                log.warning("ending at once", signal=name)
                at_once()
                logs.drain(0.2)
                os._exit(1)
            log.info("stopping", signal=name)
            stopping.set()


def report(event: supervisor.Event) -> None:
    """Tell the log and the metrics what happened to a child."""
    match event:
        case supervisor.ChildStarted(name=name, lives=lives):
            CHILD_RUNNING.labels(name).set(1)
            (log.debug if lives == 1 else log.info)("child started", child=name, lives=lives)
        case supervisor.ChildFailed(name=name, text=text, delay=delay, failures_in_a_row=failures):
            CHILD_RUNNING.labels(name).set(0)
            CHILD_FAILURES.labels(name).inc()
            away = _is_away(event.error)
            # What stays away is told of ever more seldom: after 1, 2, 4, 8 … failures in a row.
            tell = log.debug if away and failures & (failures - 1) else log.warning
            tell(
                "child failed",
                child=name,
                error=text,
                **(_find_cause(event.error) if away else {"exc_info": event.error}),
                in_a_row=failures,
                next_try_in=None if delay is None else round(delay, 1),
            )
        case supervisor.ChildGaveUp(name=name, text=text):
            log.error("child gave up", child=name, error=text)
        case supervisor.ChildCancelled(name=name):
            log.warning("child cancelled: the grace is over", child=name)
        case supervisor.ChildStopped(name=name):
            CHILD_RUNNING.labels(name).set(0)
            log.debug("child stopped", child=name)
        case supervisor.RestartRequested(name=name):
            log.info("child restart requested", child=name)
        case supervisor.StopRequested(grace=grace):
            log.info("draining", grace=grace)


def _is_away(error: BaseException) -> bool:
    """Say whether an error means that something we need is away, and no bug of ours."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(_EXPECTED)[1] is None
    return isinstance(error, _EXPECTED)


def _find_cause(error: BaseException) -> dict[str, str]:
    """Return why the database is away, which our own error keeps from clients."""
    cause = error.__cause__ if isinstance(error, errors.DatabaseUnavailableError) else None
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return {} if cause is None else {"cause": " ".join(str(cause).split())}
