"""psycopg on Trio: a connection that waits with Trio and survives being cancelled.

psycopg's input and output are generators that yield what they wait for; `AsyncConnection` drives them with asyncio,
this subclass with Trio. It owns what in psycopg 3.3 reaches for asyncio beyond that: the lock, name resolution,
cancelling, transactions and notifications. Do not use `stream()`, `cursor.copy()`, `pipeline()`, two-phase commit or
`notifies()` on it.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar

import psycopg
import trio
from psycopg import errors, generators, pq
from psycopg.conninfo import make_conninfo, timeout_from_conninfo
from psycopg.errors import _WaitTimeout  # private, but what `wait` has to raise
from psycopg.rows import Row, tuple_row

from regsvc.postgres.addresses import find_attempts
from regsvc.postgres.waiting import Lock, drive, drive_connecting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from psycopg import Notify
    from psycopg.abc import ConnParam, PQGen
    from psycopg.rows import AsyncRowFactory

T = TypeVar("T")

IDLE = pq.TransactionStatus.IDLE
ACTIVE = pq.TransactionStatus.ACTIVE
INERROR = pq.TransactionStatus.INERROR

# Seconds that a cancelled statement gets to end by itself (nearly all do, in less than a request to cancel costs the
# server), and then to be cancelled by the server; after that the connection is closed.
FINISH_SECONDS = 0.02
CANCEL_SECONDS = 0.5
ROLLBACK_SECONDS = 2.0
COMMIT_SECONDS = 5.0


class StatementInterruptedError(psycopg.OperationalError):
    """The statement took longer than it may."""


class Connection(psycopg.AsyncConnection[Row]):
    """A psycopg connection for Trio, in autocommit mode: what is not in `transaction()` commits by itself.

    When Trio cancels a task in the middle of a statement, the statement is awaited or cancelled on the server, within
    half a second and shielded; if that fails the connection is closed. It is never left in the middle of something.
    """

    def __init__(self, pgconn: pq.abc.PGconn, row_factory: AsyncRowFactory[Row] = tuple_row) -> None:  # type: ignore[assignment]  # as in psycopg: the default fits Row's default
        super().__init__(pgconn, row_factory)
        self._autocommit = True
        self._interrupted = False
        self.lock = Lock()  # type: ignore[assignment]  # psycopg asks of it no more than `async with`

    @classmethod
    async def connect(  # type: ignore[override]  # always autocommit, and a timeout of its own
        cls,
        conninfo: str = "",
        *,
        timeout: float = 2.0,  # noqa: ASYNC109 - it is shared out among the addresses
        prepare_threshold: int | None = 5,
        row_factory: AsyncRowFactory[Row] | None = None,
        **kwargs: ConnParam,
    ) -> Self:
        """Connect to the first server of `conninfo` that answers.

        Args:
            conninfo: a libpq URI or key/value string; several hosts and Unix sockets included.
            timeout: seconds for everything. Each address gets an equal share of what is left, so that one that never
                answers does not hide the next; a `connect_timeout` of the conninfo caps the share.
            prepare_threshold: a statement is prepared when executed more often than this; None: never, as a pgbouncer
                in transaction mode before 1.21 needs it.
            row_factory: how rows are made, for cursors that do not say.
            kwargs: parameters that override those of `conninfo`.

        Raises:
            psycopg.OperationalError: nobody answered, or not in time, or refused us.
            ConfigurationError: the conninfo makes no sense.
        """
        failures: list[psycopg.Error] = []
        deadline = trio.current_time() + timeout
        with trio.move_on_at(deadline):
            attempts = await find_attempts(conninfo, **kwargs)
            for index, attempt in enumerate(attempts):
                share = max(0.0, deadline - trio.current_time()) / (len(attempts) - index)
                try:
                    with trio.move_on_after(min(share, timeout_from_conninfo(attempt))):
                        connection = await drive_connecting(cls._connect_gen(make_conninfo("", **attempt)))
                        connection.prepare_threshold = prepare_threshold
                        connection.row_factory = row_factory or connection.row_factory
                        return connection
                    failures.append(errors.ConnectionTimeout(f"{attempt.get('host')} did not answer"))
                except psycopg.Error as error:
                    failures.append(error)
        if not failures:
            raise errors.ConnectionTimeout(f"no server answered within {timeout:g} s")
        if len(failures) == 1:
            raise failures[0]
        raise type(failures[-1])("no server takes us: " + "; ".join(map(str, failures))) from failures[-1]

    async def wait(self, gen: PQGen[T], interval: float = 0.0, timeout: float | None = None) -> T:  # noqa: ARG002, ASYNC109 - psycopg's signature
        """Drive one of psycopg's generators; see `psycopg.AsyncConnection.wait`.

        Args:
            gen: the generator.
            interval: not used: Trio wakes a waiter whose descriptor is closed.
            timeout: seconds after which `psycopg.errors._WaitTimeout` is raised; the generator stays where it is.
        """
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
                raise StatementInterruptedError("the statement took too long") from None
            raise psycopg.OperationalError("the connection was closed") from error
        except (trio.Cancelled, KeyboardInterrupt):
            await self._leave_statement(gen)
            raise
        raise _WaitTimeout("wait timeout expired")

    def interrupt(self) -> None:
        """Make the statement in progress, or else the next one, fail with `StatementInterruptedError`.

        The statement is cancelled on the server; when that fails the connection is closed, as by Trio's cancelling.
        """
        if not self.closed:
            self._interrupted = True
            trio.lowlevel.notify_closing(self.pgconn.socket)

    @property
    def is_reusable(self) -> bool:
        """Whether the next one finds nothing of what went before: no transaction, no statement, no interruption."""
        return self.pgconn.transaction_status == IDLE and not self._interrupted

    async def _leave_statement(self, gen: PQGen[Any]) -> None:
        """Bring a cancelled statement to its end, whatever that is, or close the connection."""
        if self.closed or self.pgconn.transaction_status != ACTIVE:
            return
        try:
            if self.pgconn.pipeline_status == pq.PipelineStatus.OFF:
                with trio.CancelScope(shield=True, deadline=trio.current_time() + FINISH_SECONDS):
                    await drive(gen, self.pgconn.socket, resume=True)
                with trio.CancelScope(shield=True, deadline=trio.current_time() + CANCEL_SECONDS):
                    if self.pgconn.transaction_status == ACTIVE:
                        await drive_connecting(self._cancel_gen())
                        await drive(gen, self.pgconn.socket, resume=True)
        except (psycopg.Error, OSError, trio.ClosedResourceError):
            pass  # the statement's own error, most often QueryCanceled: the status tells how it stands
        finally:
            if self.pgconn.transaction_status == ACTIVE:
                self.close_nowait()

    async def cancel_safe(self, *, timeout: float = CANCEL_SECONDS) -> None:  # noqa: ASYNC109 - psycopg's signature
        """Ask the server to cancel what this connection is doing.

        Raises:
            psycopg.errors.CancellationTimeout: not within `timeout` seconds.
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
        # psycopg would commit or roll back first: here that is the transaction's business.
        await self.close()

    async def close(self) -> None:
        """Close the connection; whoever waits on it gets `psycopg.OperationalError`."""
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
        """Run the block in a transaction of its own: BEGIN, then COMMIT, or ROLLBACK when it raises.

        When the block is left without an exception, it is committed. When it is left by the block's own exception or by
        a cancel, it is not: a cancel is heeded up to the moment COMMIT is sent and not from then on, so that
        there is an answer to know. When COMMIT itself fails because the connection breaks, or is not answered within
        five seconds, nobody can know, and `psycopg.OperationalError` says so.

        Raises:
            psycopg.ProgrammingError: there is a transaction already.
            psycopg.errors.InFailedSqlTransaction: the block swallowed an error; it was rolled back.
            psycopg.OperationalError: see above.
        """
        if self.pgconn.transaction_status != IDLE:
            raise psycopg.ProgrammingError("transactions do not nest")
        try:
            await self._command(b"BEGIN")
            yield
            await self._commit()
        except BaseException:
            await self._roll_back()
            raise

    async def _commit(self) -> None:
        if self.pgconn.transaction_status == INERROR:
            raise errors.InFailedSqlTransaction(
                "an error was swallowed within the transaction: it rolled back"
            )
        if self.pgconn.transaction_status == IDLE:
            raise psycopg.ProgrammingError("the transaction was ended inside its block")
        await trio.lowlevel.checkpoint_if_cancelled()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + COMMIT_SECONDS) as scope:
            await self._command(b"COMMIT")
        if scope.cancelled_caught:
            self.close_nowait()
            raise psycopg.OperationalError("COMMIT was not answered: nobody knows whether it happened")

    async def _roll_back(self) -> None:
        if self.closed or self.pgconn.transaction_status == IDLE:
            return
        try:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + ROLLBACK_SECONDS):
                await self._command(b"ROLLBACK")
        except psycopg.Error:
            pass  # what led here is raised; the status tells how it stands
        finally:
            if not self.closed and self.pgconn.transaction_status != IDLE:
                self.close_nowait()

    async def _command(self, command: bytes) -> None:
        # Not by `rollback()`, which makes the connection forget its prepared statements: it fears for DDL.
        async with self.lock:
            await self.wait(self._exec_command(command))

    async def wait_notifications(self, *, heartbeat: float = 10.0, patience: float = 5.0) -> list[Notify]:
        """Wait for notifications of the channels that this connection LISTENs to; at least one is returned.

        One task at a time. A cancel loses none: what arrived is returned by the next call.

        Args:
            heartbeat: seconds of silence after which the server is asked whether it still lives.
            patience: seconds it gets to answer that.

        Raises:
            psycopg.OperationalError: the connection is dead, black holes included; it is closed.
        """
        backlog = self._notifies_backlog
        if backlog is None:
            raise RuntimeError("notifies() is running on this connection")
        await trio.lowlevel.checkpoint()
        while not backlog:
            with trio.move_on_after(heartbeat) as silence:
                async with self.lock:
                    # psycopg's handler puts what arrives into the backlog before anything can be cancelled.
                    await self.wait(generators.notifies(self.pgconn))
            if silence.cancelled_caught:
                with trio.move_on_after(patience) as waiting:
                    await self._command(b"SELECT 1")
                if waiting.cancelled_caught:
                    self.close_nowait()
                    raise psycopg.OperationalError(f"the server did not answer within {patience:g} s")
        taken = list(backlog)
        backlog.clear()
        return taken
