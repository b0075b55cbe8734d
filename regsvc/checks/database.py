"""Check that PostgreSQL works as `serve` needs it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from regsvc.errors import ConfigurationError
from regsvc.flows.resealing import find_old
from regsvc.parts import make_secrets
from regsvc.postgres.connection import Connection
from regsvc.postgres.listening import prove_heard
from regsvc.postgres.pool import Pool
from regsvc.postgres.schema import check_rights, check_schema
from regsvc.postgres.server import prove_writable
from regsvc.security.signing.key_store import check_seals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from regsvc.checks.report import Report
    from regsvc.config.settings import Settings

_NAME = "regsvc check"


async def check_database(settings: Settings, report: Report) -> None:
    """Check server, schema, privileges and signing keys, write a row, and receive a notification.

    All errors of the configuration are collected. If the schema does not match, the rest is skipped.
    """
    url = settings.database_url.get_secret_value()
    async with await Connection.connect(url, application_name=_NAME) as conn:
        if newer := await check_schema(conn):
            report.notes.append(f"newer than this program, but compatible: {', '.join(newer)}")
        proofs: list[Callable[[], Awaitable[None]]] = [partial(check_rights, conn)]
        if settings.role != "worker":
            proofs.append(partial(check_seals, conn, make_secrets(settings)))
        proofs.append(partial(_check_listening, settings))
        for proof in proofs:
            try:
                await proof()
            except ConfigurationError as error:
                report.misconfigured.append(" ".join(str(error).split()))
        if not report.misconfigured:
            await _note_old_seals(conn, settings, report)
        await prove_writable(conn)


async def _note_old_seals(conn: Connection, settings: Settings, report: Report) -> None:
    old = ", ".join(await find_old(conn, make_secrets(settings)))
    if not old:
        return
    if settings.secret_key_previous is None:
        report.notes.append(f"sealed with another REGSVC_SECRET_KEY: {old}")
    else:
        report.notes.append(f"need REGSVC_SECRET_KEY_PREVIOUS until `regsvc keys reseal`: {old}")


async def _check_listening(settings: Settings) -> None:
    pool = Pool(settings.database_url.get_secret_value(), size=1, application_name=_NAME)
    try:
        async with await Connection.connect(settings.listen_conninfo, application_name=_NAME) as listener:
            await prove_heard(listener, pool)
    finally:
        await pool.aclose()
