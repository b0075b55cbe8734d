"""Confirming an address where several sign-ups wait for it: what it costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import UUID

import pytest

from regsvc.accounts.registrations.confirmation import CANDIDATES, PasswordNeededError
from regsvc.config import loading
from regsvc.flows.caller import Caller
from regsvc.flows.service import Service
from regsvc.flows.signup.confirmation import ConfirmBody, confirm_by_link
from regsvc.flows.signup.signup import RegisterBody, sign_up
from regsvc.postgres.pool import Pool
from regsvc.security.passwords import HashingLane
from regsvc.security.tokens import mint_link_token
from tests.accounts.attempts import SECRETS
from tests.accounts.mails import execute
from tests.services import SECRET

EMAIL = "ann@example.com"


@pytest.fixture
async def service(pool: Pool) -> AsyncIterator[Service]:
    settings = loading.load({"REGSVC_SECRET_KEY": SECRET, "REGSVC_SMTP_URL": "maildir:mail"}, mode="dev")
    pepper, peppers = SECRETS.peppers()
    async with HashingLane(cost=10, pepper=pepper, peppers=peppers, threads=1) as lane:
        yield Service(settings, SECRETS, pool, lane)


def call() -> Caller:
    return Caller("192.0.2.1", "", "192.0.2.0/24", "curl", "en", "1", limited=False)


async def make_attempts(service: Service, count: int) -> list[UUID]:
    """Sign one address up so often, each time with a password of its own: `password 0` …."""
    return [
        (await sign_up(service, call(), RegisterBody(email=EMAIL, password=f"password {n}", name="Ann"))).id
        for n in range(count)
    ]


async def press(service: Service, attempt: UUID, password: str) -> int:
    """Press an attempt's link with a password and return how many hashes that took."""
    before = service.lane.statistics().done
    body = ConfirmBody(token=mint_link_token(SECRETS, attempt, EMAIL), password=password)
    try:
        await confirm_by_link(service, call(), body, handle="")
    finally:
        used = service.lane.statistics().done - before
    return used


async def test_the_password_of_one_of_many_attempts_costs_one_hash(service: Service) -> None:
    """A client that signs up often must not make one press as dear as sixteen log-ins."""
    attempts = await make_attempts(service, CANDIDATES)
    assert await press(service, attempts[0], "password 7") == 1


async def test_a_wrong_password_costs_one_hash_like_a_right_one(service: Service) -> None:
    attempts = await make_attempts(service, CANDIDATES)
    before = service.lane.statistics().done
    with pytest.raises(PasswordNeededError):
        await press(service, attempts[0], "none of them")
    assert service.lane.statistics().done - before == 1


async def test_attempts_from_before_there_were_tags_are_compared_all(service: Service, pool: Pool) -> None:
    attempts = await make_attempts(service, 3)
    await execute(pool, "UPDATE registrations SET password_tag = NULL")
    assert 1 <= await press(service, attempts[0], "password 2") <= 3
