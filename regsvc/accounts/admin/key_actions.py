"""Operator actions on signing keys, each in the audit log."""

from __future__ import annotations

from regsvc.accounts.audit.record import By, record
from regsvc.postgres.connection import Connection
from regsvc.security.signing import key_store
from regsvc.security.tokens import Secrets


async def rotate_keys(conn: Connection, secrets: Secrets, by: By, *, at_once: bool = False) -> str:
    """Create a signing key in the caller's transaction, and return its id.

    Args:
        conn: in a transaction.
        secrets: seal the key.
        by: the audit actor.
        at_once: whether the key signs at once, before other services have fetched it.
    """
    kid = await key_store.rotate_keys(conn, secrets, at_once=at_once)
    await record(conn, "signing_key_added", by, kid=kid, at_once=at_once)
    return kid


async def withdraw_key(conn: Connection, kid: str, by: By) -> None:
    """Withdraw a key that does not sign, in the caller's transaction; see `key_store.withdraw_key`."""
    await key_store.withdraw_key(conn, kid)
    await record(conn, "signing_key_withdrawn", by, kid=kid)
