"""Choosing a new password after one forgot the old one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.postgres.pool import Pool
from tests.services import PASSWORD, Mail, Service, run_test_service

NEW = "a wholly new password"
ANN = "ann@example.com"


@pytest.fixture
async def limited(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that keeps its limits, behind a proxy."""
    environ = {"REGSVC_RATE_LIMITS": "on", "REGSVC_TRUSTED_PROXIES": "127.0.0.1/32"}
    async with run_test_service(database, tmp_path, environ) as service:
        yield service


async def execute(pool: Pool, statement: str) -> list[tuple[object, ...]]:
    async with pool.connection() as conn:
        cursor = await conn.execute(statement.encode())
        return await cursor.fetchall() if cursor.description else []


async def forget(service: Service, address: str = ANN, client: str = "192.0.2.1") -> httpx.Response:
    return await service.post("/password/forgot", {"email": address}, {"X-Forwarded-For": client})


async def get_link(service: Service, *, number: int = 2) -> Mail:
    """Ask for a link and wait for its mail."""
    answer = await forget(service)
    assert answer.status_code == 202, answer.text
    return await service.wait_mail(number=number)


async def reset(service: Service, mail: Mail, password: str = NEW) -> tuple[int, str | None]:
    """Use the link of a mail and return status and code of the answer."""
    answer = await service.post("/password/reset", {"token": mail.token_for("reset"), "password": password})
    return answer.status_code, answer.json()["code"] if answer.content else None


async def logs_in(service: Service, password: str) -> bool:
    answer = await service.post("/login", {"email": ANN, "password": password})
    return answer.status_code == 200


async def wait_state(pool: Pool, kind: str, state: str, *, count: int = 1) -> None:
    """Wait until so many mails of a kind are in a state."""
    with trio.fail_after(20):
        while await execute(  # noqa: ASYNC110 - a row has no event
            pool, f"SELECT count(*) FROM mails WHERE kind = '{kind}' AND state = '{state}'"
        ) != [(count,)]:
            await trio.sleep(0.02)


async def test_the_link_of_the_mail_sets_a_new_password_and_ends_every_session(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    bearer = await service.log_in()
    await execute(pool, "UPDATE users SET email_confirmed_at = '2020-01-01'")
    mail = await get_link(service)
    assert mail.message["Subject"] == "Choose a new password for regsvc"
    assert "30 minutes" in mail.text
    assert await reset(service, mail) == (204, None)
    assert (await service.client.get("/api/v1/me", headers=bearer)).status_code == 401
    assert not await logs_in(service, PASSWORD)
    assert await logs_in(service, NEW)
    assert await execute(pool, "SELECT email_confirmed_at > '2026-01-01' FROM users") == [(True,)]
    told = await service.wait_mail(number=3)
    assert told.message["Subject"] == "Your password for regsvc was reset"
    events = "SELECT event, actor, user_id IS NOT NULL FROM audit_events WHERE event LIKE 'password%'"
    assert await execute(pool, f"{events} ORDER BY id") == [
        ("password_reset_asked", "anonymous", True),
        ("password_reset", "anonymous", True),
    ]


async def test_a_link_is_good_once(service: Service) -> None:
    await service.confirm()
    mail = await get_link(service)
    assert await reset(service, mail) == (204, None)
    assert await reset(service, mail, "yet another password") == (410, "token_expired")
    assert await logs_in(service, NEW)


async def test_of_parallel_uses_of_a_link_one_sets_the_password(service: Service) -> None:
    await service.confirm()
    mail = await get_link(service)
    answers: dict[str, int] = {}

    async def use(password: str) -> None:
        answers[password], _ = await reset(service, mail, password)

    async with trio.open_nursery() as nursery:
        for n in range(8):
            nursery.start_soon(use, f"the password number {n}")
    assert sorted(answers.values()) == [204] + [410] * 7
    (winner,) = (password for password, status in answers.items() if status == 204)
    assert await logs_in(service, winner)


async def test_a_weak_password_is_refused_and_the_link_stays_good(service: Service) -> None:
    await service.confirm()
    mail = await get_link(service)
    assert await reset(service, mail, "short") == (422, "weak_password")
    assert await reset(service, mail, ANN) == (422, "weak_password")
    assert await reset(service, mail) == (204, None)


async def test_a_link_lives_30_minutes_from_the_acceptance_of_its_mail(service: Service, pool: Pool) -> None:
    await service.confirm()
    mail = await get_link(service)
    await wait_state(pool, "forgot", "sent")
    await execute(pool, "UPDATE mails SET sent_at = now() - interval '30 minutes' WHERE kind = 'forgot'")
    assert await reset(service, mail) == (410, "token_expired")
    await execute(pool, "UPDATE mails SET sent_at = now() - interval '29 minutes' WHERE kind = 'forgot'")
    assert await reset(service, mail) == (204, None)


async def test_a_link_works_while_its_mail_is_not_booked_as_sent(service: Service, pool: Pool) -> None:
    await service.confirm()
    mail = await get_link(service)
    await wait_state(pool, "forgot", "sent")
    await execute(
        pool,
        "UPDATE mails SET state = 'delayed', sent_at = NULL, reason = 'timeout', "
        "due_at = now() + interval '1 hour', created_at = now() - interval '1 day' WHERE kind = 'forgot'",
    )
    assert await reset(service, mail) == (204, None)
    assert await execute(pool, "SELECT state, reason FROM mails WHERE kind = 'forgot'") == [
        ("cancelled", "password_reset")
    ]


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE users SET disabled_at = now()",
        "UPDATE users SET email = 'x@example.com', email_key = 'x@example.com'",
        "UPDATE users SET password_hash = 'another'",
    ],
)
async def test_a_link_is_dead_once_the_account_is_another(service: Service, pool: Pool, change: str) -> None:
    await service.confirm()
    mail = await get_link(service)
    await execute(pool, change)
    assert await reset(service, mail) == (410, "token_expired")


