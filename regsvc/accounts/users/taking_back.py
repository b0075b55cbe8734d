"""Taking an account back for the reader of one of its mailboxes: what a thief knows, has or added stops working."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID, uuid4

from regsvc.accounts.audit.record import By
from regsvc.accounts.factors.removal import remove_added
from regsvc.accounts.limits.login_attempts import forget_address, know_client
from regsvc.accounts.users import password_reset
from regsvc.accounts.users.password import set_password
from regsvc.postgres.connection import Connection
from regsvc.security.no_password import mint_no_password
from regsvc.security.tokens import Secrets


async def take_back(
    conn: Connection,
    secrets: Secrets,
    user_id: UUID,
    *,
    email_key: str,
    since: datetime,
    reason: str,
    by: By,
) -> dict[str, int]:
    """End sessions, void the password, remove what was added, and mail a link for a new password.

    The account has no password then, so that its owner is not asked for one that they cannot know. A removed factor of
    the owner does not come back: its secret is gone. The owner chooses a password by the mailed link and adds factors
    again.

    Args:
        conn: in a transaction that has locked the user and set the account's address.
        secrets: derive keys of the address.
        user_id: the user.
        email_key: key of the account's address.
        since: what was added at this moment or later goes.
        reason: of the sessions' end.
        by: the client, whose user read the mail.

    Returns:
        What was ended and removed, for the audit log.
    """
    ended = await set_password(conn, user_id, mint_no_password(), reason=reason)
    removed = await remove_added(conn, user_id, since)
    await forget_address(conn, secrets, email_key)
    await know_client(conn, secrets, email_key, by)
    await password_reset.add_forgot(conn, uuid4(), email_key, by, admitted=True)
    return {"sessions_ended": ended, "factors_removed": removed}
