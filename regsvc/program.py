"""Run the program: signals, database check, supervisor, shutdown."""

from __future__ import annotations

import resource
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

import psycopg
import structlog
import trio

from regsvc import errors, supervisor
from regsvc.config.settings import Settings
from regsvc.consumer.sending.letters import Announce
from regsvc.flows.resealing import find_old
from regsvc.http.own_texts import check_templates
from regsvc.metrics import CHILD_FAILURES, CHILD_RUNNING, LAG
from regsvc.parts import LAME_DUCK, make_secrets, open_parts
from regsvc.postgres.connection import Connection
from regsvc.postgres.schema import check_rights, check_schema
from regsvc.processes import garbage
from regsvc.processes.member import Member
from regsvc.roles import make_children
from regsvc.supervisor import Supervisor, SupervisorStatistics

log = structlog.get_logger()

# Errors of an unavailable dependency. They are no bug, so the log needs no traceback.
_EXPECTED = (errors.RegsvcError, psycopg.OperationalError, OSError)

_LAG_PAUSE = 1.0  # seconds between two looks at the event loop
GRACE = 20.0  # seconds for the children to finish after a stop signal


async def run_service(
    settings: Settings,
    *,
    stopping: trio.Event,
    announcer: Announce | None = None,
    dev: bool = False,
    lame_duck: float = LAME_DUCK,
    on_ready: Callable[[], None] | None = None,
    member: Member | None = None,
) -> None:
    """Run the children of a role until `stopping` is set, then shut down gracefully.

    Args:
        settings: of this process.
        stopping: set to stop everything.
        announcer: receives the link and code of each mail that was sent; only in `dev`.
        dev: whether this is `regsvc dev`.
        lame_duck: seconds for which requests are still accepted after a stop signal, for load balancers to notice.
        on_ready: called when every child has started or failed once.
        member: this process among its siblings, if there are several.

    Raises:
        ConfigurationError: a mail template of the operator is invalid.
        SchemaMismatchError: the database is reachable and its schema does not match.
        SealError: the signing keys were sealed with another secret.
        GaveUpError: an essential child failed too often.
    """
    _raise_file_limit()
    check_templates(settings)
    newer = await check_database(settings)
    supervisors: list[Supervisor] = []

    def children() -> SupervisorStatistics:
        return supervisors[0].statistics()

    def restart(name: str) -> None:
        supervisors[0].restart(name)

    async with (
        _tracing(settings),
        open_parts(
            settings,
            stopping,
            children,
            restart,
            announcer=announcer,
            dev=dev,
            lame_duck=lame_duck,
            newer=newer,
            member=member,
        ) as parts,
    ):
        with garbage.spared():  # what a role needs is imported here
            family = make_children(parts)
        garbage.keep_imports()
        supervisors.append(Supervisor(family, stopping=stopping, hook=report, grace=GRACE))
        async with trio.open_nursery() as nursery:

            async def supervise(*, task_status: trio.TaskStatus[None]) -> None:
                await supervisors[0].run(task_status=task_status)
                nursery.cancel_scope.cancel()

            await nursery.start(supervise)
            nursery.start_soon(_measure_lag)
            if member is not None:
                await member.tell_ready()
            if on_ready is not None and not stopping.is_set():
                on_ready()


def _tracing(settings: Settings) -> AbstractAsyncContextManager[None]:
    if not settings.traces:
        return nullcontext()
    with garbage.spared():
        from regsvc.tracing.exporting import open_tracing  # noqa: PLC0415 - off, nothing of it is loaded

    return open_tracing(
        ratio=settings.traces_ratio, per_second=settings.traces_per_second, role=settings.role
    )


async def _measure_lag() -> None:
    """Measure, until cancelled, how late the event loop wakes a task."""
    while True:
        wanted = trio.current_time() + _LAG_PAUSE
        await trio.sleep_until(wanted)
        LAG.observe(max(0.0, trio.current_time() - wanted))


def _raise_file_limit() -> None:
    """Raise the limit of open files to the maximum: each client needs one."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS reports a hard limit that it does not grant
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def check_database(settings: Settings) -> tuple[str, ...]:
    """Check the server, schema, privileges and signing keys.

    If the database is unreachable, the program starts anyway and answers 503 until it is back.

    Returns:
        The migrations that are newer than this program.

    Raises:
        ServerNotUsableError: the server's version or encoding is not supported.
        SchemaMismatchError: the schema does not match this program.
        ConfigurationError: the database user lacks privileges.
        SealError: the signing keys were sealed with another secret (not checked in a worker).
    """
    try:
        conn = await Connection.connect(
            settings.database_url.get_secret_value(), application_name="regsvc start"
        )
        async with conn:
            newer = await check_schema(conn)
            if newer:
                log.warning("schema is newer than this program, but compatible", newer=newer)
            await check_rights(conn)
            if old := await find_old(conn, make_secrets(settings)):
                log.warning("sealed with another secret", kinds=old)
            if settings.role != "worker":
                from regsvc.security.signing import key_store  # noqa: PLC0415 - heavy, and a worker signs nothing

                keys, algorithm = make_secrets(settings), settings.token_alg
                await key_store.load_key_ring(conn, keys, settings.public_url, algorithm)
                if kid := await key_store.announce_algorithm(conn, keys, algorithm):
                    log.info("signing key added", kid=kid, algorithm=algorithm, at_once=False)
    except (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction) as error:
        log.warning("database not usable yet", error=" ".join(str(error).split()))
        return ()
    return newer


def report(event: supervisor.Event) -> None:
    """Log and count an event of a child."""
    match event:
        case supervisor.ChildStarted(name=name, lives=lives):
            CHILD_RUNNING.labels(name).set(1)
            (log.debug if lives == 1 else log.info)("child started", child=name, lives=lives)
        case supervisor.ChildFailed(name=name, text=text, delay=delay, failures_in_a_row=failures):
            CHILD_RUNNING.labels(name).set(0)
            CHILD_FAILURES.labels(name).inc()
            away = _is_away(event.error)
            # A dependency that stays away is logged less and less often: after 1, 2, 4, 8 … failures in a row.
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
    """Return whether an error means that a dependency is unavailable, rather than a bug."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(_EXPECTED)[1] is None
    return isinstance(error, _EXPECTED)


def _find_cause(error: BaseException) -> dict[str, str]:
    """Return the driver's reason why the database is unavailable, which clients do not see."""
    cause = error.__cause__ if isinstance(error, errors.DatabaseUnavailableError) else None
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    return {} if cause is None else {"cause": " ".join(str(cause).split())}
