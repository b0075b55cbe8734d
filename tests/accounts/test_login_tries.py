"""Log-ins that fail wait longer and longer; no stranger's failures hold up a client that succeeded before."""

from __future__ import annotations

from datetime import timedelta

import pytest
import trio

from regsvc.accounts.audit.record import By
from regsvc.accounts.limits.login_attempts import (
    CLIENTS,
    LoginTry,
    Place,
    forget_address,
    forgive_tries,
    know_client,
    purge_login_tries,
    withdraw_try,
)
from regsvc.accounts.limits.login_opening import OpenedLogin, open_login
from regsvc.accounts.limits.rate_limit import RateLimitedError
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets
from tests.accounts.attempts import SECRETS

ANN = "ann@example.com"
HOME = "192.0.2.0/24"
STRANGER = "203.0.113.0/24"


def tried_of(opened: OpenedLogin) -> LoginTry:
    assert opened.tried is not None
    return opened.tried


async def begin(
    pool: Pool, client: str = STRANGER, address: str = ANN, secrets: Secrets = SECRETS
) -> LoginTry:
    async with pool.connection() as conn:
        place = Place(client, "Firefox", client)
        return tried_of(await open_login(conn, secrets, [], address, place))


async def succeed(pool: Pool, client: str) -> None:
    tried = await begin(pool, client)
    async with pool.transaction() as conn:
        await forgive_tries(conn, tried)


async def wait_of(pool: Pool, client: str = STRANGER) -> float:
    """Return the seconds that the next try has to wait."""
    with pytest.raises(RateLimitedError) as refused:
        await begin(pool, client)
    return refused.value.retry_after


async def pass_time(pool: Pool, **time: float) -> None:
    by = {"by": timedelta(**time)}
    async with pool.connection() as conn:
        await conn.execute("UPDATE login_failures SET last_at = last_at - %(by)s", by)
        await conn.execute("UPDATE login_clients SET last_at = last_at - %(by)s", by)


async def test_ten_failures_cost_no_wait_and_then_it_grows_from_30_s_to_an_hour(pool: Pool) -> None:
    for _ in range(10):
        await begin(pool)
    for seconds in (30, 60, 120, 240, 480, 960, 1920, 3600, 3600, 3600):
        assert seconds - 1 < await wait_of(pool) <= seconds
        await pass_time(pool, seconds=seconds - 2)
        assert 0 < await wait_of(pool) <= 2
        await pass_time(pool, seconds=2)
        await begin(pool)


async def test_of_many_at_once_only_those_that_are_free_are_made(pool: Pool, database: str) -> None:
    other = Pool(database, application_name="regsvc test")
    outcomes: list[bool] = []

    async def guess(of: Pool, client: str) -> None:
        try:
            await begin(of, client)
        except RateLimitedError:
            outcomes.append(False)
        else:
            outcomes.append(True)

    for expected in (10, 1):
        outcomes.clear()
        async with trio.open_nursery() as nursery:
            for number in range(50):
                nursery.start_soon(guess, (pool, other)[number % 2], f"10.0.{number}.0/24")
        assert outcomes.count(True) == expected
        await pass_time(pool, seconds=30)
    await other.aclose()


async def test_a_thousand_failures_of_strangers_never_hold_up_a_client_that_succeeded_before(
    pool: Pool,
) -> None:
    await succeed(pool, HOME)
    for number in range(1000):
        await begin(pool, f"10.{number // 256}.{number % 256}.0/24")
        await pass_time(pool, hours=1)
    await begin(pool)
    assert await wait_of(pool) > 3590
    await succeed(pool, HOME)
    await succeed(pool, HOME)
    assert await wait_of(pool) > 3590  # its success is no help for strangers


async def test_a_known_client_waits_for_its_own_mistakes(pool: Pool) -> None:
    await succeed(pool, HOME)
    for _ in range(10):
        await begin(pool, HOME)
    assert 29 < await wait_of(pool, HOME) <= 30
    await begin(pool, STRANGER)
    await pass_time(pool, seconds=30)
    await succeed(pool, HOME)
    await begin(pool, HOME)


async def test_addresses_are_counted_apart_and_a_client_is_known_for_its_address_alone(pool: Pool) -> None:
    await succeed(pool, HOME)
    for _ in range(10):
        await begin(pool, STRANGER, "bob@example.com")
    with pytest.raises(RateLimitedError):
        await begin(pool, HOME, "bob@example.com")
    await begin(pool, STRANGER)


