"""Short tags that select, among several sign-up attempts, the one that a password may belong to."""

from __future__ import annotations

from uuid import UUID

from regsvc.security.passwords import normalize
from regsvc.security.tokens import Secrets, blinds

_LABEL = "password-tag"
_BYTES = 2


def password_tags(secrets: Secrets, registration_id: UUID, password: str) -> tuple[bytes, ...]:
    """Return the possible tags of an attempt's password, that of the current secret first.

    Two bytes are enough to select one of several attempts, so that a wrong password costs one hash rather than one
    each. They are too few to reveal the password, even to a reader of the database who has the secret.

    Args:
        secrets: keys of the MACs.
        registration_id: id of the attempt, so that equal passwords have different tags.
        password: as typed.
    """
    typed = normalize(password).encode("utf-8", "surrogatepass")
    return tuple(mac[:_BYTES] for mac in blinds(secrets, _LABEL, registration_id.bytes, typed))
