"""`regsvc events`: repeat events to the exchange."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import click
import structlog

from regsvc.accounts.audit.record import record
from regsvc.accounts.events.replay import replay_since
from regsvc.accounts.events.sinks import KEEP, find_exchange
from regsvc.commands.runner import ACTOR, by_operator, load_operation, open_database, run_command
from regsvc.errors import ConfigurationError
from regsvc.postgres.connection import Connection

log = structlog.get_logger()


class Since(click.ParamType[datetime]):
    """A time with its offset (RFC 3339), or a span until now such as `90m`, `6h` or `2d`."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time."""
        units = {"m": "minutes", "h": "hours", "d": "days"}
        if value[:-1].isdecimal() and value[-1:] in units and len(value) <= 6:  # noqa: PLR2004 - 99999 of anything
            return datetime.now(UTC) - timedelta(**{units[value[-1]]: int(value[:-1])})
        try:
            since = datetime.fromisoformat(value)
        except ValueError:
            self.fail("Use a time such as 2026-01-31T12:00:00Z, or a span such as 90m, 6h or 2d.", param, ctx)
        return since if since.tzinfo is not None else since.replace(tzinfo=UTC)


since_option = click.option(
    "--since",
    type=Since(),
    required=True,
    help="Time of the first event, such as 2026-01-31T12:00:00Z, or how long ago: 90m, 6h, 2d.",
)


@click.group()
def events() -> None:
    """Events for other services, in RabbitMQ."""


@events.command()
@since_option
def replay(since: datetime) -> None:
    """Publish the events since a time again, for queues that lost theirs. They keep their ids."""

    async def run() -> None:
        chosen = load_operation()
        if not chosen.events_exchange:
            raise ConfigurationError("REGSVC_EVENTS_EXCHANGE is not set")
        async with open_database(chosen) as conn:
            sink = await find_exchange(conn, chosen.events_exchange)
            count = 0 if sink is None else await repeat(conn, sink, since)
        click.echo(f"{count} events are published again")

    run_command(run)


async def repeat(conn: Connection, sink: UUID, since: datetime) -> int:
    """Repeat all events since a time in batches, and return their number."""
    total, after = 0, None
    since = max(since, datetime.now(UTC) - KEEP)
    while True:
        count, after = await replay_since(conn, sink, since, after)
        total += count
        if after is None:
            break
    await record(conn, "events_replayed", by_operator(), sink=str(sink), count=total)
    log.info("events replayed", actor=ACTOR, count=total)
    return total
