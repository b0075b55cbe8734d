"""Accounts without a password: what is stored in the place of a hash.

The text begins with a character that no hash begins with, so it matches no password. Older versions of this program
read it as a hash that they do not know, which matches none either. The rest is random: links and changes that are bound
to the stored text stop working when it is replaced, as with a hash.
"""

from __future__ import annotations

import secrets

_MARK = "!"
NO_PASSWORD = f"{_MARK}%"  # pattern of the stored text in SQL's LIKE


def mint_no_password() -> str:
    """Return a new text to store for an account without a password."""
    return _MARK + secrets.token_urlsafe(16)


def has_password(stored: str) -> bool:
    """Return whether a stored text is the hash of a password."""
    return not stored.startswith(_MARK)