async def test_what_is_no_link_of_ours_is_said_to_be_none(service: Service) -> None:
    await service.confirm()
    confirmation = await service.wait_mail()
    for token in ("", "no", "A" * 64, "a" * 63, confirmation.token):
        answer = await service.post("/password/reset", {"token": token, "password": NEW})
        assert (answer.status_code, answer.json()["code"]) == (400, "token_invalid")
    assert await logs_in(service, PASSWORD)


async def test_the_answer_is_the_same_for_everybody_and_the_owner_alone_gets_a_mail(
    service: Service, pool: Pool
) -> None:
    """Known, waiting for confirmation, and never heard of: status, headers and body are alike."""
    await service.confirm()
    await service.sign_up("bob@example.com")
    await service.wait_mail("bob@example.com")
    answers = [await forget(service, address) for address in (ANN, "bob@example.com", "nobody@example.com")]
    varying = {"date", "x-request-id"}
    seen = {
        (a.status_code, a.text, str({k: v for k, v in a.headers.items() if k not in varying}))
        for a in answers
    }
    assert len(seen) == 1
    assert (await service.wait_mail(number=2)).token_for("reset")
    await wait_state(pool, "forgot", "cancelled", count=2)
    assert len(service.mails("bob@example.com")) == 1
    assert service.mails("nobody@example.com") == []


async def test_a_sign_up_that_waits_for_the_same_address_is_not_touched(service: Service, pool: Pool) -> None:
    """Neither sets the password of the other: a stranger's sign-up stays what it was, and becomes nobody."""
    await service.confirm()
    await service.sign_up(password="a stranger's password")
    await service.wait_mail(number=2)
    rows = "SELECT id, state, seq, password_hash FROM registrations ORDER BY id"
    await wait_state(pool, "signup", "sent", count=2)
    before = await execute(pool, rows)
    assert await reset(service, await get_link(service, number=3)) == (204, None)
    await service.wait_mail(number=4)
    assert await execute(pool, rows) == before
    assert await logs_in(service, NEW)
    assert not await logs_in(service, "a stranger's password")


async def test_a_client_may_ask_anew_after_a_minute_whoever_it_asks_for(limited: Service, pool: Pool) -> None:
    await limited.confirm()
    for address in (ANN, "nobody@example.com"):
        assert (await forget(limited, address)).status_code == 202
        early = await forget(limited, address)
        assert (early.status_code, early.json()["code"]) == (429, "too_soon")
        assert 55 <= int(early.headers["Retry-After"]) <= 60
        assert (await forget(limited, address, client="198.51.100.1")).status_code == 202
    await execute(pool, "UPDATE mail_schedules SET last_at = last_at - interval '1 minute'")
    assert (await forget(limited)).status_code == 202


async def test_many_clients_together_cannot_flood_an_owner(limited: Service, pool: Pool) -> None:
    """What comes too soon for the address waits for its turn, the newest alone; sign-up mails take no turn of it."""
    await limited.confirm()
    for n in range(5):
        assert (await forget(limited, client=f"198.51.{n}.1")).status_code == 202
        await wait_state(pool, "forgot", "queued", count=0)
    await wait_state(pool, "forgot", "sent")
    await wait_state(pool, "forgot", "cancelled", count=3)
    await wait_state(pool, "forgot", "delayed")
    assert len(limited.mails(ANN)) == 2
    assert await reset(limited, limited.mails(ANN)[1]) == (204, None)


async def test_a_flood_of_strangers_wishes_does_not_keep_the_owner_waiting(
    limited: Service, pool: Pool
) -> None:
    """Where they logged in before, the link comes at once, whatever the address's schedule says."""
    await limited.confirm()
    home = {"X-Forwarded-For": "203.0.113.9"}
    assert (await limited.post("/login", {"email": ANN, "password": PASSWORD}, home)).status_code == 200
    for n in range(2):
        await forget(limited, client=f"198.51.{n}.1")
    await wait_state(pool, "forgot", "delayed")
    assert (await forget(limited, client="203.0.113.10")).status_code == 202
    assert (await limited.wait_mail(number=3)).token_for("reset")


async def test_whoever_reset_the_password_logs_in_whatever_strangers_guess(limited: Service) -> None:
    await limited.confirm()
    here, wrong = {"X-Forwarded-For": "203.0.113.9"}, {"email": ANN, "password": "not this one"}
    for n in range(10):
        assert (await limited.post("/login", wrong, {"X-Forwarded-For": f"198.51.{n}.1"})).status_code == 401
    right = {"email": ANN, "password": NEW}
    assert (await limited.post("/login", right, here)).status_code == 429
    mail = await get_link(limited)
    body = {"token": mail.token_for("reset"), "password": NEW}
    assert (await limited.post("/password/reset", body, here)).status_code == 204
    assert (await limited.post("/login", right, here)).status_code == 200
