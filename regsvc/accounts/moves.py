"""Moving an account to another address: the new one confirms it, the old one may undo it."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

from regsvc.accounts.registration import LINK_LIFE
from regsvc.security.tokens import Secrets, mint_account_token

MOVE_LIFE = LINK_LIFE
UNDO_LIFE = timedelta(
    days=7
)  # from the move: long enough for whoever was away, and the mail may have been late

_CONFIRM, _UNDO = "email-change", "email-undo"


def mint_move_token(secrets: Secrets, move_id: UUID, new_key: str) -> str:
    """Return the token of the link that goes to the new address and confirms a move."""
    return mint_account_token(secrets, _CONFIRM, move_id, new_key)


def mint_undo_token(secrets: Secrets, move_id: UUID, old_key: str) -> str:
    """Return the token of the link that goes to the old address and undoes a move."""
    return mint_account_token(secrets, _UNDO, move_id, old_key)
