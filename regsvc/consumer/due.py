"""Hearing of mails that come due."""

from __future__ import annotations

import trio

from regsvc.mail.queue.jobs import DUE_CHANNEL
from regsvc.postgres.connection import Connection
from regsvc.waiting import Alarm


async def listen_due(
    conninfo: str, alarm: Alarm, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    """Sound an alarm whenever a mail comes due by a new sign-up; started once it listens.

    Raises:
        psycopg.OperationalError: the connection cannot be made or is lost.
    """
    async with await Connection.connect(conninfo, application_name="regsvc due mails") as conn:
        await conn.execute(f"LISTEN {DUE_CHANNEL}")
        task_status.started()
        while True:
            await conn.wait_notifications()
            alarm.sound()
