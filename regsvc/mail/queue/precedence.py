"""Which of the due messages comes next while there is a backlog.

Watched ones come first, then what a person asked for, then those tried before, then notices: the newest of each first,
and those tried before by the time of their next try. At most three quarters of what is claimed is claimed so. The rest
is claimed oldest first, so that no message waits for more than four times as many as were before it.

Without a backlog everything that is due is claimed, and the order costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from regsvc.jobs.claims import claim_selected
from regsvc.mail.queue.jobs import MAIL_JOBS, Job
from regsvc.mail.queue.watches import COUNTED, PER_NETWORK
from regsvc.postgres.connection import Connection

_BEST: Final = 3  # messages claimed out of turn for each one claimed in turn


def _watched(condition: str) -> str:
    """Return SQL that selects and locks watched messages that meet a condition."""
    return f"""
        SELECT m.id FROM mails m
          JOIN (SELECT w.mail_id, row_number() OVER (PARTITION BY w.origin ORDER BY w.created_at DESC) AS place
                  FROM (SELECT mail_id, origin, created_at FROM mail_watches
                         WHERE until > now() ORDER BY created_at DESC LIMIT {COUNTED}) w
                  JOIN mails o ON o.id = w.mail_id AND o.state IN ('queued', 'sending', 'delayed')) AS w
            ON w.mail_id = m.id
         WHERE w.place <= {PER_NETWORK} AND m.state IN ('queued', 'sending', 'delayed') AND {condition}
         ORDER BY m.created_at DESC LIMIT %(limit)s FOR UPDATE OF m SKIP LOCKED"""  # noqa: S608 - constants


BEST_DUE: Final = f"""
    WITH watched AS MATERIALIZED ({_watched("m.due_at <= now() AND m.published_at IS NULL")})
    SELECT id FROM (
        SELECT id FROM watched
        UNION ALL SELECT id FROM (
            SELECT id FROM mails
             WHERE state = 'queued' AND published_at IS NULL AND kind NOT IN ('notice', 'security')
               AND due_at <= now() AND id <> ALL(ARRAY(SELECT id FROM watched))
             ORDER BY created_at DESC LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS first
        UNION ALL SELECT id FROM (
            SELECT id FROM mails
             WHERE state = 'delayed' AND due_at <= now() AND id <> ALL(ARRAY(SELECT id FROM watched))
             ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS tried
        UNION ALL SELECT id FROM (
            SELECT id FROM mails
             WHERE state = 'queued' AND published_at IS NULL AND kind IN ('notice', 'security')
               AND due_at <= now() AND id <> ALL(ARRAY(SELECT id FROM watched))
             ORDER BY created_at DESC LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS notices
    ) AS due LIMIT %(limit)s"""  # noqa: S608 - constants
"""SQL that selects and locks the best of the messages that are due and not with the broker."""

_CLAIMABLE: Final = """
    id = ANY(%(ids)s) AND state IN ('queued', 'sending', 'delayed') AND (state = 'queued' OR due_at <= now())"""
# A message is published once, so a delivery may stand for any message that is published.
_PUBLISHED_BEST: Final = f"""
    WITH watched AS MATERIALIZED ({_watched("m.state = 'queued' AND m.published_at IS NOT NULL")}),
    first AS MATERIALIZED (
        SELECT id FROM mails
         WHERE state = 'queued' AND published_at IS NOT NULL AND kind NOT IN ('notice', 'security')
           AND id <> ALL(ARRAY(SELECT id FROM watched))
         ORDER BY created_at DESC LIMIT %(limit)s FOR UPDATE SKIP LOCKED),
    notices AS MATERIALIZED (
        SELECT id FROM mails
         WHERE state = 'queued' AND published_at IS NOT NULL AND kind IN ('notice', 'security')
           AND id <> ALL(ARRAY(SELECT id FROM watched))
         ORDER BY created_at DESC LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    SELECT id FROM (
        SELECT id FROM watched UNION ALL SELECT id FROM first UNION ALL SELECT id FROM notices
        UNION ALL SELECT id FROM (
            SELECT id FROM mails
             WHERE {_CLAIMABLE} AND id <> ALL(ARRAY(
                   SELECT id FROM watched UNION ALL SELECT id FROM first UNION ALL SELECT id FROM notices))
             ORDER BY id FOR UPDATE SKIP LOCKED) AS delivered
    ) AS due LIMIT %(limit)s"""  # noqa: S608 - constants
_PUBLISHED_OLDEST: Final = f"""
    WITH oldest AS MATERIALIZED (
        SELECT id FROM (
            SELECT id, created_at FROM (
                SELECT id, created_at FROM mails
                 WHERE state = 'queued' AND published_at IS NOT NULL AND kind NOT IN ('notice', 'security')
                 ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS first
            UNION ALL SELECT id, created_at FROM (
                SELECT id, created_at FROM mails
                 WHERE state = 'queued' AND published_at IS NOT NULL AND kind IN ('notice', 'security')
                 ORDER BY created_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS notices
        ) AS both_kinds ORDER BY created_at LIMIT %(limit)s)
    SELECT id FROM (
        SELECT id FROM oldest
        UNION ALL SELECT id FROM (
            SELECT id FROM mails WHERE {_CLAIMABLE} AND id <> ALL(ARRAY(SELECT id FROM oldest))
             ORDER BY id FOR UPDATE SKIP LOCKED) AS delivered
    ) AS due LIMIT %(limit)s"""  # noqa: S608 - constants


# Beside a broker: what it did not bring in time. Watched messages first, then the oldest.
_OVERDUE_BEST: Final = f"""
    WITH watched AS MATERIALIZED ({_watched("m.due_at <= now() - %(overdue)s")})
    SELECT id FROM (
        SELECT id FROM watched
        UNION ALL SELECT id FROM (
            SELECT id FROM mails
             WHERE state IN ('queued', 'sending', 'delayed') AND due_at <= now() - %(overdue)s
               AND id <> ALL(ARRAY(SELECT id FROM watched))
             ORDER BY due_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED) AS oldest
    ) AS due LIMIT %(limit)s"""  # noqa: S608 - constants


@dataclass
class Precedence:
    """Whether the next claim of a child takes the best or the oldest.

    Attributes:
        behind: whether the last claim was full, so that there may be a backlog.
        owed: messages claimed out of turn that were not made up for yet.
    """

    behind: bool = False
    owed: int = 0

    def takes_best(self, limit: int) -> bool:
        """Return whether a claim of so many takes the best; else it takes the oldest."""
        return self.behind and self.owed < _BEST * limit

    def note(self, claimed: int, *, limit: int, best: bool) -> None:
        """Record a claim."""
        self.behind = claimed >= limit
        self.owed = self.owed + claimed if best else max(0, self.owed - _BEST * claimed)
        if not self.behind:
            self.owed = 0


async def claim_best(conn: Connection, limit: int, *, overdue: timedelta = timedelta(0)) -> list[Job]:
    """Claim the best of the due messages.

    Args:
        conn: connection to write with.
        limit: maximum number of messages.
        overdue: how long a message must have been due; if that is some time, the broker may hold it.
    """
    if overdue:
        return await claim_selected(conn, MAIL_JOBS, _OVERDUE_BEST, limit=limit, overdue=overdue)
    return await claim_selected(conn, MAIL_JOBS, BEST_DUE, limit=limit)


async def claim_published(conn: Connection, mail_ids: Sequence[UUID], *, best: bool) -> list[Job]:
    """Claim as many published messages as were delivered: the best or the oldest, and the delivered ones last."""
    which = _PUBLISHED_BEST if best else _PUBLISHED_OLDEST
    return await claim_selected(conn, MAIL_JOBS, which, ids=list(mail_ids), limit=len(mail_ids))
