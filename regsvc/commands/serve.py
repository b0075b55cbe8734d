"""`regsvc serve`: the service in production, in one process or several."""

from __future__ import annotations

from functools import partial

import click
import structlog
import trio

from regsvc import __version__
from regsvc.commands.runner import configure_logs, run_command
from regsvc.config import loading
from regsvc.config.settings import Role, Settings
from regsvc.processes.family import Family, start_command
from regsvc.processes.member import open_member
from regsvc.processes.service_manager import ServiceManager
from regsvc.processes.signals import heed_signals
from regsvc.processes.sockets import bind

log = structlog.get_logger()


@click.command()
@click.option(
    "--role", type=click.Choice(["all", "api", "worker"]), help="What to run [default: REGSVC_ROLE, or all]."
)
@click.option(
    "--processes",
    type=click.IntRange(1, 64),
    help="How many processes to run [default: REGSVC_PROCESSES, or 1].",
)
@click.option("--member", hidden=True, help="What the supervisor of several processes hands to each.")
def serve(role: Role | None, processes: int | None, member: str | None) -> None:
    """Run the service in production: all of it, the API, or a worker."""
    run_command(partial(_serve, role, processes, member))


async def _serve(role: Role | None, processes: int | None, member: str | None) -> None:
    chosen = loading.load(mode="serve", role=role, processes=processes)
    configure_logs(chosen)
    if member is not None:
        await _run_member(chosen, member)
        return
    for line in chosen.insecurities():
        log.warning("insecure", setting=line)
    links = loading.list_service_links()
    if links:
        log.info("variables of Kubernetes Services ignored", names=links)
    if chosen.processes > 1:
        await _run_family(chosen)
    else:
        await _run_alone(chosen)
    log.info("stopped")


async def _run_alone(chosen: Settings) -> None:
    # Here, and not above: the supervisor of several processes needs none of it.
    from regsvc.program import run_service  # noqa: PLC0415

    async with trio.open_nursery() as nursery:
        stopping = trio.Event()
        manager = ServiceManager(*loading.find_service_manager())
        await nursery.start(heed_signals, stopping)
        nursery.start_soon(_tell_stop, manager, stopping)
        nursery.start_soon(manager.feed)
        log.info("starting", role=chosen.role, version=__version__)
        await run_service(chosen, stopping=stopping, on_ready=partial(manager.tell, "READY=1"))
        nursery.cancel_scope.cancel()


async def _tell_stop(manager: ServiceManager, stopping: trio.Event) -> None:
    await stopping.wait()
    manager.tell("STOPPING=1")


async def _run_family(chosen: Settings) -> None:
    """Supervise several processes that each run the role."""
    listens = chosen.role != "worker" or chosen.http_port
    with bind(chosen.http_host if listens else (), chosen.http_port) as bound:
        async with trio.open_nursery() as nursery:
            stopping = trio.Event()
            family = Family(
                chosen.processes,
                command=start_command(),
                bound=bound if listens else None,
                stopping=stopping,
            )
            manager = ServiceManager(*loading.find_service_manager())
            await nursery.start(partial(heed_signals, stopping, at_once=family.kill))
            nursery.start_soon(_tell_stop, manager, stopping)
            nursery.start_soon(manager.feed)
            log.info("starting", role=chosen.role, version=__version__, processes=chosen.processes)
            await family.run(on_ready=partial(manager.tell, "READY=1"))
            nursery.cancel_scope.cancel()


async def _run_member(chosen: Settings, handed: str) -> None:
    """Be one of several processes."""
    from regsvc.program import run_service  # noqa: PLC0415 - as above

    member = open_member(handed)
    structlog.contextvars.bind_contextvars(process=member.number)
    async with trio.open_nursery() as nursery:
        stopping = trio.Event()
        await nursery.start(heed_signals, stopping)
        await nursery.start(member.run, stopping)
        nursery.start_soon(member.beat)
        await run_service(chosen, stopping=stopping, member=member)
        nursery.cancel_scope.cancel()
