"""Invitations: one link, in the mail alone, once, for exactly one address; what the inviter sees tells nothing."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from regsvc.accounts.invitations import invitation
from regsvc.postgres.pool import Pool
from tests.http.administrators import get, log_in_admin
from tests.services import PASSWORD, Service, run_test_service

OWN = {"Sec-Fetch-Site": "same-origin"}
BOB = "bob@example.com"
FINAL = {"sent", "bounced", "accepted", "expired", "revoked"}


@pytest.fixture
async def admin(service: Service, pool: Pool) -> dict[str, str]:
    """The header of an administrator who proved to be there."""
    headers = await log_in_admin(service, pool)
    await service.prove(headers)
    return headers


async def invite(service: Service, admin: dict[str, str], address: str = BOB, **more: str) -> str:
    answer = await service.post("/admin/invitations", {"email": address, **more}, admin)
    assert answer.status_code == 201, answer.text
    assert answer.headers["Location"] == f"/api/v1/admin/invitations/{answer.json()['id']}"
    return str(answer.json()["id"])


async def accept(service: Service, token: str, password: str = PASSWORD, **more: str) -> httpx.Response:
    body = {"token": token, "name": "Bob", "password": password, **more}
    return await service.post("/invitations/accept", body)


async def wait_sent(service: Service, admin: dict[str, str], invited: str) -> dict[str, Any]:
    with trio.fail_after(20):
        while True:
            shown: dict[str, Any] = await get(service, admin, f"/admin/invitations/{invited}")
            if shown["state"] in FINAL:
                return shown
            await trio.sleep(0.02)


async def execute(pool: Pool, statement: str, *values: object) -> list[tuple[Any, ...]]:
    async with pool.connection() as conn:
        cursor = await conn.execute(statement.encode(), values)
        return await cursor.fetchall() if cursor.description else []


async def test_an_invited_person_creates_the_account_by_the_link(
    service: Service, admin: dict[str, str], pool: Pool
) -> None:
    invited = await invite(service, admin, "Bob@EXAMPLE.com", language="de")
    mail = await service.wait_mail("Bob@example.com")
    assert mail.message["Subject"] == "Sie sind zu regsvc eingeladen"
    assert "127.0.0.0" not in mail.text  # the inviter's network
    shown = await wait_sent(service, admin, invited)
    assert (shown["state"], shown["address"], shown["language"]) == ("sent", "Bob@example.com", "de")
    token = mail.token_for("invite")
    assert (await accept(service, token)).json() == {"message": "account created"}
    bob = await service.log_in(BOB)
    me = await get(service, bob, "/me")
    assert (me["role"], me["name"], me["email"]) == ("user", "Bob", "Bob@example.com")
    shown = await get(service, admin, f"/admin/invitations/{invited}")
    assert shown["state"] == "accepted"
    await service.prove(bob)
    exported = await get(service, bob, "/me/export")
    assert len(exported["invitations"]) == 1
    events = await execute(
        pool,
        "SELECT event, details ->> 'invitation' FROM audit_events WHERE details ? 'invitation' ORDER BY at",
    )
    assert events == [("invitation_sent", invited), ("account_created", invited)]


async def test_a_link_works_once_whoever_presses_at_the_same_moment(
    service: Service, admin: dict[str, str], pool: Pool
) -> None:
    await invite(service, admin)
    token = await service.wait_link("invite", BOB)
    answers: Counter[int] = Counter()
    winners: list[str] = []

    async def press(number: int) -> None:
        answer = await accept(service, token, f"password number {number}")
        answers[answer.status_code] += 1
        if answer.status_code == 200:
            winners.append(f"password number {number}")
        else:
            assert answer.json()["code"] == "invitation_over"

    async with trio.open_nursery() as nursery:
        for number in range(12):
            nursery.start_soon(press, number)
    assert answers == {200: 1, 410: 11}
    await service.log_in(BOB, winners[0])
    assert await execute(pool, "SELECT count(*) FROM users WHERE email_key = %s", BOB) == [(1,)]


async def test_no_one_but_the_mail_has_the_link(service: Service, admin: dict[str, str], pool: Pool) -> None:
    invited = await invite(service, admin)
    token = await service.wait_link("invite", BOB)
    await wait_sent(service, admin, invited)
    told = [
        await get(service, admin, path)
        for path in ("/admin/invitations", f"/admin/invitations/{invited}", "/admin/mails", "/admin/audit")
    ]
    mail_id = told[2]["mails"][0]["id"]
    told.append(await get(service, admin, f"/admin/mails/{mail_id}"))
    stored = [
        await execute(pool, f"SELECT t::text FROM {table} t")
        for table in ("invitations", "mails", "mail_attempts", "audit_events")
    ]
    assert token not in json.dumps(told) + str(stored)
    form = {"email": "admin@example.com", "password": PASSWORD}
    await service.client.post("/login", data=form, headers=OWN)
    page = (await service.client.get("/admin/invitations")).text
    assert BOB in page
    assert token not in page


async def test_a_revoked_invitation_and_an_expired_one_are_void(
    service: Service, admin: dict[str, str], pool: Pool
) -> None:
    first = await invite(service, admin)
    token = await service.wait_link("invite", BOB)
    path = f"/api/v1/admin/invitations/{first}"
    assert (await service.client.delete(path, headers=admin)).status_code == 204
    assert (await service.client.delete(path, headers=admin)).json()["code"] == "invitation_over"
    assert (await accept(service, token)).json()["code"] == "invitation_over"
    assert (await get(service, admin, f"/admin/invitations/{first}"))["state"] == "revoked"
    second = await invite(service, admin)
    later = (await service.wait_mail(BOB, number=2)).token_for("invite")
    await execute(pool, "UPDATE invitations SET expires_at = now() WHERE id = %s", second)
    assert (await accept(service, later)).json()["code"] == "invitation_over"
    assert (await get(service, admin, f"/admin/invitations/{second}"))["state"] == "expired"
    assert (
        await service.client.delete(f"/api/v1/admin/invitations/{second}", headers=admin)
    ).status_code == 410


async def test_a_second_invitation_revokes_the_first(service: Service, admin: dict[str, str]) -> None:
    async with trio.open_nursery() as nursery:  # also at the same moment
        for _ in range(5):
            nursery.start_soon(invite, service, admin)
    with trio.fail_after(20):
        while len(service.mails(BOB)) < 1:  # noqa: ASYNC110 - a folder has no event
            await trio.sleep(0.02)
    listed = (await get(service, admin, "/admin/invitations"))["invitations"]
    assert Counter(each["state"] == "revoked" for each in listed) == {True: 4, False: 1}
    answers = []
    with trio.fail_after(20):
        while 200 not in answers:
            answers += [
                (await accept(service, mail.token_for("invite"))).status_code for mail in service.mails(BOB)
            ]
    assert answers.count(200) == 1


@pytest.mark.parametrize("token", ["", "x", "x" * 65, "ä", "{other}"])
async def test_what_is_no_invitation_is_told_so(token: str, service: Service, admin: dict[str, str]) -> None:
    await service.sign_up("eve@example.com")
    other = (await service.wait_mail("eve@example.com")).token
    answer = await accept(service, token.format(other=other))
    assert (answer.status_code, answer.json()["code"]) == (400, "invitation_invalid")
    assert (await accept(service, token.format(other=other), "short")).json()["code"] == "invitation_invalid"


async def test_a_weak_password_leaves_the_link_good(service: Service, admin: dict[str, str]) -> None:
    await invite(service, admin)
    token = await service.wait_link("invite", BOB)
    assert (await accept(service, token, "short")).status_code == 422
    assert (await accept(service, token, BOB)).status_code == 422  # not the address
    assert (await accept(service, token)).status_code == 200


async def test_an_invitation_of_an_address_with_an_account_looks_like_any_other(
    service: Service, admin: dict[str, str]
) -> None:
    await service.confirm("ann@example.com")
    shown = []
    for address in ("ann@example.com", BOB):
        told = await wait_sent(service, admin, await invite(service, admin, address))
        shown.append({name: value for name, value in told.items() if name not in VOLATILE})
    assert shown[0] == shown[1]
    mail = await service.wait_mail("ann@example.com", number=2)
    assert mail.message["Subject"] == "You already have an account with regsvc"
    assert "/invite" not in mail.text
    assert "/login" in mail.text


VOLATILE = {"id", "address", "created_at", "expires_at"}


async def test_accepting_ends_other_sign_ups_for_good_and_without_a_sign(
    service: Service, admin: dict[str, str], pool: Pool
) -> None:
    stranger = await service.sign_up(BOB, "the stranger's own")
    path, handle = stranger.headers["Location"], {"Regsvc-Handle": stranger.headers["Regsvc-Handle"]}
    link = (await service.wait_mail(BOB)).token
    code = (await service.wait_mail(BOB)).code
    await invite(service, admin)
    token = await service.wait_link("invite", BOB)
    with trio.fail_after(10):
        while (before := (await service.client.get(path, headers=handle)).json())["state"] != "sent":  # noqa: ASYNC110
            await trio.sleep(0.02)
    assert (await accept(service, token)).status_code == 200
    assert (await service.client.get(path, headers=handle)).json() == before
    wrong = {"email": BOB, "password": "the stranger's own"}
    assert (await service.post("/login", wrong)).status_code == 401
    # Also when the account is gone, before the attempts are.
    bob = await service.log_in(BOB)
    gone = await service.client.request("DELETE", "/api/v1/me", json={"password": PASSWORD}, headers=bob)
    assert gone.status_code == 204
    for body in ({"token": link}, {"token": link, "password": "the stranger's own"}):
        answer = await service.post("/confirm-email", body, handle)
        assert answer.status_code in {409, 410}, answer.text
    tried = {"registration": path.rpartition("/")[2], "code": code}
    assert (await service.post("/confirm-email/code", tried, handle)).status_code in {400, 410}
    assert await execute(pool, "SELECT count(*) FROM users WHERE email_key = %s", BOB) == [(0,)]
    assert await execute(pool, "SELECT count(*) FROM invitations") == [(0,)]


async def test_the_inviter_sees_a_bounce(service: Service, admin: dict[str, str], pool: Pool) -> None:
    invited = await invite(service, admin)
    await wait_sent(service, admin, invited)
    await execute(
        pool,
        "UPDATE mails SET report = 'bounced', report_kind = 'hard', report_reason = 'no_such_mailbox' "
        "WHERE kind = 'invitation'",
    )
    shown = await get(service, admin, f"/admin/invitations/{invited}")
    assert (shown["state"], shown["reason"]) == ("bounced", "no_such_mailbox")


async def test_a_mail_that_an_older_worker_cancelled_is_taken_up_again(
    service: Service, admin: dict[str, str], pool: Pool
) -> None:
    invited = await invite(service, admin)
    await wait_sent(service, admin, invited)
    gone = await invite(service, admin, "eve@example.com")
    await wait_sent(service, admin, gone)
    await service.client.delete(f"/api/v1/admin/invitations/{gone}", headers=admin)
    await execute(
        pool,
        "UPDATE mails SET state = 'cancelled', sent_at = NULL, sent_as = NULL, reason = 'registration_over' "
        "WHERE kind = 'invitation'",
    )
    async with pool.connection() as conn:
        assert await invitation.revive_mails(conn, 500) == 1
    assert (await wait_sent(service, admin, invited))["state"] == "sent"
    states = await execute(pool, "SELECT email, state FROM mails WHERE kind = 'invitation' ORDER BY email")
    assert states == [(BOB, "sent"), ("eve@example.com", "cancelled")]


async def test_who_may_invite(service: Service, pool: Pool) -> None:
    unproved = await log_in_admin(service, pool)
    answer = await service.post("/admin/invitations", {"email": BOB}, unproved)
    assert (answer.status_code, answer.json()["code"]) == (403, "proof_needed")
    await service.confirm("ann@example.com")
    ann = await service.log_in("ann@example.com")
    await service.prove(ann)
    for headers, status in ((ann, 403), ({}, 401)):
        assert (await service.post("/admin/invitations", {"email": BOB}, headers)).status_code == status
    assert await execute(pool, "SELECT count(*) FROM invitations") == [(0,)]


async def test_old_invitations_are_deleted(service: Service, admin: dict[str, str], pool: Pool) -> None:
    old, new = await invite(service, admin), await invite(service, admin, "eve@example.com")
    await execute(pool, "UPDATE invitations SET created_at = now() - interval '37 days' WHERE id = %s", old)
    async with pool.connection() as conn:
        assert await invitation.purge_invitations(conn, 500) == 1
    listed = (await get(service, admin, "/admin/invitations"))["invitations"]
    assert [each["id"] for each in listed] == [new]


async def test_invited_people_come_in_where_nobody_else_may(
    database: str, tmp_path: Path, pool: Pool
) -> None:
    async with run_test_service(database, tmp_path) as service:
        await service.confirm("admin@example.com")
        await execute(pool, "UPDATE users SET role = 'admin'")
    asked = {"REGSVC_TERMS": "1=https://example.org/terms", "REGSVC_DOMAINS_DENY": "example.net"}
    async with run_test_service(database, tmp_path, {"REGSVC_SIGNUP": "invite", **asked}) as service:
        admin = await service.log_in("admin@example.com")
        await service.prove(admin)
        denied = await service.post("/admin/invitations", {"email": "x@example.net"}, admin)
        assert (denied.status_code, denied.json()["code"]) == (422, "domain_not_allowed")
        await invite(service, admin)
        await invite(service, admin, "eve@example.com")
        token = await service.wait_link("invite", BOB)
        later = await service.wait_link("invite", "eve@example.com")
        assert (await accept(service, token)).json()["code"] == "terms_needed"
        assert (await accept(service, token, terms="1")).status_code == 200
        bob = await service.log_in(BOB)
        assert (await get(service, bob, "/me/terms"))["accepted"] == "1"
    async with run_test_service(database, tmp_path, {"REGSVC_SIGNUP": "closed"}) as service:
        admin = await service.log_in("admin@example.com")
        await service.prove(admin)
        refused = await service.post("/admin/invitations", {"email": "x@example.com"}, admin)
        assert (refused.status_code, refused.json()["code"]) == (403, "signup_closed")
        assert (await accept(service, later)).json()["code"] == "signup_closed"
        assert "Sign-up is closed" in (await service.client.get("/invite")).text
    async with run_test_service(database, tmp_path, {"REGSVC_SIGNUP": "open"}) as service:
        assert (await accept(service, later)).status_code == 200


async def test_the_console_invites_and_revokes(service: Service, pool: Pool) -> None:
    await log_in_admin(service, pool)
    form = {"email": "admin@example.com", "password": PASSWORD}
    await service.client.post("/login", data=form, headers=OWN)
    refused = await service.client.post("/admin/invitations", data={"email": BOB}, headers=OWN)
    assert refused.status_code == 403
    assert BOB in refused.text  # still typed
    assert 'href="/account/proof?for=invitations"' in refused.text  # who has no password
    wrong = await service.client.post(
        "/admin/invitations", data={"email": "no address", "password": PASSWORD}, headers=OWN
    )
    assert wrong.status_code == 400
    sent = {"email": BOB, "password": PASSWORD, "language": "fr"}
    made = await service.client.post("/admin/invitations", data=sent, headers=OWN)
    assert made.headers["Location"] == "/admin/invitations"
    assert (await service.wait_mail(BOB)).message["Subject"] == "Vous êtes invité sur regsvc"
    ((invited,),) = await execute(pool, "SELECT id FROM invitations")
    revoke = f"/admin/invitations/{invited}/revoke"
    assert (await service.client.post(revoke, data={"x": ""}, headers=OWN)).status_code == 303
    assert (await service.client.post(revoke, data={"x": ""}, headers=OWN)).status_code == 410
    assert "revoked" in (await service.client.get("/admin/invitations")).text
