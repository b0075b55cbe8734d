"""The user on whose behalf a request acts: alive session and active user, looked up at every request in one statement.

Look-ups that begin while another one is under way are joined: when it ends, one statement looks up all of them. Each
request is answered by a statement that was sent after the request began, so what a statement before it committed, such
as the end of a session, is seen at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID

import outcome
import trio

from regsvc.accounts.sessions.session import ALIVE
from regsvc.accounts.users.user import User
from regsvc.postgres.query import (
    UUID_ARRAY,
    Query,
    read_integer,
    read_text,
    read_timestamp,
    read_uuid,
    write_array,
)

if TYPE_CHECKING:
    from collections.abc import Collection

    from regsvc.postgres.connection import Connection
    from regsvc.postgres.pool import Pool

# Seconds after which a look-up counts as stuck, and those that begin do not wait for it.
_STUCK = 0.05
_ACTING = Query(
    f"""
    SELECT s.id, u.id, u.email, u.name, u.locale, u.role, u.version, u.created_at
      FROM sessions s
      JOIN users u ON u.id = s.user_id AND u.disabled_at IS NULL
     WHERE s.id = ANY($1) AND {ALIVE}
    """,  # noqa: S608 - a constant
    [UUID_ARRAY],
    [read_uuid, read_uuid, read_text, read_text, read_text, read_text, read_integer, read_timestamp],
)


async def find_acting_users(conn: Connection, session_ids: Collection[UUID]) -> dict[UUID, User]:
    """Return the users of those sessions that may act: the session has not ended, and its user is active."""
    rows = await _ACTING.execute(conn, write_array(list(session_ids)))
    return {row[0]: User(*row[1:]) for row in rows}


class _Asker:
    """A request that waits for the look-up before its own."""

    __slots__ = ("left", "session_id", "task")

    def __init__(self, session_id: UUID) -> None:
        self.session_id = session_id
        self.task = trio.lowlevel.current_task()
        self.left = False

    def give(self, given: outcome.Outcome[User | bool | None]) -> None:
        if not self.left:
            self.left = True
            trio.lowlevel.reschedule(self.task, given)

    async def wait(self) -> User | bool | None:
        def leave(_: object) -> trio.lowlevel.Abort:
            self.left = True
            return trio.lowlevel.Abort.SUCCEEDED

        given: User | bool | None = await trio.lowlevel.wait_task_rescheduled(leave)
        return given


class ActingUsers:
    """Looks up acting users for the requests of a process.

    Args:
        pool: connections to the database.
    """

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._under_way = 0
        self._begun = 0.0
        self._line: list[_Asker] = []

    async def find(self, session_id: UUID) -> User | None:
        """Return the user of a session that may act, or None.

        Raises:
            DatabaseUnavailableError: it cannot be found out.
        """
        if self._under_way and trio.current_time() - self._begun < _STUCK:
            asker = _Asker(session_id)
            self._line.append(asker)
            given = await asker.wait()
            if not isinstance(given, bool):
                return given
        return await self._look_up(session_id)

    async def _look_up(self, session_id: UUID) -> User | None:
        """Look up a session and those of all requests in line."""
        joined, self._line = self._line, []
        self._under_way += 1
        self._begun = trio.current_time()
        try:
            wanted = {session_id, *(asker.session_id for asker in joined)}
            async with self._pool.connection() as conn:
                users = await find_acting_users(conn, wanted)
        except Exception as error:
            for asker in joined:
                asker.give(outcome.Error(error))
            raise
        except BaseException:  # this request was cancelled, the others were not
            self._line = joined + self._line
            raise
        finally:
            self._under_way -= 1
            self._wake_next()
        for asker in joined:
            asker.give(outcome.Value(users.get(asker.session_id)))
        return users.get(session_id)

    def _wake_next(self) -> None:
        """Let the request that waits longest look up all that wait."""
        while self._line and not self._under_way:
            asker = self._line.pop(0)
            if not asker.left:
                asker.give(outcome.Value(True))  # noqa: FBT003 - outcome's
                return
