"""Notifications of due jobs."""

from __future__ import annotations

from typing import Any

import structlog
import trio

from regsvc.jobs.table import JobTable
from regsvc.postgres.listening import NotHeardError, open_listener, wait_notifications
from regsvc.postgres.pool import Pool
from regsvc.waiting import Alarm

log = structlog.get_logger()


async def listen_due(
    conninfo: str,
    pool: Pool,
    table: JobTable[Any],
    alarm: Alarm,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Sound an alarm whenever a new job is due; report started once listening.

    If notifications do not arrive, log that and return: a poll finds new jobs anyway.

    Raises:
        psycopg.OperationalError: the connection failed.
        DatabaseUnavailableError: the pool has no connection.
    """
    try:
        async with open_listener(
            conninfo, table.channel, pool, application_name=f"regsvc due {table.name}"
        ) as conn:
            task_status.started()
            while True:
                await wait_notifications(conn)
                alarm.sound()
    except NotHeardError as error:
        log.warning("notifications do not arrive", error=str(error))
        task_status.started()
