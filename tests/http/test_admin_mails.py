"""Mails by hand, over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import structlog
import trio

from regsvc.postgres.pool import Pool
from tests.services import Service, run_test_service
from tests.smtp_servers import ScriptedServer

MAILS = "/api/v1/admin/mails"
DELAYED = "UPDATE mails SET state = 'delayed', sent_at = NULL, reason = 'timeout', due_at = now() + interval '1 hour'"
DEAD = "UPDATE mails SET state = 'dead', sent_at = NULL, reason = 'timeout'"
ADMIN = "admin@example.com"


async def execute(pool: Pool, statement: str) -> None:
    async with pool.connection() as conn:
        await conn.execute(statement.encode())


async def become_admin(service: Service, pool: Pool) -> dict[str, str]:
    """Confirm an administrator and return the header of their requests; their own mail is deleted."""
    await service.confirm(ADMIN)
    await execute(pool, "UPDATE users SET role = 'admin'")
    await execute(pool, "DELETE FROM mails")
    return await service.log_in(ADMIN)


@pytest.fixture
async def admin(service: Service, pool: Pool) -> dict[str, str]:
    """The header of an administrator's requests."""
    return await become_admin(service, pool)


async def list_mails(service: Service, admin: dict[str, str], **filters: object) -> dict[str, Any]:
    params = {name: str(value) for name, value in filters.items()}
    answer = await service.client.get(MAILS, headers=admin, params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def wait_state(service: Service, admin: dict[str, str], state: str) -> dict[str, Any]:
    """Wait until a mail is in a state, and return it."""
    with trio.fail_after(20):
        while True:
            mails: list[dict[str, Any]] = (await list_mails(service, admin, state=state))["mails"]
            if mails:
                return mails[0]
            await trio.sleep(0.05)


async def sign_up_and_wait(service: Service, admin: dict[str, str], address: str = "ann@example.com") -> str:
    """Sign somebody up and return the id of their mail, which was sent."""
    await service.sign_up(address)
    await service.wait_mail(address)
    await wait_state(service, admin, "sent")
    mail_id: str = (await list_mails(service, admin, address=address))["mails"][0]["id"]
    return mail_id


def empty(service: Service) -> None:
    """Delete all mail: a Maildir keeps one file a mail, however often it comes."""
    for file in (service.mailbox / "new").iterdir():
        file.unlink()


async def test_a_mail_is_found_and_shown_with_what_was_tried(service: Service, admin: dict[str, str]) -> None:
    mail_id = await sign_up_and_wait(service, admin)
    for filters in ({}, {"state": "sent"}, {"kind": "signup"}, {"address": "ANN@example.com"}):
        page = await list_mails(service, admin, **filters)
        assert [mail["id"] for mail in page["mails"]] == [mail_id]
        assert page["next_cursor"] is None
    assert (await list_mails(service, admin, address="bob@example.com"))["mails"] == []
    shown = (await service.client.get(f"{MAILS}/{mail_id}", headers=admin)).json()
    assert (shown["address"], shown["state"], shown["attempts"]) == ("ann@example.com", "sent", 1)
    assert (shown["sent_as"], shown["registration_state"]) == ("confirm", "sent")
    (attempt,) = shown["tries"]
    assert (attempt["attempt"], attempt["outcome"]) == (1, "sent")
    assert attempt["tried_at"] == shown["sent_at"]


async def test_no_token_and_no_code_is_ever_shown(service: Service, admin: dict[str, str]) -> None:
    mail_id = await sign_up_and_wait(service, admin)
    mail = await service.wait_mail()
    for path in (MAILS, f"{MAILS}/{mail_id}"):
        text = (await service.client.get(path, headers=admin)).text
        assert mail.token not in text
        assert mail.code not in text.replace(mail_id, "")


async def test_pages_follow_each_other_by_cursor(service: Service, admin: dict[str, str]) -> None:
    for n in range(5):
        await service.sign_up(f"u{n}@example.com")
    first = await list_mails(service, admin, limit=3)
    second = await list_mails(service, admin, limit=3, cursor=first["next_cursor"])
    addresses = [mail["address"] for mail in (*first["mails"], *second["mails"])]
    assert addresses == [f"u{n}@example.com" for n in (4, 3, 2, 1, 0)]
    assert second["next_cursor"] is None


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("state=lost", "?state"),
        ("state=", "?state"),
        ("state=sent&state=dead", "?state"),
        ("kind=invoice", "?kind"),
        ("address=ann", "?address"),
        ("address=a%00@example.com", "?address"),
        ("cursor=x", "?cursor"),
        ("cursor=%C3%A4", "?cursor"),
        ("limit=0", "?limit"),
        ("limit=201", "?limit"),
        ("limit=-1", "?limit"),
        ("limit=many", "?limit"),
        ("limit=" + "9" * 5000, "?limit"),
        ("stat=dead", "?stat"),
        ("limit=%ff", "?limit"),
    ],
)
async def test_a_filter_that_makes_no_sense_is_refused(
    shared_admin: tuple[Service, dict[str, str]], query: str, pointer: str
) -> None:
    service, admin = shared_admin
    answer = await service.client.get(f"{MAILS}?{query}", headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (400, "validation_failed")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


@pytest.fixture
async def shared_admin(shared_service: Service) -> AsyncIterator[tuple[Service, dict[str, str]]]:
    """An administrator of the session's program."""
    address = f"{uuid4()}@example.com"
    await shared_service.confirm(address)
    pool = Pool(shared_service.settings.database_url.get_secret_value(), application_name="regsvc test")
    await execute(pool, f"UPDATE users SET role = 'admin' WHERE email = '{address}'")
    yield shared_service, await shared_service.log_in(address)
    await pool.aclose()


async def try_everything(service: Service, headers: dict[str, str]) -> list[httpx.Response]:
    """Make every call of an operator."""
    known = f"{MAILS}/{uuid4()}"
    return [
        await service.client.get(MAILS, headers=headers),
        await service.client.get(known, headers=headers),
        *[await service.client.post(f"{known}/{act}", headers=headers) for act in ("replay", "cancel")],
        await service.client.post(f"{MAILS}/replay-dead", headers=headers),
    ]


async def test_only_administrators_come_in(shared_service: Service) -> None:
    address = f"{uuid4()}@example.com"
    await shared_service.confirm(address)
    pool = Pool(shared_service.settings.database_url.get_secret_value(), application_name="regsvc test")

    async def codes(headers: dict[str, str]) -> set[tuple[int, str]]:
        return {(a.status_code, a.json()["code"]) for a in await try_everything(shared_service, headers)}

    assert await codes({}) == {(401, "access_token_invalid")}
    user = await shared_service.log_in(address)
    assert await codes(user) == {(403, "forbidden")}
    # A user who became one needs a token that says so; one who is none any more has a token that lies.
    await execute(pool, f"UPDATE users SET role = 'admin' WHERE email = '{address}'")
    assert await codes(user) == {(403, "forbidden")}
    admin = await shared_service.log_in(address)
    answers = await try_everything(shared_service, admin)
    assert [a.status_code for a in answers] == [200, 404, 404, 404, 200]
    await execute(pool, f"UPDATE users SET role = 'user' WHERE email = '{address}'")
    assert await codes(admin) == {(403, "forbidden")}
    await pool.aclose()


async def test_what_is_no_id_is_not_found(shared_admin: tuple[Service, dict[str, str]]) -> None:
    service, admin = shared_admin
    for path in ("x", "replay-dead", "00000000"):
        answer = await service.client.get(f"{MAILS}/{path}", headers=admin)
        assert (answer.status_code, answer.json()["code"]) == (404, "mail_not_found")


async def test_a_replayed_mail_is_sent_again_and_is_the_same_mail(
    service: Service, admin: dict[str, str], pool: Pool
) -> None:
    mail_id = await sign_up_and_wait(service, admin)
    first = await service.wait_mail()
    await execute(pool, DEAD)
    await execute(pool, "UPDATE registrations SET state = 'bounced', reason = 'gave_up' WHERE state = 'sent'")
    empty(service)
    answer = await service.client.post(f"{MAILS}/{mail_id}/replay", headers=admin)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["registration_state"]) == ("queued", "queued")
    again = await service.wait_mail()
    assert (again.token, again.code) == (first.token, first.code)
    assert again.message["Message-ID"] == first.message["Message-ID"]
    assert (await service.post("/confirm-email", {"token": again.token})).status_code == 200
    answer = await service.client.post(f"{MAILS}/{mail_id}/replay", headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (409, "registration_over")


async def test_a_delayed_mail_is_cancelled_once_and_its_code_is_dead(
    service: Service, admin: dict[str, str], pool: Pool
) -> None:
    signed_up = await service.sign_up()
    mail = await service.wait_mail()
    mail_id = (await wait_state(service, admin, "sent"))["id"]
    await execute(pool, DELAYED)
    path = f"{MAILS}/{mail_id}/cancel"
    answer = await service.client.post(path, headers=admin)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["state"], answer.json()["reason"]) == ("cancelled", "cancelled_by_operator")
    answer = await service.client.post(path, headers=admin)
    assert (answer.status_code, answer.json()["code"]) == (409, "mail_over")
    handle = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    shown = (await service.client.get(signed_up.headers["Location"], headers=handle)).json()
    assert (shown["state"], shown["reason"]) == ("bounced", "cancelled_by_operator")
    by_code = {"registration": shown["id"], "code": mail.code}
    assert (await service.post("/confirm-email/code", by_code, handle)).json()["code"] == "code_invalid"


