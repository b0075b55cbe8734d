"""Notifications of due messages."""

from __future__ import annotations

import structlog
import trio

from regsvc.mail.queue.jobs import DUE_CHANNEL
from regsvc.postgres.listening import NotHeardError, open_listener, wait_notifications
from regsvc.postgres.pool import Pool
from regsvc.waiting import Alarm

log = structlog.get_logger()


async def listen_due(
    conninfo: str, pool: Pool, alarm: Alarm, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Sound an alarm whenever a new sign-up makes a message due; report started once listening.

    If notifications do not arrive, log that and return: a poll finds new messages anyway.

    Raises:
        psycopg.OperationalError: the connection failed.
        DatabaseUnavailableError: the pool has no connection.
    """
    try:
        async with open_listener(conninfo, DUE_CHANNEL, pool, application_name="regsvc due mails") as conn:
            task_status.started()
            while True:
                await wait_notifications(conn)
                alarm.sound()
    except NotHeardError as error:
        log.warning("notifications do not arrive", error=str(error))
        task_status.started()
