"""One code starts one session, however many requests bring it at the same moment.

    REGSVC_TEST_ROUNDS=1000 .venv/bin/pytest tests/factors/test_one_code.py

does a thousand rounds of twenty in each way; without it, as many as fit beside other tests.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

import pytest
import trio

from regsvc.accounts.audit.record import ANYONE
from regsvc.accounts.factors.methods import FactorInvalidError
from regsvc.accounts.factors.pending_logins import MfaTokenInvalidError, begin_second_step
from regsvc.accounts.users.user import get_credentials
from regsvc.config import loading
from regsvc.flows.caller import Caller
from regsvc.flows.login.second_factor import SecondFactorBody, pass_second_factor
from regsvc.flows.service import Service
from regsvc.postgres.pool import Pool
from regsvc.security.passwords import HashingLane
from tests.factors.people import SECRETS, Owner, add_owner, begin, finish, own_app_of
from tests.services import SECRET, cheap_hashes
from tests.services import Service as RunningService

ROUNDS = int(os.environ.get("REGSVC_TEST_ROUNDS", "5"))
HTTP_ROUNDS = min(ROUNDS, 20) if ROUNDS > 5 else 1
AT_ONCE = 20
HTTP_AT_ONCE = 100

Given: TypeAlias = Callable[[Owner], dict[str, str]]
CALLER = Caller("192.0.2.1", "", "192.0.2.0/24", "curl", "en", "request", limited=False)
FACTORS: dict[str, Given] = {
    "code": lambda owner: {"code": owner.code()},
    "recovery_code": lambda owner: {"recovery_code": owner.recovery_codes[0]},
}


@pytest.fixture
async def flows(database: str, pool: Pool) -> AsyncIterator[Service]:
    """What the flows work with."""
    environ = {
        "REGSVC_DATABASE_URL": database,
        "REGSVC_SECRET_KEY": SECRET,
        "REGSVC_SMTP_URL": "maildir:/nowhere",
        "REGSVC_MAIL_FROM": "regsvc <no-reply@example.org>",
        "REGSVC_PUBLIC_URL": "http://127.0.0.1:8080",
        "REGSVC_RATE_LIMITS": "off",
    }
    settings = loading.load(environ, mode="dev")
    pepper, peppers = SECRETS.peppers()
    with cheap_hashes():
        async with HashingLane(cost=4, pepper=pepper, peppers=peppers, threads=1) as lane:
            yield Service(settings, SECRETS, pool, lane)


async def all_at_once(number: int, one: Callable[[], Awaitable[str]]) -> Counter[str]:
    """Do something so many times in parallel, and count what came of it."""
    outcomes: Counter[str] = Counter()

    async def do() -> None:
        outcomes[await one()] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(do)
    return outcomes


async def count_sessions(pool: Pool, owner: Owner) -> int:
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT count(*) FROM sessions WHERE user_id = %s", [owner.user_id])
        row = await cursor.fetchone()
        assert row is not None
        return int(row[0])


async def begin_step(pool: Pool, owner: Owner) -> str:
    """Pass the first step of a login, and return the token of the second."""
    async with pool.connection() as conn:
        credentials = await get_credentials(conn, owner.user_id)
        assert credentials is not None
        return await begin_second_step(conn, credentials, amr=["pwd"], tried=None, by=ANYONE)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("logins", [1, AT_ONCE])
@pytest.mark.parametrize("factor", FACTORS)
async def test_one_code_starts_one_session_at_the_flow(
    factor: str, logins: int, flows: Service, pool: Pool
) -> None:
    """Whether one login brings it twenty times, or twenty logins bring it once each."""
    for _ in range(ROUNDS):
        owner = await add_owner(pool)
        tokens = [await begin_step(pool, owner) for _ in range(logins)] * (AT_ONCE // logins)
        given = FACTORS[factor](owner)

        async def one(tokens: list[str] = tokens, given: dict[str, str] = given) -> str:
            try:
                body = SecondFactorBody.model_validate({"mfa_token": tokens.pop(), **given})
                await pass_second_factor(flows, CALLER, body)
            except (FactorInvalidError, MfaTokenInvalidError) as error:
                return error.code
            return "in"

        outcomes = await all_at_once(AT_ONCE, one)
        assert outcomes["in"] == 1, outcomes
        assert sum(outcomes.values()) == AT_ONCE
        assert await count_sessions(pool, owner) == 1


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("factor", FACTORS)
async def test_one_code_starts_one_session_over_http(
    factor: str, service: RunningService, pool: Pool
) -> None:
    await service.confirm()
    for _ in range(HTTP_ROUNDS):
        async with pool.connection() as conn:
            await conn.execute("DELETE FROM totp_authenticators")
            await conn.execute("DELETE FROM recovery_keys")
            await conn.execute("DELETE FROM factor_guesses")
            await conn.execute("DELETE FROM sessions")
        owner = await own_app_of(pool)
        tokens = [await begin(service) for _ in range(4)] * (HTTP_AT_ONCE // 4)
        given = FACTORS[factor](owner)

        async def one(tokens: list[str] = tokens, given: dict[str, str] = given) -> str:
            answer = await finish(service, tokens.pop(), **given)
            return "in" if answer.status_code == 200 else str(answer.json()["code"])

        outcomes = await all_at_once(HTTP_AT_ONCE, one)
        assert outcomes["in"] == 1, outcomes
        assert set(outcomes) <= {"in", "second_factor_invalid", "mfa_token_invalid", "rate_limited"}
        assert await count_sessions(pool, owner) == 1
