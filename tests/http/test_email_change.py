"""Moving an account to another address, and taking that back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.postgres.pool import Pool
from tests.services import PASSWORD, Service, run_test_service

ANN, NEW, BOB = "ann@example.com", "Ann@new.example", "bob@example.com"


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


async def ask(
    service: Service, bearer: dict[str, str], email: str = NEW, password: str = PASSWORD
) -> httpx.Response:
    return await service.post("/me/email", {"email": email, "password": password}, bearer)


async def use(service: Service, deed: str, token: str) -> tuple[int, str]:
    """Use a link, with the password where one is asked for; return status and code, or message, of the answer."""
    proof = {"password": PASSWORD} if deed == "confirm" else {}
    answer = await service.post(f"/me/email/{deed}", {"token": token, **proof})
    body = answer.json()
    return answer.status_code, body.get("code") or body["message"]


async def start(service: Service) -> tuple[dict[str, str], str]:
    """Ask for a move and return a session and the token of the link."""
    await service.confirm()
    bearer = await service.log_in()
    answer = await ask(service, bearer)
    assert answer.status_code == 202, answer.text
    return bearer, (await service.wait_mail(NEW)).token_for("email-change")


async def moved(service: Service) -> tuple[dict[str, str], str]:
    """Move an account and return a session and the token that undoes it."""
    bearer, token = await start(service)
    assert await use(service, "confirm", token) == (200, "email changed")
    return bearer, (await service.wait_mail(number=3)).token_for("email-undo")


async def address_of(service: Service, bearer: dict[str, str]) -> tuple[str, str]:
    """Return the address of the profile and the profile's version."""
    answer = await service.client.get("/api/v1/me", headers=bearer)
    return answer.json()["email"], answer.headers["ETag"]


async def logs_in(service: Service, address: str, password: str = PASSWORD) -> bool:
    answer = await service.post("/login", {"email": address, "password": password})
    return answer.status_code == 200


async def test_the_new_address_confirms_and_then_the_account_has_it(service: Service, pool: Pool) -> None:
    bearer, token = await start(service)
    assert await address_of(service, bearer) == (ANN, '"1"')
    assert await logs_in(service, ANN)
    assert await use(service, "confirm", token) == (200, "email changed")
    assert await address_of(service, bearer) == (NEW, '"2"')
    assert await logs_in(service, NEW)
    assert not await logs_in(service, ANN)
    await service.wait_mail(number=3)
    told = {mail.message["Subject"]: mail.text for mail in service.mails(ANN)}
    assert "7 days" in told["The email address of your regsvc account was changed"]
    events = "SELECT event, actor FROM audit_events WHERE event LIKE 'email%' ORDER BY id"
    assert await execute(pool, events) == [("email_change_asked", "user"), ("email_changed", "anonymous")]


async def test_the_link_again_changes_nothing(service: Service) -> None:
    bearer, token = await start(service)
    for _ in range(2):
        assert await use(service, "confirm", token) == (200, "email changed")
    assert await address_of(service, bearer) == (NEW, '"2"')
    await service.wait_mail(number=3)
    assert len(service.mails(ANN)) == 3


async def test_nothing_is_asked_for_without_the_password(service: Service, pool: Pool) -> None:
    await service.confirm()
    bearer = await service.log_in()
    answer = await ask(service, bearer, password="not this one")
    assert (answer.status_code, answer.json()["code"]) == (403, "wrong_password")
    assert (await ask(service, {})).status_code == 401
    assert await execute(pool, "SELECT count(*) FROM address_moves") == [(0,)]


async def test_the_address_that_one_has_is_refused_and_another_writing_of_it_is_a_move(
    service: Service,
) -> None:
    await service.confirm()
    bearer = await service.log_in()
    answer = await ask(service, bearer, ANN)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (400, "same_address")
    assert (await ask(service, bearer, "ANN@example.com")).status_code == 202
    token = (await service.wait_mail("ANN@example.com")).token_for("email-change")
    assert await use(service, "confirm", token) == (200, "email changed")
    assert (await address_of(service, bearer))[0] == "ANN@example.com"


