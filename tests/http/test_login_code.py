"""Logging in with a code that is mailed."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest
import trio

from regsvc.accounts.deliveries.attribution import Senders
from regsvc.accounts.deliveries.reports import apply_report
from regsvc.mail.reports.report import Clues, Report
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets
from tests.http.test_email_change import execute
from tests.http.test_resending import wait_state
from tests.services import PASSWORD, SECRET, Mail, Service, run_test_service

ANN, NOBODY = "ann@example.com", "nobody@example.com"
ROUNDS = int(os.environ.get("REGSVC_TEST_ROUNDS", "5"))
SECRETS = Secrets(SECRET.encode())
NO_ACCOUNT = "No account with regsvc at this address"


@pytest.fixture
async def limited(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that keeps its limits, behind a proxy."""
    environ = {"REGSVC_RATE_LIMITS": "on", "REGSVC_TRUSTED_PROXIES": "127.0.0.1/32"}
    async with run_test_service(database, tmp_path, environ) as service:
        yield service


def from_network(number: int) -> dict[str, str]:
    return {"X-Forwarded-For": f"198.51.{number}.1"}


async def ask(service: Service, email: str = ANN, network: int = 0, **more: object) -> httpx.Response:
    """Ask for a code."""
    headers = from_network(network) if network else {}
    answer = await service.post("/login/code", {"email": email, **more}, headers)
    assert answer.status_code == 202, answer.text
    return answer


async def verify(service: Service, asked: httpx.Response, code: str, network: int = 0) -> httpx.Response:
    """Give a code with the handle of the client that asked for it."""
    headers = {"Regsvc-Handle": asked.headers["Regsvc-Handle"], **(from_network(network) if network else {})}
    return await service.post("/login/code/verify", {"login": asked.json()["login"], "code": code}, headers)


async def problem(service: Service, asked: httpx.Response, code: str, network: int = 0) -> tuple[int, str]:
    answer = await verify(service, asked, code, network)
    return answer.status_code, answer.json().get("code", "")


async def code_mail(service: Service, number: int = 1, email: str = ANN) -> Mail:
    """Wait for so many mails with a code to log in with, and return the last."""
    with trio.fail_after(20):
        while True:
            found = [
                m for m in service.mails(email) if m.message["Subject"] == "Your code to log in to regsvc"
            ]
            if len(found) >= number:
                return found[-1]
            await trio.sleep(0.02)


def wrong(mail: Mail) -> str:
    return f"{(int(mail.code) + 1) % 1_000_000:06}"


async def test_a_code_logs_in_once(service: Service, pool: Pool) -> None:
    await service.confirm()
    asked = await ask(service)
    await wait_state(service, asked, "sent")
    mail = await code_mail(service)
    assert "10 minutes" in mail.text
    assert "#t=" not in mail.text
    answer = await verify(service, asked, mail.code)
    assert answer.status_code == 200, answer.text
    bearer = {"Authorization": f"Bearer {answer.json()['access_token']}"}
    assert (await service.client.get("/api/v1/me", headers=bearer)).json()["email"] == ANN
    assert await execute(pool, "SELECT amr FROM sessions") == [(["otp"],)]
    assert (await show(service, asked))["state"] == "confirmed"
    assert await problem(service, asked, mail.code) == (410, "token_expired")


async def show(service: Service, asked: httpx.Response) -> dict[str, Any]:
    answer = await service.client.get(
        asked.headers["Location"], headers={"Regsvc-Handle": asked.headers["Regsvc-Handle"]}
    )
    assert answer.status_code == 200
    shown: dict[str, Any] = answer.json()
    return shown


