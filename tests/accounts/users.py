"""Users for tests of what happens to accounts."""

from __future__ import annotations

from uuid import UUID, uuid4

from regsvc.accounts.address import to_address
from regsvc.postgres.pool import Pool


async def add_user(
    pool: Pool,
    email: str = "Ann@example.com",
    *,
    password_hash: str = "hash",
    locale: str = "en",
    name: str = "Ann",
) -> UUID:
    """Insert somebody who confirmed their address."""
    user_id = uuid4()
    async with pool.connection() as conn:
        await conn.execute(
            """
            INSERT INTO users (id, email, email_key, name, locale, password_hash)
            VALUES (%(id)s, %(email)s, %(key)s, %(name)s, %(locale)s, %(hash)s)
            """,
            {
                "id": user_id,
                "email": email,
                "key": to_address(email).key,
                "name": name,
                "locale": locale,
                "hash": password_hash,
            },
        )
    return user_id
