"""Attempt budgets for six-digit codes.

A code allows five wrong attempts, and a sign-up or login fifteen over all its codes. An address allows ten in 30 days
for each client network and 200 in all. Networks have their own budgets, so a stranger elsewhere cannot use up the
owner's. (NIST SP 800-63B-4 section 3.2.2; ASVS 5.0, 6.6.3)
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets, blind

CODE_ATTEMPTS = 5
SIGNUP_ATTEMPTS = 15
NETWORK_ATTEMPTS = 10  # per address and network
ADDRESS_ATTEMPTS = 200
PERIOD = timedelta(days=30)  # from the first attempt that a budget counts

_LABEL = "code-attempts"


@dataclass(frozen=True)
class Budget:
    """A number of wrong codes allowed within 30 days.

    Args:
        key: a MAC of the budget's owner.
        most: wrong codes allowed.
    """

    key: bytes
    most: int


def of_code(secrets: Secrets, mail_id: UUID) -> Budget:
    """Return the budget of the code in one message."""
    return Budget(blind(secrets, _LABEL, "code", mail_id.bytes), CODE_ATTEMPTS)


def of_signup(secrets: Secrets, registration_id: UUID) -> Budget:
    """Return the budget of a sign-up over all its codes."""
    return Budget(blind(secrets, _LABEL, "signup", registration_id.bytes), SIGNUP_ATTEMPTS)


def of_address(secrets: Secrets, email_key: str, network: str) -> list[Budget]:
    """Return the budgets of an address: for one client network, and for all networks."""
    return [
        Budget(blind(secrets, _LABEL, "network", email_key, network), NETWORK_ATTEMPTS),
        Budget(blind(secrets, _LABEL, "address", email_key), ADDRESS_ATTEMPTS),
    ]


def of_login(secrets: Secrets, email_key: str, network: str) -> tuple[Budget, Budget]:
    """Return the budgets of an address's login codes: for one client network, and for all networks."""
    return (
        Budget(blind(secrets, _LABEL, "login-network", email_key, network), NETWORK_ATTEMPTS),
        Budget(blind(secrets, _LABEL, "login-address", email_key), ADDRESS_ATTEMPTS),
    )


async def find_spent(conn: Connection, budgets: Collection[Budget]) -> set[Budget]:
    """Return the exhausted budgets."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            SELECT b.key
              FROM unnest(%(keys)s::bytea[], %(most)s::integer[]) AS b (key, most)
              JOIN code_tries c ON c.key = b.key
             WHERE c.tries >= b.most AND c.since > now() - %(period)s
            """,
            {"keys": [b.key for b in budgets], "most": [b.most for b in budgets], "period": PERIOD},
        )
        spent = set(await cursor.fetchall())
    return {budget for budget in budgets if budget.key in spent}


async def spend(conn: Connection, budgets: Collection[Budget]) -> None:
    """Count one wrong code against each budget, in the caller's transaction.

    The caller holds a lock that prevents concurrent reads of these budgets between `find_spent` and the commit.
    """
    await conn.execute(
        """
        INSERT INTO code_tries AS c (key, tries)
        SELECT DISTINCT k, 1 FROM unnest(%(keys)s::bytea[]) AS k ORDER BY k
        ON CONFLICT (key) DO UPDATE
           SET tries = CASE WHEN c.since <= now() - %(period)s THEN 1 ELSE c.tries + 1 END,
               since = CASE WHEN c.since <= now() - %(period)s THEN now() ELSE c.since END
        """,
        {"keys": [budget.key for budget in budgets], "period": PERIOD},
    )


async def purge_code_attempts(conn: Connection, limit: int) -> int:
    """Delete at most `limit` budgets whose 30 days are over, and return the count."""
    cursor = await conn.execute(
        """
        DELETE FROM code_tries
         WHERE key IN (SELECT key FROM code_tries WHERE since <= now() - %(period)s
                        ORDER BY since LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"period": PERIOD, "limit": limit},
    )
    return cursor.rowcount
