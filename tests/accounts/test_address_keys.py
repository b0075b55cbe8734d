"""Keys of stored addresses are recomputed: in batches, from where the last one ended, and without merging anything."""

from __future__ import annotations

import unicodedata
from uuid import UUID, uuid4

import pytest

from regsvc.accounts import address_keys
from regsvc.accounts.address import find_key
from regsvc.accounts.admin.address_findings import dismiss_findings, list_findings
from regsvc.accounts.users.user import find_credentials
from regsvc.postgres.pool import Pool
from tests.accounts.attempts import sign_up
from tests.accounts.users import add_user


def fold(email: str) -> str:
    """Return the key that version 0.1 had."""
    return unicodedata.normalize("NFC", email.casefold())


async def add_folded_user(pool: Pool, email: str) -> UUID:
    user_id = await add_user(pool, f"{uuid4()}@example.com")
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE users SET email = %s, email_key = %s WHERE id = %s", [email, fold(email), user_id]
        )
    return user_id


async def add_folded_attempt(pool: Pool, email: str) -> UUID:
    new = await sign_up(pool, email)
    async with pool.connection() as conn:
        await conn.execute("UPDATE registrations SET email_key = %s WHERE id = %s", [fold(email), new.id])
    return new.id


async def recompute(pool: Pool, batch: int = 2) -> None:
    async with pool.connection() as conn:
        await address_keys.schedule_recomputing(conn)
        await address_keys.recompute_keys(conn, batch)


async def fetch(pool: Pool, query: str) -> list[tuple[object, ...]]:
    async with pool.connection() as conn:
        return await (await conn.execute(query.encode())).fetchall()


async def findings(pool: Pool) -> dict[tuple[object, object], object]:
    return {
        (user, finding): others
        for user, finding, others in await fetch(
            pool, "SELECT user_id, finding, others FROM address_findings"
        )
    }


async def test_every_key_is_that_of_its_address_afterwards(pool: Pool) -> None:
    """Whatever the batches cut apart."""
    emails = ["Ann@großbank.example", "bob@grossbank.example", "Ünal@bücher.example", "straße@example.com"]
    for email in emails:
        await add_folded_user(pool, email)
        await add_folded_attempt(pool, email)
    await recompute(pool)
    for table in ("users", "registrations"):
        rows = await fetch(pool, f"SELECT email, email_key FROM {table}")
        assert len(rows) == len(emails)
        assert all(find_key(str(email)) == key for email, key in rows)
    assert await fetch(pool, "SELECT FROM address_key_progress") == []
    assert await findings(pool) == {}


async def test_mails_and_moves_are_recomputed_too(pool: Pool) -> None:
    user_id = await add_folded_user(pool, "ann@großbank.example")
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO mails (id, kind, email_key) VALUES (%s, 'forgot', 'ann@bücher.example')", [uuid4()]
        )
        await conn.execute(
            "INSERT INTO address_moves (id, user_id, old_email, old_key, new_email, new_key)"
            " VALUES (%s, %s, 'ann@großbank.example', 'ann@grossbank.example', 'Ä@x.example', 'ä@x.example')",
            [uuid4(), user_id],
        )
    await recompute(pool)
    assert await fetch(pool, "SELECT email_key FROM mails") == [("ann@xn--bcher-kva.example",)]
    assert await fetch(pool, "SELECT old_key, new_key FROM address_moves") == [
        ("ann@xn--grobank-2va.example", "Ä@x.example")
    ]


@pytest.mark.parametrize("batch", [1, 100])
async def test_an_account_that_another_mailbox_had_the_key_of_is_reported(pool: Pool, batch: int) -> None:
    """Whichever of the two spellings is the account's."""
    sharp = await add_folded_user(pool, "ann@großbank.example")
    other = await add_folded_attempt(pool, "ann@grossbank.example")
    plain = await add_folded_user(pool, "bob@strasse.example")
    others = {await add_folded_attempt(pool, "bob@straße.example") for _ in range(2)}
    await add_folded_attempt(pool, "bob@strasse.example")
    unshared = await add_folded_user(pool, "carl@bücher.example")
    await add_folded_attempt(pool, "CARL@bücher.example")
    await recompute(pool, batch)
    found = await findings(pool)
    assert found.pop((sharp, "shared")) == [other]
    assert set(found.pop((plain, "shared"))) == others  # type: ignore[call-overload]
    assert found == {}
    assert (unshared, "shared") not in found


async def test_an_account_whose_key_is_taken_is_kept_apart_and_gets_it_once_it_is_free(pool: Pool) -> None:
    """A program of the version before may have made one beside the new one's; neither is merged or handed over."""
    new = await add_user(pool, "x@münchen.example")
    old = await add_folded_user(pool, "x@münchen.example")
    await recompute(pool)
    assert await findings(pool) == {(old, "collides"): [new]}
    key = find_key("x@münchen.example")
    assert key is not None
    async with pool.connection() as conn:
        credentials = await find_credentials(conn, key)
        assert credentials is not None
        assert credentials.user_id == new
        ((parked,),) = await fetch(pool, f"SELECT email_key FROM users WHERE id = '{old}'")
        assert find_key(str(parked)) is None  # no address that anyone types
        await recompute(pool)
        assert await findings(pool) == {(old, "collides"): [new]}
        await conn.execute("DELETE FROM users WHERE id = %s", [new])
    await recompute(pool)
    assert await findings(pool) == {}
    assert await fetch(pool, "SELECT id, email_key FROM users") == [(old, key)]


async def test_it_goes_on_where_it_was_broken_off(pool: Pool) -> None:
    for number in range(5):
        await add_folded_user(pool, f"{number}@bücher.example")
    async with pool.connection() as conn:
        await address_keys.schedule_recomputing(conn)
        assert not await address_keys.recompute_batch(conn, 2)
        done = await fetch(pool, "SELECT id FROM users WHERE email_key LIKE '%xn--%' ORDER BY id")
        first = await fetch(pool, "SELECT id FROM users ORDER BY id LIMIT 2")
        assert done == first
        await address_keys.schedule_recomputing(conn)  # changes nothing while it is on its way
        assert await fetch(pool, "SELECT stage, after FROM address_key_progress") == [("users", first[-1][0])]
        await address_keys.recompute_keys(conn, 2)
    assert await fetch(pool, "SELECT count(*) FROM users WHERE email_key LIKE '%xn--%'") == [(5,)]


async def test_migrating_recomputes_what_is_there(database: str, pool: Pool) -> None:
    user_id = await add_folded_user(pool, "ann@großbank.example")
    async with pool.connection() as conn:
        await address_keys.schedule_recomputing(conn)
    assert await address_keys.bring_up(database) == []
    assert await fetch(pool, "SELECT id, email_key FROM users") == [(user_id, "ann@xn--grobank-2va.example")]


async def test_an_operator_reads_what_was_found_and_dismisses_it(pool: Pool) -> None:
    user_id = await add_folded_user(pool, "ann@großbank.example")
    other = await add_folded_attempt(pool, "ann@grossbank.example")
    await recompute(pool)
    async with pool.connection() as conn:
        (found,) = await list_findings(conn)
        assert (found.user_id, found.email, found.finding) == (user_id, "ann@großbank.example", "shared")
        assert found.others == [
            {"kind": "registration", "id": str(other), "email": "ann@grossbank.example", "state": "queued"}
        ]
        assert await dismiss_findings(conn, [user_id]) == 1
        assert await list_findings(conn) == []
