"""psycopg on Trio: a connection that waits with Trio and survives cancellation.

psycopg's input and output are generators that yield what they wait for. `AsyncConnection` drives them with asyncio,
this subclass with Trio. It also replaces what else needs asyncio in psycopg 3.3: the lock, name resolution,
cancellation, transactions and notifications. Do not use `stream()`, `cursor.copy()`, `pipeline()`, two-phase commit or
`notifies()` on it.
"""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import psycopg
import trio
from psycopg import errors, pq
from psycopg.errors import _WaitTimeout  # private, but `wait` must raise it
from psycopg.rows import Row, tuple_row

from regsvc.postgres.connecting import open_first
from regsvc.postgres.session import HURRIED, Limits, begin_session, begin_transaction
from regsvc.postgres.waiting import Lock, drive, drive_connecting

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import AsyncIterator
    from types import TracebackType

    from psycopg import Notify
    from psycopg.abc import ConnParam, PQGen
    from psycopg.rows import AsyncRowFactory

T = TypeVar("T")

IDLE = pq.TransactionStatus.IDLE
ACTIVE = pq.TransactionStatus.ACTIVE
INERROR = pq.TransactionStatus.INERROR

# Seconds for a cancelled statement to end by itself (nearly all do, faster than the server handles a cancel request),
# and then to be cancelled by the server. After that the connection is closed.
FINISH_SECONDS = 0.02
CANCEL_SECONDS = 0.5
ROLLBACK_SECONDS = 2.0
COMMIT_SECONDS = 5.0


class StatementInterruptedError(psycopg.OperationalError):
    """The statement exceeded its time limit."""


class OutcomeUnknownError(psycopg.OperationalError):
    """COMMIT was sent, and its outcome is unknown."""


