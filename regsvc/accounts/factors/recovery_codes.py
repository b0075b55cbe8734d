"""Recovery codes: ten codes of 50 bits, each good once, for a user whose authenticator is lost.

Each user's codes are MAC'd with a random key of that user's own, which is sealed. So they outlive any number of
rotations of the service's secret: the seal is renewed, and the codes on paper stay good.
"""

from __future__ import annotations

import hmac
import secrets as random
import unicodedata
from datetime import datetime
from uuid import UUID

from regsvc.postgres.connection import Connection
from regsvc.security.seals import seal, unseal
from regsvc.security.tokens import Secrets

NUMBER = 10
FEW = 3  # so few that the user is told to make new ones

SEAL = "recovery-key-seal"
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32
_LENGTH = 10  # characters of 5 bits
_FOLDED = str.maketrans({"O": "0", "I": "1", "L": "1"})
_IGNORED = {"Zs", "Zl", "Zp", "Cc", "Cf", "Pd"}


async def renew_recovery_codes(conn: Connection, secrets: Secrets, user_id: UUID) -> list[str]:
    """Make ten codes in place of those before, in the caller's transaction, and return them as people read them."""
    await remove_recovery_codes(conn, user_id)
    key = random.token_bytes(32)
    codes = ["".join(random.choice(_ALPHABET) for _ in range(_LENGTH)) for _ in range(NUMBER)]
    await conn.execute(
        """
        INSERT INTO recovery_keys (user_id, sealed, sealed_with)
        VALUES (%(user_id)s, %(sealed)s, %(sealed_with)s)
        """,
        {
            "user_id": user_id,
            "sealed": seal(secrets, SEAL, key, bound=user_id.bytes),
            "sealed_with": secrets.fingerprint,
        },
    )
    await conn.execute(
        "INSERT INTO recovery_codes (user_id, mac) SELECT %(user_id)s, unnest(%(macs)s::bytea[])",
        {"user_id": user_id, "macs": [_mac(key, code) for code in codes]},
    )
    return [f"{code[: _LENGTH // 2]}-{code[_LENGTH // 2 :]}" for code in codes]


async def take_recovery_code(conn: Connection, secrets: Secrets, user_id: UUID, typed: str) -> bool:
    """Use up a code, in the caller's transaction, and return whether it was right and not used before.

    A key that was sealed with the previous secret is sealed again.
    """
    code = read_recovery_code(typed)
    cursor = await conn.execute(
        "SELECT sealed, sealed_with FROM recovery_keys WHERE user_id = %(id)s", {"id": user_id}
    )
    found = await cursor.fetchone()
    if code is None or found is None:
        return False
    sealed, sealed_with = found
    key = unseal(secrets, SEAL, sealed, bound=user_id.bytes)
    cursor = await conn.execute(
        "DELETE FROM recovery_codes WHERE user_id = %(id)s AND mac = %(mac)s",
        {"id": user_id, "mac": _mac(key, code)},
    )
    if cursor.rowcount == 0:
        return False
    if sealed_with != secrets.fingerprint:
        await conn.execute(
            "UPDATE recovery_keys SET sealed = %(sealed)s, sealed_with = %(sealed_with)s WHERE user_id = %(id)s",
            {
                "id": user_id,
                "sealed": seal(secrets, SEAL, key, bound=user_id.bytes),
                "sealed_with": secrets.fingerprint,
            },
        )
    return True


def read_recovery_code(typed: str) -> str | None:
    """Return the code that a user means, or None if it is none.

    Case, hyphens and spaces are ignored, and the letters that look like digits are read as those.
    """
    kept = (c for c in unicodedata.normalize("NFKC", typed) if unicodedata.category(c) not in _IGNORED)
    code = "".join(kept).upper().translate(_FOLDED)
    return code if len(code) == _LENGTH and set(code) <= set(_ALPHABET) else None


async def count_recovery_codes(conn: Connection, user_id: UUID) -> int:
    """Return how many codes are left."""
    cursor = await conn.execute("SELECT count(*) FROM recovery_codes WHERE user_id = %(id)s", {"id": user_id})
    row = await cursor.fetchone()
    return int(row[0]) if row else 0


async def remove_recovery_codes(conn: Connection, user_id: UUID, since: datetime | None = None) -> int:
    """Remove a user's codes, or those made since a moment, and return how many sets there were."""
    cursor = await conn.execute(
        """
        DELETE FROM recovery_keys
         WHERE user_id = %(id)s AND (%(since)s::timestamptz IS NULL OR created_at >= %(since)s)
        """,
        {"id": user_id, "since": since},
    )
    return cursor.rowcount


def _mac(key: bytes, code: str) -> bytes:
    return hmac.digest(key, code.encode(), "sha256")