async def test_an_address_that_has_an_account_is_told_and_nobody_else(service: Service) -> None:
    """Who asks is answered as for any other address."""
    await service.confirm()
    await service.confirm(BOB, "bob's own password")
    bearer = await service.log_in()
    free, taken = await ask(service, bearer), await ask(service, bearer, BOB)
    assert (taken.status_code, taken.text) == (free.status_code, free.text) == (202, free.text)
    assert {*taken.headers} == {*free.headers}
    told = await service.wait_mail(BOB, number=2)
    assert told.message["Subject"] == "This address already has an account with regsvc"
    assert "http" not in told.text


async def test_an_address_that_was_taken_meanwhile_is_not_moved_to(service: Service, pool: Pool) -> None:
    bearer, token = await start(service)
    await service.sign_up(NEW, "the other's password")
    mail = await service.wait_mail(NEW, number=2)
    assert (await service.post("/confirm-email", {"token": mail.token})).status_code == 200
    assert await use(service, "confirm", token) == (410, "token_expired")
    assert await address_of(service, bearer) == (ANN, '"1"')
    assert await execute(pool, "SELECT notice FROM mails WHERE kind = 'notice'") == [("email_moving",)]


async def test_a_sign_up_for_an_address_that_was_moved_to_becomes_nobody(service: Service) -> None:
    _, token = await start(service)
    await service.sign_up(NEW, "a stranger's password")
    mail = await service.wait_mail(NEW, number=2)
    assert await use(service, "confirm", token) == (200, "email changed")
    answer = await service.post("/confirm-email", {"token": mail.token})
    assert (answer.status_code, answer.json()["code"]) == (410, "token_expired")
    assert await logs_in(service, NEW)


async def test_of_two_moves_the_newer_alone_can_be_confirmed(service: Service) -> None:
    bearer, first = await start(service)
    await ask(service, bearer, BOB)
    second = (await service.wait_mail(BOB)).token_for("email-change")
    assert await use(service, "confirm", first) == (410, "token_expired")
    assert await use(service, "confirm", second) == (200, "email changed")


async def test_a_link_lives_a_day_from_the_acceptance_of_its_mail(service: Service, pool: Pool) -> None:
    _, token = await start(service)
    with trio.fail_after(20):
        while not await execute(  # noqa: ASYNC110 - a row has no event
            pool, "SELECT id FROM mails WHERE kind = 'email_change' AND state = 'sent'"
        ):
            await trio.sleep(0.02)
    age = "UPDATE mails SET sent_at = now() - interval '{}' WHERE kind = 'email_change'"
    await execute(pool, age.format("24 hours"))
    assert await use(service, "confirm", token) == (410, "token_expired")
    await execute(pool, age.format("23 hours 59 minutes"))
    assert await use(service, "confirm", token) == (200, "email changed")


