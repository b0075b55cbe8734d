"""Short tags that choose, of several sign-up attempts, the one that a password may belong to."""

from __future__ import annotations

from uuid import UUID

from regsvc.security.passwords import normalize
from regsvc.security.tokens import Secrets, blinds

_LABEL = "password-tag"
_BYTES = 2


def password_tags(secrets: Secrets, registration_id: UUID, password: str) -> tuple[bytes, ...]:
    """Return the tags that an attempt's password may have, the current secret's first.

    Two bytes: enough to choose one of several attempts, so that a wrong password costs one hash and not one for each;
    and too few to say which password it is, even to a reader of the database who has the secret.

    Args:
        secrets: tags are MACs under them.
        registration_id: of the attempt, so that equal passwords have different tags.
        password: as typed.
    """
    typed = normalize(password).encode("utf-8", "surrogatepass")
    return tuple(mac[:_BYTES] for mac in blinds(secrets, _LABEL, registration_id.bytes, typed))
