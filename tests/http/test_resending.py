"""Asking for the mail again, mending the address, and what a stranger can do with either: nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.postgres.pool import Pool
from tests.services import PASSWORD, Service, run_test_service


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that keeps its limits."""
    async with run_test_service(database, tmp_path, {"REGSVC_RATE_LIMITS": "on"}) as service:
        yield service


async def pass_time(pool: Pool, **time: float) -> None:
    async with pool.connection() as conn:
        by = {"by": timedelta(**time)}
        await conn.execute("UPDATE mail_schedules SET last_at = last_at - %(by)s", by)
        await conn.execute("UPDATE mails SET due_at = due_at - %(by)s WHERE due_at IS NOT NULL", by)


def handle_of(signed_up: httpx.Response) -> dict[str, str]:
    return {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}


async def show(service: Service, signed_up: httpx.Response) -> dict[str, object]:
    answer = await service.client.get(signed_up.headers["Location"], headers=handle_of(signed_up))
    assert answer.status_code == 200
    body: dict[str, object] = answer.json()
    return body


async def wait_state(service: Service, signed_up: httpx.Response, state: str) -> dict[str, object]:
    shown = await show(service, signed_up)
    with trio.fail_after(20):
        while shown["state"] != state:
            url = f"{signed_up.headers['Location']}?wait=5&seq={shown['seq']}"
            shown = (await service.client.get(url, headers=handle_of(signed_up))).json()
    return shown


async def test_a_mail_can_be_asked_for_again_after_a_minute_and_both_links_are_good(
    service: Service, pool: Pool
) -> None:
    signed_up = await service.sign_up()
    first = await service.wait_mail()
    early = await service.post("/confirm-email/resend", {"email": "ann@example.com"})
    assert (early.status_code, early.json()["code"]) == (429, "too_soon")
    assert 55 <= int(early.headers["Retry-After"]) <= 60
    assert early.json()["next_resend_at"] == (await show(service, signed_up))["next_resend_at"]
    await pass_time(pool, seconds=60)
    again = await service.post("/confirm-email/resend", {"email": "ann@example.com"})
    assert again.status_code == 202
    second = await service.wait_mail(number=2)
    assert second.code != first.code
    assert second.token == first.token
    await wait_state(service, signed_up, "sent")
    body = {"registration": signed_up.headers["Location"].rpartition("/")[2], "code": first.code}
    assert (await service.post("/confirm-email/code", body, handle_of(signed_up))).status_code == 200


async def test_the_answer_does_not_tell_who_waits_who_has_an_account_and_who_is_unknown(
    service: Service, pool: Pool
) -> None:
    await service.confirm("owner@example.com")
    await service.sign_up("waiting@example.com")
    await service.wait_mail("waiting@example.com")
    await pass_time(pool, seconds=60)

    async def ask(address: str) -> tuple[int, object, list[str]]:
        answer = await service.post("/confirm-email/resend", {"email": address})
        body = answer.json()
        moment = datetime.fromisoformat(body.pop("next_resend_at"))
        assert abs(moment.timestamp() - datetime.now().astimezone().timestamp() - 60) < 65
        return answer.status_code, body, sorted(answer.headers)

    owner, waiting, unknown = [await ask(f"{who}@example.com") for who in ("owner", "waiting", "unknown")]
    assert owner == waiting == unknown
    await service.wait_mail("waiting@example.com", number=2)
    assert len(service.mails("owner@example.com")) == 1
    assert service.mails("unknown@example.com") == []


async def test_a_stranger_who_signs_up_again_and_again_neither_floods_nor_stops_the_owner(
    service: Service, pool: Pool
) -> None:
    strangers = [await service.sign_up(password=f"stranger's {n}") for n in range(4)]
    owner = await service.sign_up(password=PASSWORD)
    # Each is shown the same walk, although one mail alone went out.
    walks = [await wait_state(service, signed_up, "sent") for signed_up in (*strangers, owner)]
    assert all(shown["expires_at"] is not None for shown in walks)
    assert len(service.mails("ann@example.com")) == 1
    await pass_time(pool, seconds=60)
    mail = await service.wait_mail(number=2)
    assert len(service.mails("ann@example.com")) == 2
    # Nothing that anybody is shown tells that a mail went out late.
    again = [await show(service, signed_up) for signed_up in (*strangers, owner)]
    assert [shown["expires_at"] for shown in again] == [shown["expires_at"] for shown in walks]
    # The newest that waited was sent: the owner's own code confirms the owner's own password.
    body = {"registration": owner.headers["Location"].rpartition("/")[2], "code": mail.code}
    assert (await service.post("/confirm-email/code", body, handle_of(owner))).status_code == 200
    await service.log_in()