@pytest.mark.parametrize("deed", ["confirm", "undo"])
async def test_a_link_does_what_it_is_for_and_nothing_else(service: Service, deed: str) -> None:
    _, token = await start(service)
    other = {"confirm": "undo", "undo": "confirm"}[deed]
    if deed == "undo":
        await use(service, "confirm", token)
        token = (await service.wait_mail(number=2)).token_for("email-undo")
    for wrong in (token, "no", "A" * 64):
        assert await use(service, other, wrong) == (400, "token_invalid")
    answer = await service.post("/password/reset", {"token": token, "password": PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (400, "token_invalid")


async def test_another_password_voids_a_move_that_is_not_confirmed(service: Service) -> None:
    bearer, token = await start(service)
    body = {"current_password": PASSWORD, "new_password": "another horse battery"}
    assert (await service.client.put("/api/v1/me/password", json=body, headers=bearer)).status_code == 204
    assert await use(service, "confirm", token) == (410, "token_expired")


async def test_the_old_address_takes_its_account_back_from_whoever_knew_the_password(
    service: Service, pool: Pool
) -> None:
    """Its owner chooses a new password with the mail that follows; the other has neither password nor session."""
    bearer, undo = await moved(service)
    assert await use(service, "undo", undo) == (200, "email restored")
    assert (await service.client.get("/api/v1/me", headers=bearer)).status_code == 401
    assert not await logs_in(service, ANN)
    assert not await logs_in(service, NEW)
    body = {"token": await service.wait_link("reset"), "password": "only its owner knows"}
    assert (await service.post("/password/reset", body)).status_code == 204
    assert await logs_in(service, ANN, "only its owner knows")
    assert await use(service, "undo", undo) == (200, "email restored")
    assert await logs_in(service, ANN, "only its owner knows")
    events = "SELECT event FROM audit_events WHERE event LIKE 'email%' ORDER BY id DESC LIMIT 1"
    assert await execute(pool, events) == [("email_change_undone",)]


async def test_whoever_moved_it_on_cannot_take_it_back_from_its_owner(service: Service) -> None:
    bearer, undo = await moved(service)
    assert (await ask(service, bearer, BOB)).status_code == 202
    token = (await service.wait_mail(BOB)).token_for("email-change")
    assert await use(service, "confirm", token) == (200, "email changed")
    theirs = (await service.wait_mail(NEW, number=3)).token_for("email-undo")
    assert await use(service, "undo", undo) == (200, "email restored")
    assert await use(service, "undo", theirs) == (410, "token_expired")
    mail = await service.wait_mail(number=4)
    assert mail.token_for("reset")


async def test_the_present_address_is_told_at_once_and_stops_it(service: Service) -> None:
    bearer, token = await start(service)
    notice = await service.wait_mail(number=2)
    undo = notice.token_for("email-undo")
    assert notice.message["Subject"] == "An email change was requested for your regsvc account"
    assert await use(service, "undo", undo) == (200, "email restored")
    assert await use(service, "undo", undo) == (200, "email restored")
    assert await use(service, "confirm", token) == (410, "token_expired")
    # Whoever asked knew the password, and had a session.
    assert (await service.client.get("/api/v1/me", headers=bearer)).status_code == 401
    assert not await logs_in(service, ANN)
    reset = await service.wait_link("reset")
    answer = await service.post("/password/reset", {"token": reset, "password": "quite another one"})
    assert answer.status_code == 204
    assert await logs_in(service, ANN, "quite another one")


async def test_a_wish_can_be_stopped_for_a_week_and_not_once_a_newer_one_was_made(
    service: Service, pool: Pool
) -> None:
    bearer, _ = await start(service)
    undo = (await service.wait_mail(number=2)).token_for("email-undo")
    await execute(pool, "UPDATE address_moves SET asked_at = now() - interval '7 days'")
    assert await use(service, "undo", undo) == (410, "token_expired")
    await execute(pool, "UPDATE address_moves SET asked_at = now()")
    await ask(service, bearer, BOB)
    assert await use(service, "undo", undo) == (410, "token_expired")
    newer = (await service.wait_mail(number=3)).token_for("email-undo")
    assert await use(service, "undo", newer) == (200, "email restored")


async def test_a_move_can_be_undone_for_a_week(service: Service, pool: Pool) -> None:
    _, undo = await moved(service)
    await execute(pool, "UPDATE address_moves SET done_at = now() - interval '7 days'")
    assert await use(service, "undo", undo) == (410, "token_expired")
    await execute(pool, "UPDATE address_moves SET done_at = now() - interval '6 days 23 hours'")
    assert await use(service, "undo", undo) == (200, "email restored")


async def test_an_old_address_that_has_a_new_account_keeps_that(service: Service) -> None:
    bearer, undo = await moved(service)
    await service.sign_up(ANN, "a second account's")
    mail = await service.wait_mail(number=4)
    assert (await service.post("/confirm-email", {"token": mail.token})).status_code == 200
    assert await use(service, "undo", undo) == (410, "token_expired")
    assert (await address_of(service, bearer))[0] == NEW


async def test_of_parallel_presses_one_moves_the_account(service: Service, pool: Pool) -> None:
    _, token = await start(service)
    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(use, service, "confirm", token)
    assert await execute(pool, "SELECT version FROM users") == [(2,)]
    assert await execute(pool, "SELECT count(*) FROM mails WHERE notice = 'email_changed'") == [(1,)]


async def test_whoever_confirmed_an_address_does_not_wait_for_what_strangers_guess_there(
    limited: Service, pool: Pool
) -> None:
    await limited.confirm()
    bearer = await limited.log_in()
    await ask(limited, bearer)
    token = (await limited.wait_mail(NEW)).token_for("email-change")
    await execute(pool, "DELETE FROM login_clients")
    assert (await limited.post("/me/email/confirm", {"token": token}, bearer)).status_code == 200
    assert await execute(pool, "SELECT count(DISTINCT address) FROM login_clients") == [(1,)]
    wrong = {"email": NEW, "password": "not this one"}
    for n in range(10):
        client = {"X-Forwarded-For": f"198.51.{n}.1"}
        assert (await limited.post("/login", wrong, client)).status_code == 401
    stranger = {"X-Forwarded-For": "198.51.100.1"}
    assert (await limited.post("/login", wrong, stranger)).status_code == 429
    assert await logs_in(limited, NEW)


async def test_moves_are_asked_for_on_a_schedule(limited: Service) -> None:
    await limited.confirm()
    bearer = await limited.log_in()
    assert (await ask(limited, bearer)).status_code == 202
    early = await ask(limited, bearer, BOB)
    assert (early.status_code, early.json()["code"]) == (429, "too_soon")


async def press(
    service: Service, token: str, headers: dict[str, str] | None = None, **more: str
) -> tuple[int, str]:
    answer = await service.post("/me/email/confirm", {"token": token, **more}, headers)
    return answer.status_code, answer.json().get("code", "")


async def test_the_link_alone_moves_no_account(service: Service) -> None:
    """Else whoever knows an account's password could have its reader press it into being theirs."""
    bearer, token = await start(service)
    await service.confirm(BOB, "bob's own password")
    bobs = await service.log_in(BOB, "bob's own password")
    assert await press(service, token) == (409, "password_needed")
    assert await press(service, token, bobs) == (409, "password_needed")
    assert await press(service, token, password="not this one") == (403, "wrong_password")
    assert await press(service, token, {"Authorization": "Bearer no"}) == (401, "access_token_invalid")
    assert await address_of(service, bearer) == (ANN, '"1"')
    assert await press(service, token, bearer) == (200, "")
    assert await address_of(service, bearer) == (NEW, '"2"')
    assert await press(service, token) == (200, ""), "again it changes nothing"


async def test_guesses_at_the_password_of_a_move_are_counted(limited: Service, pool: Pool) -> None:
    await limited.confirm()
    await ask(limited, await limited.log_in())
    token = (await limited.wait_mail(NEW)).token_for("email-change")
    outcomes = []
    for n in range(12):
        client = {"X-Forwarded-For": f"198.51.{n}.1"}
        outcomes.append((await press(limited, token, client, password="not this one"))[0])
    assert outcomes == [403] * 10 + [429] * 2


async def test_a_browser_that_is_logged_in_needs_no_password(service: Service) -> None:
    own = {"Sec-Fetch-Site": "same-origin"}
    bearer, token = await start(service)
    path, body = "/email-change", {"token": token}
    answer = await service.client.post(path, json=body, headers=own)
    assert (answer.status_code, answer.json()["code"]) == (409, "password_needed")
    form = {"email": ANN, "password": PASSWORD}
    assert (await service.client.post("/login", data=form, headers=own)).status_code == 303
    refused = await service.client.post(path, json=body, headers={"Sec-Fetch-Site": "cross-site"})
    assert refused.status_code == 403
    assert (await service.client.post(path, json=body, headers=own)).status_code == 200
    assert await address_of(service, bearer) == (NEW, '"2"')


async def test_the_mail_names_the_account_and_lets_its_reader_refuse_it(service: Service, pool: Pool) -> None:
    bearer, token = await start(service)
    mail = await service.wait_mail(NEW)
    [(since,)] = await execute(pool, "SELECT extract(year FROM created_at)::text FROM users")
    assert "a***@e***.com" in mail.text
    assert str(since) in mail.text
    assert ANN not in str(mail.message)
    assert mail.token_for("email-not-me") == token
    for _ in range(2):
        assert await use(service, "repudiate", token) == (200, "email change voided")
    assert await use(service, "confirm", token) == (410, "token_expired")
    assert await address_of(service, bearer) == (ANN, '"1"')
    events = "SELECT count(*) FROM audit_events WHERE event = 'email_change_repudiated'"
    assert await execute(pool, events) == [(1,)]


async def test_after_a_refusal_one_such_mail_a_day_goes_to_the_address(service: Service, pool: Pool) -> None:
    _, token = await start(service)
    assert await use(service, "repudiate", token) == (200, "email change voided")
    quiet = "SELECT count(*) FROM mail_schedules WHERE quiet_until > now() + interval '29 days'"
    assert await execute(pool, quiet) == [(1,)]


async def test_an_account_that_has_moved_cannot_be_refused_any_more(service: Service) -> None:
    _, token = await start(service)
    assert await use(service, "confirm", token) == (200, "email changed")
    assert await use(service, "repudiate", token) == (410, "token_expired")


async def reset_at_new_address(service: Service, password: str) -> None:
    """Choose a password with a mail to the address that the account moved to."""
    known = len(service.mails(NEW))
    assert (await service.post("/password/forgot", {"email": NEW})).status_code == 202
    token = (await service.wait_mail(NEW, number=known + 1)).token_for("reset")
    assert (await service.post("/password/reset", {"token": token, "password": password})).status_code == 204


async def wait_subject(service: Service, address: str, subject: str) -> None:
    """Wait for the mail of a subject, among others that may arrive before or after it."""
    number = 1
    while (await service.wait_mail(address, number=number)).message["Subject"] != subject:
        number += 1


async def test_an_account_whose_new_address_chose_a_password_is_not_taken_back_before_that_is_told(
    service: Service, pool: Pool
) -> None:
    _, undo = await moved(service)
    await reset_at_new_address(service, "the new owner's own")
    answers = [await service.post("/me/email/undo", {"token": undo}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert await logs_in(service, NEW, "the new owner's own")
    await wait_subject(service, NEW, "The email change of your regsvc account will be undone")
    assert await execute(pool, "SELECT count(*) FROM mails WHERE notice = 'email_undoing'") == [(1,)]
    age = "UPDATE address_moves SET undo_asked_at = now() - interval '{}', done_at = now() - interval '{}'"
    await execute(pool, age.format("23 hours 59 minutes", "2 days"))
    assert (await service.post("/me/email/undo", {"token": undo})).status_code == 202
    await execute(pool, age.format("24 hours", "8 days"))
    assert await use(service, "undo", undo) == (200, "email restored")
    assert not await logs_in(service, NEW, "the new owner's own")
    mail = await service.wait_mail(number=4)
    assert mail.token_for("reset")


async def test_an_undo_that_waited_is_not_open_for_ever(service: Service, pool: Pool) -> None:
    _, undo = await moved(service)
    await reset_at_new_address(service, "the new owner's own")
    assert (await service.post("/me/email/undo", {"token": undo})).status_code == 202
    await execute(
        pool,
        "UPDATE address_moves SET undo_asked_at = now() - interval '3 days', done_at = now() - interval '8 days'",
    )
    assert await use(service, "undo", undo) == (410, "token_expired")
