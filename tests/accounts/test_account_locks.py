"""Whatever is done to one account at once, nobody waits for somebody who waits for them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID

import trio

from regsvc.accounts.admin import user_actions
from regsvc.accounts.audit.record import By
from regsvc.accounts.factors import guesses
from regsvc.accounts.factors.recovery_codes import take_recovery_code
from regsvc.accounts.factors.totp import take_totp
from regsvc.accounts.registrations.confirmation import confirm_by_link
from regsvc.accounts.sessions import refresh_token, session
from regsvc.accounts.sessions.refresh_token import Grant, Reuse
from regsvc.accounts.sessions.session_start import start_session
from regsvc.accounts.users.notices import add_notice
from regsvc.accounts.users.password import change_password
from regsvc.accounts.users.user import lock_user
from regsvc.errors import DatabaseUnavailableError, RegsvcError
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import SECRETS, link_token, send, sign_up
from tests.accounts.users import add_user
from tests.factors.people import own_app

OPERATOR = By("operator")


async def test_nothing_that_is_done_to_an_account_at_once_ends_in_a_deadlock(database: str) -> None:
    """A deadlock looks like a database that is away; everything else may be refused."""
    pool = Pool(database, size=16, wait=60.0, application_name="regsvc test")
    for _ in range(6):
        await do_everything_at_once(pool)
        async with pool.connection() as conn:
            await conn.execute("DELETE FROM users")
    await pool.aclose()


async def do_everything_at_once(pool: Pool) -> None:
    user_id = await add_user(pool)
    attempt = await sign_up(pool)  # of the same address, which the deletion sets free
    await send(pool, attempt.mail_id)
    grants = []
    for _ in range(3):
        async with pool.transaction() as conn:
            grants.append(await log_in(conn, user_id))

    async with pool.transaction() as conn:
        owner = await own_app(conn, user_id, SECRETS)

    async def use_code(conn: Connection) -> None:
        await lock_user(conn, user_id)
        guess = await guesses.begin_guess(conn, user_id, known=True, guessable=False)
        await take_totp(conn, SECRETS, user_id, owner.code())
        await take_recovery_code(conn, SECRETS, user_id, owner.recovery_codes[0])
        await start_session(
            conn, SECRETS, user_id, password_hash="hash", origin="x", client="x", amr=["pwd", "mfa"]
        )
        await guesses.withdraw_guess(conn, guess)

    async def refresh(conn: Connection, refreshed: Grant) -> None:
        found = await refresh_token.refresh_session(conn, SECRETS, refreshed.refresh_token)
        if isinstance(found, Reuse):
            await add_notice(conn, found.user_id, "refresh_token_reused", OPERATOR)

    async def change(conn: Connection) -> None:
        kept = grants[0].session_id
        await change_password(conn, user_id, old_hash="hash", new_hash="hash", keep=kept, by=OPERATOR)

    deeds: list[Callable[[Connection], Awaitable[object]]] = [
        *[lambda conn: log_in(conn, user_id)] * 3,
        *[lambda conn, it=it: refresh(conn, it) for it in grants * 3],
        *[lambda conn: session.end_all_sessions(conn, user_id, reason="test")] * 2,
        *[change] * 2,
        *[use_code] * 3,
        lambda conn: user_actions.reset_factors(conn, user_id, OPERATOR),
        lambda conn: user_actions.set_role(conn, user_id, "admin", OPERATOR),
        lambda conn: user_actions.disable_user(conn, user_id, OPERATOR),
        lambda conn: user_actions.enable_user(conn, user_id, OPERATOR),
        *[lambda conn: user_actions.delete_user(conn, SECRETS, user_id, OPERATOR)] * 2,
        *[lambda conn: confirm_by_link(conn, SECRETS, link_token(attempt))] * 2,
    ]

    async def do(deed: Callable[[Connection], Awaitable[object]]) -> None:
        try:
            async with pool.transaction() as conn:
                await deed(conn)
        except DatabaseUnavailableError:
            raise
        except RegsvcError:
            pass  # somebody else was first

    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for deed in deeds:
                nursery.start_soon(do, deed)


async def log_in(conn: Connection, user_id: UUID) -> Grant:
    return await start_session(
        conn, SECRETS, user_id, password_hash="hash", origin="192.0.2.0/24", client="curl"
    )
