"""What is done about an account by those who run the service."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from uuid import UUID, uuid4

import pytest
import trio

from regsvc.accounts.admin import user_actions
from regsvc.accounts.admin.user_actions import OwnAccountError
from regsvc.accounts.admin.user_search import Filters, Person, find_person, get_person, list_people
from regsvc.accounts.audit.record import By
from regsvc.accounts.cursor import Position
from regsvc.accounts.registrations.activation import AddressTakenError, activate_by_hand
from regsvc.accounts.registrations.registration import RegistrationNotFoundError, RegistrationOverError
from regsvc.accounts.sessions.session_start import start_session
from regsvc.accounts.users.acting_user import find_acting_users
from regsvc.accounts.users.user import LastAdminError, UserNotFoundError
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import SECRETS, sign_up, state_of
from tests.accounts.users import add_user

OPERATOR = By("operator", request_id="r1")
Act = Callable[[Connection, UUID, By], Awaitable[object]]


async def delete_user(conn: Connection, user_id: UUID, by: By) -> None:
    await user_actions.delete_user(conn, SECRETS, user_id, by)


async def demote(conn: Connection, user_id: UUID, by: By) -> None:
    await user_actions.set_role(conn, user_id, "user", by)


async def do(pool: Pool, act: Act, user_id: UUID, by: By = OPERATOR) -> None:
    async with pool.transaction() as conn:
        await act(conn, user_id, by)


async def person(pool: Pool, user_id: UUID) -> Person:
    async with pool.connection() as conn:
        return await get_person(conn, user_id)


async def log_in(pool: Pool, user_id: UUID) -> UUID:
    async with pool.transaction() as conn:
        started = await start_session(
            conn, SECRETS, user_id, password_hash="hash", origin="192.0.2.0/24", client="curl"
        )
    return started.session_id


async def is_alive(pool: Pool, session_id: UUID) -> bool:
    async with pool.connection() as conn:
        return session_id in await find_acting_users(conn, [session_id])


async def make_admin(pool: Pool, email: str) -> UUID:
    user_id = await add_user(pool, email)
    async with pool.transaction() as conn:
        await user_actions.set_role(conn, user_id, "admin", OPERATOR)
    return user_id


async def events(pool: Pool) -> list[str]:
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT event FROM audit_events ORDER BY id")
        return [row[0] for row in await cursor.fetchall()]


async def search(pool: Pool, **filters: str) -> list[str]:
    async with pool.connection() as conn:
        page = await list_people(conn, Filters(**filters), after=None, limit=10)  # type: ignore[arg-type]  # words
    return [found.email for found in page.rows]


async def test_a_disabled_user_is_out_until_they_are_enabled(pool: Pool) -> None:
    user_id = await add_user(pool)
    session_id = await log_in(pool, user_id)
    assert (await person(pool, user_id)).sessions == 1
    for _ in range(2):
        await do(pool, user_actions.disable_user, user_id)
    assert ((await person(pool, user_id)).state, await is_alive(pool, session_id)) == ("disabled", False)
    for _ in range(2):
        await do(pool, user_actions.enable_user, user_id)
    assert (await person(pool, user_id)).state == "active"
    assert not await is_alive(pool, session_id)
    assert await is_alive(pool, await log_in(pool, user_id))
    assert await events(pool) == ["user_disabled", "user_enabled"]


async def test_a_new_role_needs_a_new_log_in(pool: Pool) -> None:
    user_id = await add_user(pool)
    session_id = await log_in(pool, user_id)
    async with pool.transaction() as conn:
        await user_actions.set_role(conn, user_id, "user", OPERATOR)
    assert await is_alive(pool, session_id)
    async with pool.transaction() as conn:
        await user_actions.set_role(conn, user_id, "admin", OPERATOR)
    assert not await is_alive(pool, session_id)
    assert await events(pool) == ["role_changed"]


@pytest.mark.parametrize("act", [user_actions.disable_user, delete_user, demote])
async def test_the_last_administrator_who_may_log_in_stays(pool: Pool, act: Act) -> None:
    ann, bob = await make_admin(pool, "ann@example.com"), await make_admin(pool, "bob@example.com")
    await do(pool, act, ann)
    with pytest.raises(LastAdminError):
        await do(pool, act, bob)
    assert ((await person(pool, bob)).role, (await person(pool, bob)).state) == ("admin", "active")


@pytest.mark.parametrize("act", [user_actions.disable_user, delete_user, demote])
async def test_of_administrators_who_remove_each_other_at_once_one_is_left(pool: Pool, act: Act) -> None:
    admins = [await make_admin(pool, f"a{n}@example.com") for n in range(4)]
    refused: list[UUID] = []

    async def remove(user_id: UUID) -> None:
        try:
            await do(pool, act, user_id)
        except LastAdminError:
            refused.append(user_id)

    async with trio.open_nursery() as nursery:
        for user_id in admins:
            nursery.start_soon(remove, user_id)
    assert len(refused) == 1
    assert await search(pool, role="admin", standing="active") == [(await person(pool, refused[0])).email]


async def test_administrators_do_not_disable_or_delete_themselves(pool: Pool) -> None:
    ann = await make_admin(pool, "ann@example.com")
    await make_admin(pool, "bob@example.com")
    for act in (user_actions.disable_user, delete_user):
        with pytest.raises(OwnAccountError):
            await do(pool, act, ann, By("admin", actor_id=ann))
    assert (await person(pool, ann)).state == "active"


@pytest.mark.parametrize(
    "act",
    [user_actions.disable_user, user_actions.enable_user, user_actions.end_user_sessions, delete_user],
)
async def test_nothing_is_done_about_nobody(pool: Pool, act: Act) -> None:
    with pytest.raises(UserNotFoundError):
        await do(pool, act, uuid4())
    assert await events(pool) == []


async def test_users_are_found_by_the_beginning_of_address_or_name_whatever_it_is_made_of(pool: Pool) -> None:
    for email in ("Ann@example.com", "anton@example.com", "a%b@example.com", "bob_x@example.com"):
        await add_user(pool, email)
    async with pool.connection() as conn:
        await conn.execute("UPDATE users SET name = CASE WHEN email LIKE 'bob%' THEN 'Äva\\%' ELSE 'Zoe' END")
    assert sorted(await search(pool, search="AN")) == ["Ann@example.com", "anton@example.com"]
    assert await search(pool, search="a%") == ["a%b@example.com"]
    assert await search(pool, search="bob_") == ["bob_x@example.com"]
    assert await search(pool, search="äVA\\%") == ["bob_x@example.com"]
    assert await search(pool, search="example") == []
    assert len(await search(pool)) == 4


async def test_pages_of_users_follow_each_other(pool: Pool) -> None:
    emails = [f"u{n}@example.com" for n in range(5)]
    for email in emails:
        await add_user(pool, email)
    found: list[str] = []
    after: Position | None = None
    async with pool.connection() as conn:
        for _ in range(3):
            page = await list_people(conn, Filters(), after=after, limit=2)
            found += [each.email for each in page.rows]
            after = Position.decode(page.next_cursor) if page.next_cursor else None
    assert (found, after) == (emails[::-1], None)


async def test_a_user_is_found_by_id_or_address(pool: Pool) -> None:
    user_id = await add_user(pool)
    async with pool.connection() as conn:
        for text in (str(user_id), "ann@example.com", "ANN@EXAMPLE.COM"):
            assert (await find_person(conn, text)).id == user_id
        for text in (str(uuid4()), "bob@example.com", "ann", ""):
            with pytest.raises(UserNotFoundError):
                await find_person(conn, text)


async def test_a_registration_is_confirmed_by_hand_once(pool: Pool) -> None:
    new, other = await sign_up(pool), await sign_up(pool)
    async with pool.transaction() as conn:
        user_id = await activate_by_hand(conn, new.id, OPERATOR)
    assert ((await person(pool, user_id)).email, await state_of(pool, new.id)) == (
        "ann@example.com",
        "confirmed",
    )
    assert await events(pool) == ["account_created"]
    for registration_id, error in (
        (new.id, RegistrationOverError),
        (other.id, AddressTakenError),
        (uuid4(), RegistrationNotFoundError),
    ):
        with pytest.raises(error):
            async with pool.transaction() as conn:
                await activate_by_hand(conn, registration_id, OPERATOR)