async def test_a_quiet_day_forgets_failures(pool: Pool) -> None:
    for _ in range(10):
        await begin(pool)
    await pass_time(pool, hours=24)
    for _ in range(10):
        await begin(pool)
    assert await wait_of(pool) > 29


async def test_a_try_that_was_not_made_is_not_counted(pool: Pool) -> None:
    for _ in range(30):
        tried = await begin(pool)
        async with pool.connection() as conn:
            await withdraw_try(conn, tried)


async def test_a_client_is_known_for_ninety_days_and_over_a_rotation_of_the_secret(pool: Pool) -> None:
    async with pool.connection() as conn:
        await know_client(conn, SECRETS, ANN, By("anonymous", origin=HOME, client="Firefox"))
    rotated = Secrets(b"the secret after that, 32 bytes!", previous=SECRETS.current)
    known = await begin(pool, HOME, secrets=rotated)
    assert known.counted != known.address
    await pass_time(pool, days=90)
    unknown = await begin(pool, HOME, secrets=rotated)
    assert unknown.counted == unknown.address


async def test_of_an_address_so_many_clients_are_known_and_the_longest_unused_are_not(pool: Pool) -> None:
    for number in range(CLIENTS + 5):
        await succeed(pool, f"10.0.{number}.0/24")
        await pass_time(pool, minutes=1)
    oldest, newest = await begin(pool, "10.0.4.0/24"), await begin(pool, "10.0.5.0/24")
    assert oldest.counted == oldest.address
    assert newest.counted == newest.client


async def test_what_is_over_is_purged(pool: Pool) -> None:
    await succeed(pool, HOME)
    await begin(pool)
    async with pool.connection() as conn:
        assert await purge_login_tries(conn, 10) == 0
        await pass_time(pool, days=1)
        assert await purge_login_tries(conn, 10) == 1
        await pass_time(pool, days=89)
        assert await purge_login_tries(conn, 10) == 2  # the client and its network


async def test_strangers_do_not_see_that_the_owner_logs_in_from_a_new_place(pool: Pool) -> None:
    """Neither before there are waits, nor while one is running, nor once it is over."""

    async def rows() -> list[object]:
        async with pool.connection() as conn:
            cursor = await conn.execute("SELECT failures, last_at FROM login_failures")
            return list(await cursor.fetchall())

    await succeed(pool, "10.0.0.0/24")
    assert await rows() == []
    for number in range(12):
        await begin(pool)
        await pass_time(pool, hours=1)
        before = await rows()
        await succeed(pool, f"10.1.{number}.0/24")
        assert await rows() == before


async def test_of_an_address_whose_account_is_deleted_its_clients_are_forgotten(pool: Pool) -> None:
    await succeed(pool, HOME)
    await begin(pool, HOME)
    await begin(pool, STRANGER)
    async with pool.transaction() as conn:
        await forget_address(conn, SECRETS, ANN)
    again = await begin(pool, HOME)
    assert again.counted == again.address
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT failures FROM login_failures")
        assert await cursor.fetchall() == [(2,)]  # the stranger's, and the one just now


async def begin_at(pool: Pool, network: str, client: str = "Firefox") -> LoginTry:
    async with pool.connection() as conn:
        return tried_of(await open_login(conn, SECRETS, [], ANN, Place(network, client, HOME)))


async def fail_until_held_back(pool: Pool, network: str, client: str = "Firefox") -> None:
    with pytest.raises(RateLimitedError):
        for _ in range(11):
            await begin_at(pool, network, client)


@pytest.mark.parametrize(
    ("network", "client"), [("192.0.2.8", "Firefox"), ("192.0.2.7", "curl")], ids=["address", "software"]
)
async def test_a_neighbour_in_a_known_network_does_not_hold_up_the_client_that_is_known(
    pool: Pool, network: str, client: str
) -> None:
    tried = await begin_at(pool, "192.0.2.7")
    async with pool.transaction() as conn:
        await forgive_tries(conn, tried)
    await fail_until_held_back(pool, network, client)
    await begin_at(pool, "192.0.2.7")


async def test_a_known_client_at_a_new_address_of_its_network_does_not_wait_for_strangers(pool: Pool) -> None:
    tried = await begin_at(pool, "192.0.2.7")
    async with pool.transaction() as conn:
        await forgive_tries(conn, tried)
    for _ in range(10):
        await begin(pool)
    await wait_of(pool)
    await begin_at(pool, "192.0.2.99")