async def test_mending_a_typo_sends_the_mail_to_the_new_address_and_kills_the_old_one(
    service: Service, pool: Pool
) -> None:
    signed_up = await service.sign_up("anm@example.com")
    old = await service.wait_mail("anm@example.com")
    path, handle = signed_up.headers["Location"], handle_of(signed_up)
    answer = await service.client.patch(path, json={"email": "ann@example.com"}, headers=handle)
    assert answer.status_code == 202, answer.text
    new = await service.wait_mail("ann@example.com")
    dead = await service.post("/confirm-email", {"token": old.token})
    assert (dead.status_code, dead.json()["code"]) == (400, "token_invalid")
    body = {"registration": path.rpartition("/")[2], "code": old.code}
    assert (await service.post("/confirm-email/code", body, handle)).status_code == 400
    assert (await service.post("/confirm-email", {"token": new.token})).status_code == 200
    await service.log_in()
    over = await service.client.patch(path, json={"email": "x@example.com"}, headers=handle)
    assert over.status_code in {409, 429}
    await pass_time(pool, hours=5)
    over = await service.client.patch(path, json={"email": "x@example.com"}, headers=handle)
    assert (over.status_code, over.json()["code"]) == (409, "registration_over")


async def test_an_address_is_mended_by_whoever_has_the_handle_alone(service: Service) -> None:
    signed_up = await service.sign_up()
    path = signed_up.headers["Location"]
    for headers in ({}, {"Regsvc-Handle": "A" * 43}):
        answer = await service.client.patch(path, json={"email": "b@example.com"}, headers=headers)
        assert (answer.status_code, answer.json()["code"]) == (404, "registration_not_found")


async def test_an_address_has_ten_wrong_codes_a_month_for_this_network_and_then_right_ones_count_as_wrong(
    service: Service, pool: Pool
) -> None:
    outcomes = []
    for n in range(3):
        signed_up = await service.sign_up(password=f"attempt number {n}")
        body = {"registration": signed_up.headers["Location"].rpartition("/")[2], "code": "000000"}
        answers = [await service.post("/confirm-email/code", body, handle_of(signed_up)) for _ in range(6)]
        outcomes += [answer.status_code for answer in answers]
        assert answers[0].json()["code"] == "code_invalid"
    assert outcomes == ([400] * 5 + [429]) * 3
    await service.wait_mail()
    async with pool.connection() as conn:
        await conn.execute("DELETE FROM registrations")
    await pass_time(pool, hours=24)
    signed_up = await service.sign_up(password="another attempt")
    mail = await service.wait_mail(number=2)
    body = {"registration": signed_up.headers["Location"].rpartition("/")[2], "code": mail.code}
    refused = await service.post("/confirm-email/code", body, handle_of(signed_up))
    assert (refused.status_code, refused.json()["code"]) == (400, "code_invalid")
    assert (await service.post("/confirm-email", {"token": mail.token})).status_code == 200


@pytest.mark.parametrize("typed", ["", "12345", "00000x", "1234567", "000 00O"])
async def test_what_has_not_six_digits_is_a_slip_that_costs_no_attempt(
    service: Service, pool: Pool, typed: str
) -> None:
    signed_up = await service.sign_up()
    mail = await service.wait_mail()
    body = {"registration": signed_up.headers["Location"].rpartition("/")[2], "code": typed}
    for _ in range(6):
        answer = await service.post("/confirm-email/code", body, handle_of(signed_up))
        assert (answer.status_code, answer.json()["code"]) == (400, "code_invalid")
    body["code"] = f"\u200b{mail.code[:3]}-{mail.code[3:]}\r\n"
    assert (await service.post("/confirm-email/code", body, handle_of(signed_up))).status_code == 200


async def test_a_mail_that_comes_again_brings_a_code_with_five_tries_of_its_own(
    service: Service, pool: Pool
) -> None:
    signed_up = await service.sign_up()
    await service.wait_mail()
    body = {"registration": signed_up.headers["Location"].rpartition("/")[2], "code": "000000"}
    for status in [400] * 5 + [429]:
        assert (await service.post("/confirm-email/code", body, handle_of(signed_up))).status_code == status
    await pass_time(pool, seconds=60)
    assert (await service.post("/confirm-email/resend", {"email": "ann@example.com"})).status_code == 202
    mail = await service.wait_mail(number=2)
    body["code"] = mail.code
    assert (await service.post("/confirm-email/code", body, handle_of(signed_up))).status_code == 200
