"""Read bounces and abuse reports from a mailbox over IMAP: what a sender has that gets no reports otherwise.

One process reads at a time, under a lease. It changes nothing in the mailbox; how far it came is in the database, so
messages that people or filters delete meanwhile do no harm.
"""

from __future__ import annotations

from functools import partial
from typing import Final
from uuid import uuid4

import structlog
import trio

from regsvc.accounts.deliveries.attribution import Senders, list_mail_ids
from regsvc.accounts.deliveries.mailboxes import Position, leave_mailbox, note_position, take_mailbox
from regsvc.config.imap_url import ImapMailbox
from regsvc.errors import DatabaseUnavailableError, UnavailableError
from regsvc.flows.feedback import take_reports
from regsvc.mail.imap.mailbox import MAX_MESSAGE, OpenMailbox, open_mailbox
from regsvc.mail.imap.wire import ImapRefusedError, ImapUnavailableError
from regsvc.mail.reports.messages import read_clues, read_message
from regsvc.mail.reports.report import Report
from regsvc.mail.smtp.login import TokenSource
from regsvc.metrics import MAILBOX_ROUNDS
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets
from regsvc.waiting import wait_any

log = structlog.get_logger()

AT_ONCE: Final = 100  # messages a round
EVERY: Final = 30.0  # seconds between two rounds
AFTER_REFUSAL: Final = 300.0  # seconds: servers lock accounts after many wrong logins
ROUND: Final = 90.0  # seconds for a round, less than the lease


class BounceMailbox:
    """The mailbox of one process.

    Args:
        pool: PostgreSQL.
        secrets: prove envelope senders.
        senders: addresses by which our mails are recognised.
        place: the mailbox.
        token: gives its access token.
    """

    def __init__(
        self,
        pool: Pool,
        secrets: Secrets,
        senders: Senders,
        place: ImapMailbox,
        token: TokenSource | None = None,
    ) -> None:
        self._pool = pool
        self._secrets = secrets
        self._senders = senders
        self._place = place
        self._token = token
        self._lease = uuid4()

    async def run(
        self, *, stopping: trio.Event, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Read the mailbox every 30 s until `stopping` is set.

        Raises:
            DatabaseUnavailableError: the database is unavailable.
        """
        task_status.started()
        while not stopping.is_set():
            failures: list[UnavailableError] = []
            await wait_any(
                partial(self._try, failures), stopping.wait
            )  # a slow server does not hold up the end
            for error in failures:
                if not isinstance(error, ImapUnavailableError):
                    raise error
                self._warn(error)
            refused = any(isinstance(error, ImapRefusedError) for error in failures)
            await wait_any(stopping.wait, seconds=AFTER_REFUSAL if refused else EVERY)
        async with self._pool.connection() as conn:
            await leave_mailbox(conn, self._place.name, self._lease)

    async def _try(self, failures: list[UnavailableError]) -> None:
        try:
            await self.read_new()
        except UnavailableError as error:
            failures.append(error)

    def _warn(self, error: ImapUnavailableError) -> None:
        outcome = "refused" if isinstance(error, ImapRefusedError) else "unavailable"
        MAILBOX_ROUNDS.labels(outcome).inc()
        log.warning("bounce mailbox not read", mailbox=self._place.name, outcome=outcome, reason=str(error))

    async def read_new(self) -> int:
        """Read the new messages, 100 at most, and return how many reports were new.

        Raises:
            ImapRefusedError: the server refuses us.
            ImapUnavailableError: it is not there, too slow, or closed the connection. What was read counts.
        """
        async with self._pool.connection() as conn:
            position = await take_mailbox(conn, self._place.name, self._lease)
        if position is None:
            return 0
        with trio.move_on_after(ROUND):
            async with open_mailbox(self._place, self._token) as mailbox:
                if mailbox.uid_validity != position.uid_validity:
                    # The server numbers its messages again. Reports that were read before are recognised.
                    position = Position(mailbox.uid_validity, 0)
                applied = await self._read_after(mailbox, position)
            MAILBOX_ROUNDS.labels("read").inc()
            return applied
        raise ImapUnavailableError("the server is too slow")

    async def _read_after(self, mailbox: OpenMailbox, position: Position) -> int:
        found = await mailbox.find_after(position.last_uid, AT_ONCE)
        sizes = await mailbox.read_sizes(found.uids) if found.uids else {}
        applied = 0
        for uid in found.uids:
            if sizes.get(uid, 0) > MAX_MESSAGE:
                log.info("bounce mailbox message too large", mailbox=self._place.name, octets=sizes[uid])
            elif uid in sizes and (raw := await mailbox.read_message(uid)) is not None:
                applied += await self._take(raw)
            if not await self._note(Position(position.uid_validity, uid)):
                return applied
        await self._note(Position(position.uid_validity, found.until))
        return applied

    async def _note(self, position: Position) -> bool:
        async with self._pool.connection() as conn:
            return await note_position(conn, self._place.name, self._lease, position)

    async def _take(self, raw: bytes) -> int:
        """Take the reports of a message if it concerns a mail of ours."""
        try:
            reports = await trio.to_thread.run_sync(self._read, raw)
            return await take_reports(self._pool, self._secrets, self._senders, reports)
        except DatabaseUnavailableError:
            raise
        except Exception:
            # A message that fails for a reason of our own must not keep us from those behind it.
            log.exception("bounce mailbox message failed", mailbox=self._place.name)
            return 0

    def _read(self, raw: bytes) -> list[Report]:
        return read_message(raw) if list_mail_ids(self._secrets, self._senders, read_clues(raw)) else []
