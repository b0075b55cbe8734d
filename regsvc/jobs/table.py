"""The description of a table whose rows are jobs.

    queued ──claim──▶ sending ──▶ a final state of the table's own
      ▲                 │
      └── delayed ◀─────┘

`due_at` is a job's one clock, and always the database's: any worker may claim a job that is open and due. That rule is
the work list and the recovery from every crash: a lease that expired, a lost hint, a delay that is over.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import Any, Final, Generic, Protocol, TypeVar
from uuid import UUID

from psycopg import sql

LEASE: Final = timedelta(seconds=45)
"""The time for which a claimed job belongs to one process, unless it renews the lease."""


class Leased(Protocol):
    """A claimed job: its id, and the lease that proves the claim to its row."""

    @property
    def id(self) -> UUID:
        """Return the id of the row."""

    @property
    def lease(self) -> UUID:
        """Return the lease."""


J = TypeVar("J", bound=Leased)


@dataclass(frozen=True)
class JobTable(Generic[J]):
    """A table of jobs.

    It has at least the columns `id uuid`, `state text`, `due_at timestamptz`, `lease uuid`, `attempts integer`,
    `created_at timestamptz` and `changed_at timestamptz`, and an index on `due_at` of its open jobs. The states
    `queued`, `sending` and `delayed` are open: `due_at` is set in these alone, `lease` in `sending` alone.

    Args:
        name: of the table.
        row: dataclass of a claimed job.
        columns: SQL list of what a claim returns, one column for each field of `row`.
        channel: NOTIFY channel that wakes the workers.
        claimed: further assignments of a claim, such as `published_at = NULL`.
    """

    name: str
    row: type[J]
    columns: str
    channel: str
    claimed: str = ""


OPEN: Final = "state IN ('queued', 'sending', 'delayed')"
"""The condition of an open job, in the words of the index."""


@cache
def compose(template: str, table: JobTable[Any], **parts: str) -> bytes:
    """Return a statement on a table, composed once.

    Args:
        template: SQL with `{table}`, `{open}` and the names of `parts` in braces.
        table: the table.
        parts: SQL from the code, never from outside.
    """
    statement = sql.SQL(template).format(
        table=sql.Identifier(table.name),
        open=sql.SQL(OPEN),
        **{name: sql.SQL(part) for name, part in parts.items()},
    )
    return statement.as_bytes(None)
