"""One code starts one session, however many requests bring it at the same moment.

    REGSVC_TEST_ROUNDS=1000 .venv/bin/pytest tests/factors/test_one_code.py tests/http/test_login_code.py -k one_code

does a thousand rounds of twenty in each way, and twenty of a hundred over HTTP; without it, as many as fit beside other
tests.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import TypeAlias
from uuid import UUID, uuid4

import pytest
import trio

from regsvc.accounts.audit.record import ANYONE
from regsvc.accounts.factors.methods import FactorInvalidError
from regsvc.accounts.factors.pending_logins import MfaTokenInvalidError, begin_second_step
from regsvc.accounts.registrations.confirmation import TokenExpiredError
from regsvc.accounts.registrations.login_code import LOGIN_CODE, NewLogin, add_login
from regsvc.accounts.users.user import get_credentials
from regsvc.flows.login.login_code import log_in_by_code
from regsvc.flows.login.second_factor import SecondFactorBody, pass_second_factor
from regsvc.flows.service import Service
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import mint_code
from tests.accounts.users import add_user
from tests.factors.conftest import CALLER
from tests.factors.people import SECRETS, Owner, add_owner, begin, finish, own_app_of
from tests.services import Service as RunningService

ROUNDS = int(os.environ.get("REGSVC_TEST_ROUNDS", "5"))
HTTP_ROUNDS = min(ROUNDS, 20) if ROUNDS > 5 else 1
AT_ONCE = 20
SHED = {"database_unavailable", "overloaded"}  # 503, where the machine is too busy for a hundred at once
HTTP_AT_ONCE = 100

Given: TypeAlias = Callable[[Owner], dict[str, str]]
FACTORS: dict[str, Given] = {
    "code": lambda owner: {"code": owner.code()},
    "recovery_code": lambda owner: {"recovery_code": owner.recovery_codes[0]},
}


async def all_at_once(number: int, one: Callable[[], Awaitable[str]]) -> Counter[str]:
    """Do something so many times in parallel, and count what came of it."""
    outcomes: Counter[str] = Counter()

    async def do() -> None:
        outcomes[await one()] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(number):
            nursery.start_soon(do)
    return outcomes


async def count_sessions(pool: Pool, user_id: UUID) -> int:
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT count(*) FROM sessions WHERE user_id = %s", [user_id])
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
        assert await count_sessions(pool, owner.user_id) == 1


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
        refused = {"second_factor_invalid", "mfa_token_invalid", "rate_limited"}
        assert set(outcomes) <= {"in", *refused, *SHED}, outcomes
        assert await count_sessions(pool, owner.user_id) == 1


async def add_mailed_code(pool: Pool, address: str) -> tuple[UUID, str]:
    """Store an attempt to log in whose mail was sent, and return it with its code."""
    login_id, mail_id = uuid4(), uuid4()
    new = NewLogin(login_id, mail_id, address, address, "en", "", "", login_id.bytes, login_id.bytes)
    async with pool.transaction() as conn:
        await add_login(conn, new)
        await conn.execute(
            "UPDATE mails SET state = 'sent', sent_at = now(), due_at = NULL WHERE id = %s", [mail_id]
        )
    return login_id, mint_code(SECRETS, mail_id, address, LOGIN_CODE)


@pytest.mark.timeout(3600)
async def test_one_mailed_code_starts_one_session_at_the_flow(flows: Service, pool: Pool) -> None:
    for _ in range(ROUNDS):
        address = f"{uuid4()}@example.com"
        user_id = await add_user(pool, address)
        login_id, code = await add_mailed_code(pool, address)

        async def one(login_id: UUID = login_id, code: str = code) -> str:
            try:
                await log_in_by_code(flows, CALLER, login_id, code)
            except TokenExpiredError as error:
                return error.code
            return "in"

        assert await all_at_once(AT_ONCE, one) == {"in": 1, "token_expired": AT_ONCE - 1}
        assert await count_sessions(pool, user_id) == 1