async def test_the_dead_are_replayed_together(service: Service, admin: dict[str, str], pool: Pool) -> None:
    addresses = [f"u{n}@example.com" for n in range(3)]
    for address in addresses:
        await sign_up_and_wait(service, admin, address)
    await execute(pool, DEAD)
    empty(service)
    answer = await service.client.post(f"{MAILS}/replay-dead", headers=admin)
    assert (answer.status_code, answer.json()) == (200, {"replayed": 3})
    for address in addresses:
        await service.wait_mail(address)


@asynccontextmanager
async def run_with_server(
    database: str, pool: Pool, folder: Path, script: dict[str, str]
) -> AsyncIterator[tuple[Service, dict[str, str]]]:
    """Run a service with a mail server that follows a script, and an administrator made before."""
    async with run_test_service(database, folder) as service:
        await become_admin(service, pool)
    async with (
        ScriptedServer(script).running() as server,
        run_test_service(database, folder, {"REGSVC_SMTP_URL": server.url}) as service,
    ):
        yield service, await service.log_in(ADMIN)


async def test_what_the_mail_server_said_is_shown_attempt_by_attempt(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    script = {"RCPT": "450 4.2.1 busy"}
    async with run_with_server(database, pool, tmp_path, script) as (service, admin):
        await service.sign_up()
        mail = await wait_state(service, admin, "delayed")
        assert mail["reply"].startswith("450 4.2.1 busy")
        script["RCPT"] = "550 5.1.1 nobody"
        await execute(pool, "UPDATE mails SET due_at = now(); NOTIFY mail_due")
        await wait_state(service, admin, "bounced")
        shown = (await service.client.get(f"{MAILS}/{mail['id']}", headers=admin)).json()
    tries = [(t["attempt"], t["outcome"], t["stage"], t["reply"][:3]) for t in shown["tries"]]
    assert tries == [(1, "delayed", "rcpt", "450"), (2, "bounced", "rcpt", "550")]


async def test_every_act_is_one_event_with_who_and_in_which_request(
    service: Service, admin: dict[str, str], pool: Pool
) -> None:
    mail_id = await sign_up_and_wait(service, admin)
    acts: list[str] = []
    with structlog.testing.capture_logs(processors=[structlog.contextvars.merge_contextvars]) as events:
        for method, path in (
            ("GET", "?state=sent&address=ann@example.com"),
            ("GET", f"/{mail_id}"),
            ("POST", f"/{mail_id}/replay"),
            ("POST", "/replay-dead"),
            ("POST", f"/{mail_id}/cancel"),
        ):
            if path.endswith("/cancel"):
                await wait_state(service, admin, "sent")
                await execute(pool, DELAYED)
                events.clear()
            answer = await service.client.request(method, MAILS + path, headers=admin)
            assert answer.status_code == 200
            (event,) = [event for event in events if "actor" in event]
            assert event["request_id"] == answer.headers["X-Request-Id"]
            assert len(event["actor"]) == 36
            acts.append(event["event"])
            events.clear()
    assert acts == ["mails listed", "mail shown", "mail replayed", "dead mails replayed", "mail cancelled"]