async def test_an_address_without_an_account_is_answered_alike_and_its_reader_told(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    shown = []
    for email in (ANN, NOBODY):
        asked = await ask(service, email)
        await wait_state(service, asked, "sent")
        shown.append((await show(service, asked)).keys())
        state = await show(service, asked)
        assert (state["attempts"], state["seq"], state["reason"]) == (1, 3, None)
    assert shown[0] == shown[1]
    mail = await service.wait_mail(NOBODY)
    assert mail.message["Subject"] == NO_ACCOUNT
    assert "/signup\n" in mail.text
    assert await problem(service, asked, "123456") == (400, "code_invalid")
    events = await execute(
        pool, "SELECT user_id IS NULL, details FROM audit_events WHERE event = 'login_failed'"
    )
    assert events == [(True, {"code": True})]


async def test_the_code_works_where_it_was_asked_for_alone(service: Service) -> None:
    await service.confirm()
    asked, other = await ask(service), await ask(service)
    mail = (await code_mail(service, 2), await code_mail(service, 1))[0]
    codes = {m.code for m in service.mails(ANN) if m.message["Subject"] == mail.message["Subject"]}
    assert len(codes) == 2
    body = {"login": asked.json()["login"], "code": mail.code}
    for handle in ({}, {"Regsvc-Handle": other.headers["Regsvc-Handle"]}):
        answer = await service.post("/login/code/verify", body, handle)
        assert (answer.status_code, answer.json()["code"]) == (404, "registration_not_found")
    # Each attempt takes the code of its own mail, and not the other's.
    answers = [await verify(service, each, code) for each in (asked, other) for code in sorted(codes)]
    assert sorted(answer.status_code for answer in answers)[:2] == [200, 200]


@pytest.mark.parametrize("form", ["{0}-{1}", " {0} {1} ", "arabic"])
async def test_digits_of_any_script_and_what_stands_between_them_count(service: Service, form: str) -> None:
    await service.confirm()
    asked = await ask(service)
    code = (await code_mail(service)).code
    typed = form.format(code[:3], code[3:])
    if form == "arabic":
        typed = "".join(chr(0x660 + int(digit)) for digit in code)
    assert await problem(service, asked, "12345") == (400, "code_invalid")  # spends no try
    assert (await verify(service, asked, typed)).status_code == 200


async def test_five_wrong_codes_end_a_code_and_another_one_may_be_asked_for(service: Service) -> None:
    await service.confirm()
    asked = await ask(service)
    mail = await code_mail(service)
    found = [await problem(service, asked, wrong(mail)) for _ in range(6)]
    assert found == [(400, "code_invalid")] * 5 + [(429, "code_tries_exhausted")]
    assert await problem(service, asked, mail.code) == (429, "code_tries_exhausted")
    handle = {"Regsvc-Handle": asked.headers["Regsvc-Handle"]}
    again = await service.post("/login/code", {"email": ANN, "login": asked.json()["login"]}, handle)
    assert again.status_code == 202
    assert again.json()["login"] == asked.json()["login"]
    assert (await verify(service, asked, (await code_mail(service, 2)).code)).status_code == 200


async def test_the_ten_minutes_run_from_the_acceptance(service: Service, pool: Pool) -> None:
    """A mail that was held up for half an hour brings a code that works; ten minutes later none does."""
    await service.confirm()
    asked = await ask(service)
    mail = await code_mail(service)
    await wait_state(service, asked, "sent")
    assert await minutes_left(pool) == [(10,)]
    half_an_hour_ago = "UPDATE {} SET created_at = created_at - interval '30 minutes' WHERE {}"
    await execute(pool, half_an_hour_ago.format("registrations", "login_key IS NOT NULL"))
    await execute(pool, half_an_hour_ago.format("mails", "kind = 'login'"))
    assert await problem(service, asked, wrong(mail)) == (400, "code_invalid")
    await execute(pool, "UPDATE mails SET sent_at = sent_at - interval '10 minutes' WHERE kind = 'login'")
    assert await problem(service, asked, mail.code) == (400, "code_invalid")
    await execute(
        pool, "UPDATE mails SET sent_at = now() - interval '9 minutes 50 seconds' WHERE kind = 'login'"
    )
    assert (await verify(service, asked, mail.code)).status_code == 200


async def minutes_left(pool: Pool) -> list[tuple[object, ...]]:
    return await execute(
        pool,
        """
        SELECT ceil(extract(epoch FROM expires_at - now()) / 60)::integer
          FROM registrations WHERE login_key IS NOT NULL
        """,
    )


async def test_of_many_requests_with_one_code_one_logs_in(service: Service, pool: Pool) -> None:
    """REGSVC_TEST_ROUNDS=1000 makes it 20 rounds of 100 requests."""
    await service.confirm()
    rounds, requests = (20, 100) if ROUNDS >= 1000 else (2, 20)
    for number in range(1, rounds + 1):
        asked = await ask(service)
        code = (await code_mail(service, number)).code
        statuses: Counter[int] = Counter()

        async def give() -> None:
            statuses[(await verify(service, asked, code)).status_code] += 1  # noqa: B023 - awaited below

        async with trio.open_nursery() as nursery:
            for _ in range(requests):
                nursery.start_soon(give)
        assert statuses[200] == 1, statuses
        assert set(statuses) <= {200, 410, 503}, statuses  # 503 where the machine is too busy
        assert await execute(pool, "SELECT count(*) FROM sessions") == [(number,)]


async def test_a_second_factor_is_asked_for_after_a_code(service: Service, pool: Pool) -> None:
    await service.confirm()
    bearer = await service.log_in()
    await service.prove(bearer)
    secret = (await service.post("/me/totp", {}, bearer)).json()["secret"]
    app = pyotp.TOTP(secret)
    assert (await service.post("/me/totp/confirm", {"code": app.now()}, bearer)).status_code == 200
    before = await execute(pool, "SELECT count(*) FROM sessions")
    asked = await ask(service)
    code = (await code_mail(service)).code
    answer = await verify(service, asked, code)
    assert (answer.status_code, answer.json()["code"]) == (401, "second_factor_required")
    assert await execute(pool, "SELECT count(*) FROM sessions") == before
    assert await problem(service, asked, code) == (410, "token_expired")
    second = {
        "mfa_token": answer.json()["mfa_token"],
        "code": app.generate_otp(app.timecode(datetime.now(UTC)) + 1),
    }
    assert (await service.post("/login/second-factor", second)).status_code == 200


async def test_an_attempt_to_log_in_is_no_sign_up(service: Service, pool: Pool) -> None:
    """Its handle confirms and moves nothing, and it makes no other sign-up of the address ask for a password."""
    asked = await ask(service)
    await wait_state(service, asked, "sent")
    handle = {"Regsvc-Handle": asked.headers["Regsvc-Handle"]}
    code = {"registration": asked.json()["login"], "code": "123456"}
    assert (await service.post("/confirm-email/code", code, handle)).status_code == 410
    answer = await service.client.patch(
        asked.headers["Location"], json={"email": "eve@example.com"}, headers=handle
    )
    assert answer.status_code == 409
    await service.sign_up()
    token = await service.wait_link("confirm")
    assert (await service.post("/confirm-email", {"token": token})).status_code == 200
    await execute(pool, "UPDATE users SET role = 'admin'")
    bearer = await service.log_in()
    listed = await service.client.get("/api/v1/admin/registrations", headers=bearer)
    assert [each["state"] for each in listed.json()["registrations"]] == ["confirmed"]
    path = f"/api/v1/admin/registrations/{asked.json()['login']}"
    assert (await service.client.get(path, headers=bearer)).status_code == 404
    assert (await service.client.post(f"{path}/confirm", headers=bearer)).status_code == 404
    # There is an account now, but the mail said that there is none: no code was in it.
    assert await problem(service, asked, "123456") == (400, "code_invalid")


async def test_a_disabled_user_is_told_what_a_stranger_is(service: Service, pool: Pool) -> None:
    await service.confirm()
    await execute(pool, "UPDATE users SET disabled_at = now()")
    await ask(service)
    mail = await service.wait_mail(number=2)
    assert mail.message["Subject"] == NO_ACCOUNT


async def test_strangers_neither_hold_up_the_owner_nor_use_up_their_tries(
    limited: Service, pool: Pool
) -> None:
    headers = from_network(1)
    body = {"email": ANN, "password": PASSWORD, "name": "Ann"}
    await limited.post("/register", body, headers)
    token = await limited.wait_link("confirm")
    assert (await limited.post("/confirm-email", {"token": token}, headers)).status_code == 200
    stranger = await ask(limited, network=2)
    await code_mail(limited, 1)
    held = await ask(limited, network=3)
    await wait_state(limited, held, "sent")  # as if a mail had gone
    owner = await ask(limited, network=1)
    mail = await code_mail(limited, 2)
    again = await limited.post("/login/code", {"email": ANN}, headers)
    assert (again.status_code, again.json()["code"]) == (429, "too_soon")
    assert (await show(limited, owner))["next_resend_at"] == owner.json()["next_resend_at"]
    await execute(pool, "UPDATE code_tries SET tries = 200")
    for asked, network in ((stranger, 2), (held, 3)):
        await problem(limited, asked, "000000", network)
    await execute(
        pool,
        """
        INSERT INTO code_tries (key, tries)
        SELECT key, 200 FROM code_tries ON CONFLICT (key) DO UPDATE SET tries = 200
        """,
    )
    assert (await verify(limited, owner, mail.code, 1)).status_code == 200


async def test_an_attempt_that_is_not_used_expires_with_its_code(service: Service, pool: Pool) -> None:
    await service.confirm()
    asked = await ask(service)
    mail = await code_mail(service)
    await wait_state(service, asked, "sent")
    await execute(pool, "UPDATE registrations SET expires_at = now() WHERE login_key IS NOT NULL")
    assert await problem(service, asked, mail.code) == (410, "token_expired")
    await wait_state(service, asked, "expired")
    handle = {"Regsvc-Handle": asked.headers["Regsvc-Handle"]}
    again = await service.post("/login/code", {"email": ANN, "login": asked.json()["login"]}, handle)
    assert (again.status_code, again.json()["code"]) == (409, "registration_over")


@pytest.mark.parametrize("email", [ANN, NOBODY])
async def test_a_bounce_is_shown_and_stops_codes_but_for_one_a_day(
    service: Service, pool: Pool, email: str
) -> None:
    """Whether the address has an account or not."""
    await service.confirm()
    asked = await ask(service, email)
    await wait_state(service, asked, "sent")
    ((mail_id,),) = await execute(pool, "SELECT id FROM mails WHERE kind = 'login'")
    clues = Clues(mail_ids=(str(mail_id),))
    report = Report("postmark", "1", "bounced", datetime.now(UTC), "hard", "no_such_mailbox", clues)
    async with pool.transaction() as conn:
        assert await apply_report(conn, SECRETS, Senders("example.org"), report) == "applied"
    shown = await wait_state(service, asked, "bounced")
    assert shown["bounce"] == {"kind": "hard", "reason": "no_such_mailbox"}
    passed = await ask(service, email)
    await wait_state(service, passed, "sent")
    stopped = await ask(service, email)
    await wait_state(service, stopped, "bounced")
    assert await execute(pool, "SELECT count(*) FROM mails WHERE kind = 'login' AND sent_at IS NOT NULL") == [
        (2,)
    ]


async def test_a_program_of_before_cancels_the_mail_and_confirms_nothing(
    service: Service, pool: Pool
) -> None:
    """Release 0.2.0 looks for attempts by `registration_id` and by `email_key`: it finds none."""
    asked = await ask(service)
    await wait_state(service, asked, "sent")
    assert await execute(pool, "SELECT registration_id FROM mails") == [(None,)]
    assert await execute(pool, "SELECT email_key FROM registrations") == [("",)]