class Connection(psycopg.AsyncConnection[Row]):
    """A psycopg connection for Trio, in autocommit mode: each statement outside `transaction()` commits by itself.

    When Trio cancels a task during a statement, the statement is awaited or cancelled on the server, shielded and
    within half a second. If that fails, the connection is closed. It is never left in the middle of a statement.
    """

    def __init__(self, pgconn: pq.abc.PGconn, row_factory: AsyncRowFactory[Row] = tuple_row) -> None:  # type: ignore[assignment]  # as in psycopg: the default fits Row's default
        super().__init__(pgconn, row_factory)
        self._autocommit = True
        self._interrupted = False
        self.commits = False
        """Whether each statement is a transaction by itself, and is treated as COMMIT is: see `transaction()`."""
        self._commit_scope: trio.CancelScope | None = None
        self.expires = math.inf
        """Time at which a pool replaces the connection, by Trio's clock."""
        self.executions: dict[bytes, int] = {}
        """How often each `Query` was executed here, until it is prepared."""
        self.lock = Lock()  # type: ignore[assignment]  # psycopg asks of it no more than `async with`

    @classmethod
    async def connect(  # type: ignore[override]  # always autocommit, and a timeout of its own
        cls,
        conninfo: str = "",
        *,
        timeout: float = 2.0,  # noqa: ASYNC109 - it is shared out among the addresses
        prepare_threshold: int | None = 5,
        row_factory: AsyncRowFactory[Row] | None = None,
        limits: Limits = HURRIED,
        prefer: tuple[str, str] | None = None,
        **kwargs: ConnParam,
    ) -> Self:
        """Connect to the first server of `conninfo` that answers.

        Args:
            conninfo: a libpq URI or key/value string, also with several hosts or a Unix socket.
            timeout: total seconds, shared out among the addresses as `open_first` says.
            prepare_threshold: executions after which a statement is prepared; None: never, as PgBouncer may require.
            row_factory: makes the rows of cursors that have no factory of their own.
            limits: time limits that the server enforces on this session.
            prefer: address that is tried first: see `open_first`.
            kwargs: parameters that override those of `conninfo`.

        Raises:
            psycopg.OperationalError: no server answered in time, or all refused us.
            ConfigurationError: the conninfo is invalid.
        """
        connection = await open_first(cls._connect_gen, conninfo, seconds=timeout, prefer=prefer, **kwargs)
        connection.prepare_threshold = prepare_threshold
        connection.row_factory = row_factory or connection.row_factory
        connected = False
        try:
            with trio.fail_after(timeout):
                await begin_session(connection, limits)
            connected = True
        except trio.TooSlowError:
            raise errors.ConnectionTimeout(f"the server was not ready within {timeout:g} s") from None
        finally:
            if not connected:
                connection.close_nowait()
        return connection

    async def wait(self, gen: PQGen[T], interval: float = 0.0, timeout: float | None = None) -> T:  # noqa: ARG002, ASYNC109 - psycopg's signature
        """Drive one of psycopg's generators; see `psycopg.AsyncConnection.wait`.

        Args:
            gen: the generator.
            interval: unused, because Trio wakes a task whose descriptor is closed.
            timeout: seconds after which `psycopg.errors._WaitTimeout` is raised; the generator can be resumed.
        """
        if self.commits:
            return await self._wait_outcome(gen)
        try:
            if self._interrupted:
                raise trio.ClosedResourceError  # noqa: TRY301 - as if it had come while waiting
            if timeout is None:
                return await drive(gen, self.pgconn.socket)
            with trio.move_on_after(timeout):
                return await drive(gen, self.pgconn.socket)
        except (OSError, trio.ClosedResourceError) as error:
            if self._interrupted:
                self._interrupted = False
                await self._leave_statement(gen)
                raise StatementInterruptedError("the statement exceeded its time limit") from None
            raise psycopg.OperationalError("the connection was closed") from error
        except (trio.Cancelled, KeyboardInterrupt):
            await self._leave_statement(gen)
            raise
        raise _WaitTimeout("wait timeout expired")

    def interrupt(self) -> None:
        """Make the current statement, or else the next one, fail with `StatementInterruptedError`.

        The statement is cancelled on the server; if that fails, the connection is closed, as on a Trio cancellation. A
        COMMIT is cancelled too, and its outcome is determined.
        """
        if self._commit_scope is not None:
            self._commit_scope.cancel()
        elif not self.closed:
            self._interrupted = True
            trio.lowlevel.notify_closing(self.pgconn.socket)

    @property
    def is_reusable(self) -> bool:
        """Whether the connection is clean: no open transaction, no statement in progress, no pending interruption."""
        return self.pgconn.transaction_status == IDLE and not self._interrupted

    async def _leave_statement(self, gen: PQGen[Any]) -> bool:
        """Finish a cancelled statement, or close the connection. Return whether the statement succeeded."""
        if self.closed or self.pgconn.transaction_status != ACTIVE:
            return False
        try:
            if self.pgconn.pipeline_status == pq.PipelineStatus.OFF:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + FINISH_SECONDS):
                    await drive(gen, self.pgconn.socket, resume=True)
                    return True
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CANCEL_SECONDS):
                    if self.pgconn.transaction_status == ACTIVE:
                        await drive_connecting(self._cancel_gen())
                        await drive(gen, self.pgconn.socket, resume=True)
                        return True
        except (psycopg.Error, OSError, trio.ClosedResourceError):
            pass  # the statement's error, usually QueryCanceled: the connection's status says what happened
        finally:
            if self.pgconn.transaction_status == ACTIVE:
                self.close_nowait()
        return False

    async def cancel_safe(self, *, timeout: float = CANCEL_SECONDS) -> None:  # noqa: ASYNC109 - psycopg's signature
        """Ask the server to cancel the current statement.

        Raises:
            psycopg.errors.CancellationTimeout: the request took more than `timeout` seconds.
            psycopg.OperationalError: the request failed.
        """
        if self._should_cancel():
            with trio.move_on_after(timeout):
                await drive_connecting(self._cancel_gen())
                return
            raise errors.CancellationTimeout("cancellation timeout expired")

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # psycopg would commit or roll back first: here only `transaction()` does.
        await self.close()

    async def close(self) -> None:
        """Close the connection. A task that waits on it gets `psycopg.OperationalError`."""
        self.close_nowait()
        await trio.lowlevel.checkpoint()

    def close_nowait(self) -> None:
        """Close the connection without a checkpoint."""
        if not self.closed:
            self._closed = True
            trio.lowlevel.notify_closing(self.pgconn.socket)
        self.pgconn.finish()

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[None]:  # type: ignore[override]  # no savepoints
        """Run the block in a transaction: BEGIN, then COMMIT, or ROLLBACK if the block raises.

        A cancellation rolls back until COMMIT is sent. After that it waits until the server has answered, so that the
        outcome is known. A COMMIT that takes longer than five seconds is cancelled on the server, which reports the
        outcome. If the connection breaks first, the outcome cannot be known and `OutcomeUnknownError` is raised.

        Raises:
            psycopg.ProgrammingError: a transaction is already open.
            psycopg.errors.InFailedSqlTransaction: the block swallowed an error; the transaction was rolled back.
            StatementInterruptedError: COMMIT took too long, and was rolled back.
            OutcomeUnknownError: see above.
        """
        if self.pgconn.transaction_status != IDLE:
            raise psycopg.ProgrammingError("transactions do not nest")
        try:
            await begin_transaction(self)
            yield
            await self._commit()
        except BaseException:
            await self._roll_back()
            raise

    async def _commit(self) -> None:
        if self.pgconn.transaction_status == INERROR:
            raise errors.InFailedSqlTransaction(
                "an error was swallowed in the transaction, which was rolled back"
            )
        if self.pgconn.transaction_status == IDLE:
            raise psycopg.ProgrammingError("the transaction was ended inside its block")
        await self._wait_outcome(self._exec_command(b"COMMIT"))

    async def _wait_outcome(self, gen: PQGen[T]) -> T:
        await trio.lowlevel.checkpoint_if_cancelled()
        self._commit_scope = trio.CancelScope(shield=True, deadline=trio.current_time() + COMMIT_SECONDS)
        try:
            with self._commit_scope:
                return await drive(gen, self.pgconn.socket)
            await self._hurry_commit(gen)
            return cast("T", None)  # which COMMIT's and cursors' generators return
        except (psycopg.Error, OSError, trio.ClosedResourceError) as error:
            if isinstance(error, psycopg.Error) and not self.closed:
                raise
            raise OutcomeUnknownError("COMMIT was not answered: its outcome is unknown") from error
        finally:
            self._commit_scope = None

    async def _hurry_commit(self, gen: PQGen[Any]) -> None:
        """Ask the server to give up a COMMIT that takes too long, and determine its outcome."""
        warnings: list[str] = []
        self.add_notice_handler(lambda notice: warnings.append(notice.message_primary or ""))
        if await self._leave_statement(gen):
            if warnings:
                # The server stopped waiting for its standby: committed here, but lost if the standby is promoted.
                self.close_nowait()
                raise OutcomeUnknownError(f"COMMIT is not replicated: {warnings[0]}")
        elif self.closed:
            raise OutcomeUnknownError("COMMIT was not answered: its outcome is unknown")
        else:
            raise StatementInterruptedError("COMMIT took too long, and was rolled back")

    async def _roll_back(self) -> None:
        if self.closed or self.pgconn.transaction_status == IDLE:
            return
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + ROLLBACK_SECONDS):
                await self.command(b"ROLLBACK")
        except psycopg.Error:
            pass  # the error that led here is raised; the connection's status says what happened
        finally:
            if not self.closed and self.pgconn.transaction_status != IDLE:
                self.close_nowait()

    async def command(self, command: bytes) -> None:
        """Execute a command without parameters, and ignore its result."""
        # Not by `rollback()`, which drops the connection's prepared statements as a precaution against DDL.
        async with self.lock:
            await self.wait(self._exec_command(command))

    @property
    def notified(self) -> deque[Notify]:
        """Notifications that have arrived and that no task has taken yet."""
        if self._notifies_backlog is None:
            raise RuntimeError("notifies() is running on this connection")
        return self._notifies_backlog
