"""Wrong second factors of a user, however many logins and sessions they come from.

Ten within an hour hold back clients that are not known to the account. A hundred within a day stop six-digit codes for
every client: of a million codes a guesser then never tries more than a hundred a day. Recovery codes, of 50 bits, and
passkeys cannot be guessed, and go on.

A guess is counted before it is checked and withdrawn if it was right, so a hundred at once count like a hundred.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.postgres.connection import Connection

HOURLY = 10  # by clients that are not known
DAILY = 100
LIMIT = "second-factor-guesses"


@dataclass(frozen=True)
class Guess:
    """A counted guess.

    Args:
        user_id: whose factor is guessed.
        at: when it was counted.
        number: of the guesses within a day, this one included; beyond `DAILY` it rises no more.
    """

    user_id: UUID
    at: datetime
    number: int


async def begin_guess(conn: Connection, user_id: UUID, *, known: bool, guessable: bool) -> Guess:
    """Count a guess before it is checked.

    Args:
        conn: not in a transaction: the guess counts whatever follows.
        user_id: whose factor it is.
        known: the client has logged in to the account before, or no limits apply to it.
        guessable: it is a code of six digits.

    Raises:
        RateLimitedError: there were too many; this one is not counted.
    """
    values = {
        "id": user_id,
        "hourly": None if known else HOURLY,
        "daily": DAILY if guessable else None,
        "most": DAILY,
    }
    cursor = await conn.execute(
        """
        INSERT INTO factor_guesses AS g (user_id, made_at, last_at)
        SELECT id, ARRAY[now()], now() FROM users WHERE id = %(id)s  -- who may have been deleted just now
        ON CONFLICT (user_id) DO UPDATE
           SET made_at = (ARRAY(SELECT t FROM unnest(g.made_at) AS t WHERE t > now() - interval '1 day'
                                 ORDER BY t DESC LIMIT %(most)s) || clock_timestamp()),
               last_at = clock_timestamp()
         WHERE (SELECT count(*) FROM unnest(g.made_at) AS t WHERE t > now() - interval '1 hour')
               < coalesce(%(hourly)s, 2147483647)
           AND (SELECT count(*) FROM unnest(g.made_at) AS t WHERE t > now() - interval '1 day')
               < coalesce(%(daily)s, 2147483647)
        RETURNING made_at[cardinality(made_at)], cardinality(made_at)
        """,
        values,
    )
    counted = await cursor.fetchone()
    if counted is not None:
        return Guess(user_id, *counted)
    cursor = await conn.execute(
        """
        SELECT extract(epoch FROM greatest(
                   (SELECT t FROM unnest(made_at) AS t ORDER BY t DESC OFFSET %(hourly)s - 1 LIMIT 1)
                       + interval '1 hour',
                   (SELECT t FROM unnest(made_at) AS t ORDER BY t DESC OFFSET %(daily)s - 1 LIMIT 1)
                       + interval '1 day') - now())::float8
          FROM factor_guesses
         WHERE user_id = %(id)s
        """,
        {"id": user_id, "hourly": values["hourly"] or DAILY + 1, "daily": values["daily"] or DAILY + 1},
    )
    row = await cursor.fetchone()
    raise RateLimitedError(LIMIT, max(row[0] if row and row[0] else 0.0, 1.0))


async def withdraw_guess(conn: Connection, guess: Guess) -> None:
    """Withdraw a guess that was right, or that could not be checked."""
    await conn.execute(
        "UPDATE factor_guesses SET made_at = array_remove(made_at, %(at)s) WHERE user_id = %(id)s",
        {"id": guess.user_id, "at": guess.at},
    )


async def purge_guesses(conn: Connection, limit: int) -> int:
    """Delete the counts of users without a guess for a day, and return how many."""
    cursor = await conn.execute(
        """
        DELETE FROM factor_guesses
         WHERE user_id IN (SELECT user_id FROM factor_guesses WHERE last_at <= now() - interval '1 day'
                            ORDER BY last_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
        """,
        {"limit": limit},
    )
    return cursor.rowcount
