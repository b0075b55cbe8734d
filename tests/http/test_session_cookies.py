"""The cookie of a browser's session: renewed daily, ended by a copy, by another log-in, and by another password."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from datetime import timedelta
from http import HTTPStatus
from uuid import UUID

import httpx
import pytest

from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets
from tests.services import PASSWORD, SECRET, Service

OWN = {"Sec-Fetch-Site": "same-origin"}
NAME = "regsvc-session"
NEW = "another good password"
DAY = timedelta(hours=24)


async def post(service: Service, path: str, form: Mapping[str, str], cookie: str = "") -> httpx.Response:
    service.client.cookies.clear()
    headers = OWN | ({"Cookie": f"{NAME}={cookie}"} if cookie else {})
    return await service.client.post(path, data=form, headers=headers)


async def log_in(service: Service, cookie: str = "", password: str = PASSWORD) -> str:
    """Log in with the form and return the cookie."""
    answer = await post(service, "/login", {"email": "ann@example.com", "password": password}, cookie)
    assert answer.status_code == HTTPStatus.SEE_OTHER, answer.text
    return str(answer.cookies[NAME])


async def visit(service: Service, cookie: str) -> tuple[bool, str]:
    """Open the account; return whether the browser is logged in, and the cookie that the answer brings."""
    service.client.cookies.clear()
    answer = await service.client.get("/account", headers={"Cookie": f"{NAME}={cookie}"})
    assert answer.status_code in {HTTPStatus.OK, HTTPStatus.SEE_OTHER}
    return answer.status_code == HTTPStatus.OK, answer.cookies.get(NAME) or ""


async def pass_time(pool: Pool, time: timedelta) -> None:
    columns = ("created_at", "last_used_at", "expires_at", "refreshed_at")
    moved = ", ".join(f"{column} = {column} - %(by)s" for column in columns)
    async with pool.connection() as conn:
        await conn.execute(f"UPDATE sessions SET {moved}".encode(), {"by": time})


async def events(pool: Pool) -> list[str]:
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT event FROM audit_events ORDER BY at, id")
        return [row[0] for row in await cursor.fetchall()]


async def test_a_cookie_is_renewed_once_a_day_and_not_more_often(service: Service, pool: Pool) -> None:
    await service.confirm()
    first = await log_in(service)
    await pass_time(pool, DAY - timedelta(minutes=1))
    assert await visit(service, first) == (True, "")
    await pass_time(pool, timedelta(minutes=1))
    inside, second = await visit(service, first)
    assert inside
    assert second not in {"", first}
    assert await visit(service, second) == (True, "")
    await pass_time(pool, DAY)
    inside, third = await visit(service, second)
    assert inside
    assert third not in {"", first, second}


async def test_an_old_copy_of_a_cookie_ends_the_session_and_the_owner_is_told(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    copied = await log_in(service)
    await pass_time(pool, DAY)
    _, renewed = await visit(service, copied)
    assert (await visit(service, renewed))[0]
    await pass_time(pool, timedelta(minutes=1))
    assert not (await visit(service, copied))[0]
    assert not (await visit(service, renewed))[0]
    assert (await events(pool)).count("session_cookie_reused") == 1
    mail = await service.wait_mail(number=2)
    assert "ended one of your sessions" in str(mail.message["Subject"])


async def test_the_owner_who_comes_after_a_thief_ends_the_thiefs_session(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    owners = await log_in(service)
    thiefs = owners
    for _ in range(3):
        await pass_time(pool, DAY)
        inside, renewed = await visit(service, thiefs)
        assert inside
        thiefs = renewed
    assert not (await visit(service, owners))[0]
    assert not (await visit(service, thiefs))[0]


async def test_a_renewed_cookie_whose_answer_was_lost_is_brought_again(service: Service, pool: Pool) -> None:
    await service.confirm()
    first = await log_in(service)
    await pass_time(pool, DAY)
    _, lost = await visit(service, first)
    await pass_time(pool, timedelta(hours=5))
    inside, again = await visit(service, first)
    assert inside
    assert again == lost
    assert (await visit(service, again))[0]


async def test_requests_that_overlap_with_the_renewal_are_answered(service: Service, pool: Pool) -> None:
    await service.confirm()
    first = await log_in(service)
    await pass_time(pool, DAY)
    _, second = await visit(service, first)
    assert (await visit(service, second))[0]
    assert await visit(service, first) == (True, second)


async def test_a_cookie_from_before_they_were_numbered_goes_on_and_is_renewed(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    numbered = await log_in(service)
    session = await only_session(pool)
    plain = old_cookie(session)
    assert plain != numbered
    assert await visit(service, plain) == (True, "")
    await pass_time(pool, DAY)
    inside, renewed = await visit(service, plain)
    assert inside
    assert len(renewed) == len(numbered)


async def test_a_log_in_ends_the_session_that_the_browser_was_in(service: Service, pool: Pool) -> None:
    await service.confirm()
    before = await log_in(service)
    elsewhere = await log_in(service)
    after = await log_in(service, before)
    assert not (await visit(service, before))[0]
    assert (await visit(service, after))[0]
    assert (await visit(service, elsewhere))[0], "another browser's goes on"
    assert "logged_out" in await events(pool)


async def test_a_log_in_that_fails_ends_nothing(service: Service) -> None:
    await service.confirm()
    before = await log_in(service)
    answer = await post(service, "/login", {"email": "ann@example.com", "password": "wrong"}, before)
    assert answer.status_code == HTTPStatus.UNAUTHORIZED
    assert (await visit(service, before))[0]


async def test_another_password_ends_every_session_and_starts_one_for_the_page_that_set_it(
    service: Service,
) -> None:
    await service.confirm()
    bearer = await service.log_in()
    copied = await log_in(service)
    form = {"current_password": PASSWORD, "new_password": NEW}
    answer = await post(service, "/account/password", form, copied)
    assert answer.status_code == HTTPStatus.SEE_OTHER, answer.text
    fresh = answer.cookies[NAME]
    assert (await visit(service, fresh))[0]
    assert not (await visit(service, copied))[0]
    assert (await service.client.get("/api/v1/me", headers=bearer)).status_code == HTTPStatus.UNAUTHORIZED
    await log_in(service, password=NEW)


@pytest.mark.parametrize("form", [{"current_password": "wrong", "new_password": NEW}])
async def test_a_password_that_is_not_changed_ends_nothing(service: Service, form: dict[str, str]) -> None:
    await service.confirm()
    cookie = await log_in(service)
    answer = await post(service, "/account/password", form, cookie)
    assert answer.status_code == HTTPStatus.FORBIDDEN
    assert NAME not in answer.cookies
    assert (await visit(service, cookie))[0]


async def only_session(pool: Pool) -> UUID:
    async with pool.connection() as conn:
        [(session,)] = await (await conn.execute("SELECT id FROM sessions")).fetchall()
    assert isinstance(session, UUID)
    return session


def old_cookie(session: UUID) -> str:
    """Return a cookie as it was made until it was numbered: the session, and a MAC over it with its length."""
    key = Secrets(SECRET.encode()).key("browser-session")
    mac = hmac.digest(key, (16).to_bytes(4, "big") + session.bytes, "sha256")
    return base64.urlsafe_b64encode(session.bytes + mac).decode().rstrip("=")
