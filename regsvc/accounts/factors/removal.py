"""What is removed when an owner takes an account back: every factor and identity added since a moment.

Each kind of factor has one entry in `REMOVALS`. A kind without one would leave a thief's way in.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from regsvc.accounts.factors.passkeys import remove_passkeys
from regsvc.accounts.factors.recovery_codes import remove_recovery_codes
from regsvc.accounts.factors.totp import remove_totp
from regsvc.accounts.identities.identity import remove_identities
from regsvc.postgres.connection import Connection


@dataclass(frozen=True)
class Removal:
    """How a kind of factor or identity is removed.

    Args:
        tables: where it is stored.
        remove: deletes the user's that were added at a moment or later, in the caller's transaction, and returns their
            number. A factor and the notice of it are of one transaction, and so of one moment.
    """

    tables: Sequence[str]
    remove: Callable[[Connection, UUID, datetime], Awaitable[int]]


REMOVALS: Sequence[Removal] = (
    Removal(("totp_authenticators", "totp_setups"), remove_totp),
    Removal(("recovery_keys",), remove_recovery_codes),
    Removal(("identities",), remove_identities),
    Removal(("passkeys",), lambda conn, user_id, since: remove_passkeys(conn, user_id, since=since)),
)


async def remove_added(conn: Connection, user_id: UUID, since: datetime) -> int:
    """Remove a user's factors and identities added at `since` or later, and return their number.

    The caller has locked the user. A flow that adds a factor locks the user, too.
    """
    return sum([await removal.remove(conn, user_id, since) for removal in REMOVALS])
