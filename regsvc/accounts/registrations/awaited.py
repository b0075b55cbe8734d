"""The registrations that clients wait for, read together."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from regsvc.accounts.registrations.registration import READERS, VISIBLE, Registration
from regsvc.postgres.connection import Connection
from regsvc.postgres.query import UUID_ARRAY, Query, write_array

_TOGETHER = Query(
    f"SELECT {VISIBLE} FROM registrations WHERE id = ANY($1)",  # noqa: S608 - a constant
    [UUID_ARRAY],
    READERS,
)


async def list_registrations(conn: Connection, registration_ids: Sequence[UUID]) -> list[Registration]:
    """Return the visible states of attempts; deleted ones are missing."""
    rows = await _TOGETHER.execute(conn, write_array(registration_ids))
    return [Registration(*row) for row in rows]
