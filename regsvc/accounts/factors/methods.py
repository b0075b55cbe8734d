"""The ways in which a user can prove who they are, as clients are told of them."""

from __future__ import annotations

from typing import Literal, TypeAlias
from uuid import UUID

from regsvc.errors import RegsvcError
from regsvc.postgres.connection import Connection

Method: TypeAlias = Literal["password", "totp", "recovery_code", "passkey", "identity"]


class FactorInvalidError(RegsvcError):
    """This code is wrong or was already used."""

    code = "second_factor_invalid"


async def list_second_factors(conn: Connection, user_id: UUID) -> list[Method]:
    """Return what a user may give as the second step of a login, the usual one first."""
    cursor = await conn.execute(
        """
        SELECT EXISTS (SELECT FROM totp_authenticators WHERE user_id = %(id)s),
               EXISTS (SELECT FROM recovery_codes WHERE user_id = %(id)s),
               EXISTS (SELECT FROM passkeys WHERE user_id = %(id)s)
        """,
        {"id": user_id},
    )
    totp, recovery, passkey = await cursor.fetchone() or (False, False, False)
    found: list[tuple[Method, bool]] = [("totp", totp), ("passkey", passkey), ("recovery_code", recovery)]
    return [method for method, there in found if there]
