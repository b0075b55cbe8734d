"""A login from a new place is mailed to the account's owner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regsvc.accounts.sessions.login_places import NOTICES, name_places
from regsvc.postgres.pool import Pool
from tests.http.test_email_change import execute
from tests.services import PASSWORD, Service, run_test_service

ANN = "ann@example.com"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
SAFARI = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/17.5 Mobile/15E148 Safari/604.1"
)


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service behind a proxy, which says where clients are."""
    async with run_test_service(database, tmp_path, {"REGSVC_TRUSTED_PROXIES": "127.0.0.1/32"}) as service:
        yield service


async def log_in(service: Service, address: str, agent: str = FIREFOX) -> None:
    headers = {"X-Forwarded-For": address, "User-Agent": agent}
    answer = await service.post("/login", {"email": ANN, "password": PASSWORD}, headers)
    assert answer.status_code == 200, answer.text


async def count_notices(pool: Pool) -> int:
    ((count,),) = await execute(pool, "SELECT count(*) FROM mails WHERE about = 'new_login'")
    assert isinstance(count, int)
    return count


async def test_the_first_login_is_no_news_and_one_from_elsewhere_is(service: Service, pool: Pool) -> None:
    await service.confirm()
    await log_in(service, "203.0.113.7")
    assert await count_notices(pool) == 0
    await log_in(service, "198.51.100.9", SAFARI)
    mail = await service.wait_mail(number=2)
    assert mail.message["Subject"] == "New login to your regsvc account"
    assert "Network: 198.51.100.0/24" in mail.text
    answer = await service.post("/me/panic", {"token": mail.token_for("panic")})
    assert answer.status_code == 200
    assert await execute(pool, "SELECT count(*) FROM sessions WHERE ended_at IS NULL") == [(0,)]


@pytest.mark.parametrize(
    ("address", "agent", "known"),
    [
        ("203.0.113.200", SAFARI, True),  # the same network
        ("203.0.7.1", FIREFOX, True),  # a phone in the network of its carrier
        ("203.0.7.1", SAFARI, False),
        ("203.1.113.7", FIREFOX, False),
        ("2001:db8:1::1", FIREFOX, False),
    ],
)
async def test_a_place_is_a_network_or_software_in_the_network_around(
    service: Service, pool: Pool, address: str, agent: str, *, known: bool
) -> None:
    await service.confirm()
    await log_in(service, "203.0.113.7")
    for _ in range(2):  # the second time it is known
        await log_in(service, address, agent)
    assert await count_notices(pool) == (0 if known else 1)


async def test_a_place_of_three_months_ago_is_new(service: Service, pool: Pool) -> None:
    await service.confirm()
    await log_in(service, "203.0.113.7")
    await execute(pool, "UPDATE login_places SET last_at = last_at - interval '90 days'")
    await log_in(service, "203.0.113.7")
    assert await count_notices(pool) == 1


async def test_a_wrong_password_tells_nobody_and_is_no_place(service: Service, pool: Pool) -> None:
    await service.confirm()
    await log_in(service, "203.0.113.7")
    headers = {"X-Forwarded-For": "198.51.100.9"}
    answer = await service.post("/login", {"email": ANN, "password": "another password"}, headers)
    assert answer.status_code == 401
    assert await count_notices(pool) == 0
    assert await execute(pool, "SELECT count(*) FROM login_places") == [(2,)]


async def test_many_places_in_a_day_are_not_as_many_mails(service: Service, pool: Pool) -> None:
    await service.confirm()
    for number in range(NOTICES + 5):
        await log_in(service, f"203.{number}.113.7")
    assert await count_notices(pool) == NOTICES - 1


def test_what_is_no_network_is_a_place_of_its_own() -> None:
    assert name_places("unknown", "curl") == ["unknown", "curl in unknown"]
    assert name_places("2001:db8:1::/48", "curl") == ["2001:db8:1::/48", "curl in 2001:db8::/32"]
    assert name_places("10.0.0.0/8", "curl") == ["10.0.0.0/8", "curl in 10.0.0.0/8"]
