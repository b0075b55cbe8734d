"""`regsvc check`: is everything there that this process will need?"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

import psycopg
import trio

from regsvc.config.settings import Settings
from regsvc.errors import RegsvcError
from regsvc.mail.outcome import Aborted, Accepted
from regsvc.postgres.connection import Connection
from regsvc.postgres.migrate import check_schema
from regsvc.rabbitmq import check_broker, check_foreign_queue
from regsvc.roles import make_secrets, open_mail_transport
from regsvc.security.key_store import check_seals

PATIENCE = 15.0  # seconds for each


async def check_dependencies(settings: Settings) -> AsyncIterator[tuple[str, str | None]]:
    """Yield what was looked at and what is wrong with it, None when nothing is."""
    yield "postgresql", await _try(lambda: _check_database(settings))
    if settings.amqp_url is not None:
        url = settings.amqp_url.get_secret_value()
        yield "rabbitmq", await _try(lambda: check_broker(url))
    if settings.accept_foreign_mail and settings.foreign_amqp_url is not None:
        foreign, queue = settings.foreign_amqp_url.get_secret_value(), settings.foreign_queue or ""
        yield "foreign rabbitmq", await _try(lambda: check_foreign_queue(foreign, queue))
    if settings.role != "api":
        yield "smtp", await _try(lambda: _check_mail(settings))


async def _try(look: Callable[[], Awaitable[None]]) -> str | None:
    try:
        with trio.fail_after(PATIENCE):
            await look()
    except (RegsvcError, psycopg.Error) as error:
        return " ".join(str(error).split())
    except trio.TooSlowError:
        return f"no answer within {PATIENCE:g} s"
    return None


async def _check_database(settings: Settings) -> None:
    async with await Connection.connect(
        settings.database_url.get_secret_value(), application_name="regsvc check"
    ) as conn:
        await check_schema(conn)
        if settings.role != "worker":
            await check_seals(conn, make_secrets(settings))


async def _check_mail(settings: Settings) -> None:
    transport = open_mail_transport(settings)
    try:
        outcome = await transport.check()
    finally:
        await transport.aclose()
    if not isinstance(outcome, Accepted | Aborted):
        raise RegsvcError(f"{outcome.reason} at {outcome.stage} {outcome.reply}".strip())
