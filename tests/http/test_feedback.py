"""Reports of providers over HTTP: from the webhook to the frame on the waiting page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path

import psycopg
import pytest
import trio
from trio_websocket import open_websocket_url

from tests.http.reports import CREDENTIALS, postmark_bounce
from tests.services import PASSWORD, Service, run_test_service

BEARER = "a bearer token of the tests"


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    environ = {
        "REGSVC_FEEDBACK_POSTMARK": ":".join(CREDENTIALS),
        "REGSVC_FEEDBACK_MESSAGE": BEARER,
        "REGSVC_MAIL_RETURN_PATH": "bounce@b.example.org",
    }
    async with run_test_service(database, tmp_path, environ) as service:
        yield service


async def sign_up(service: Service) -> tuple[str, dict[str, str], str]:
    """Sign up, wait for the mail, and return the URL, the handle and the mail's id."""
    signed_up = await service.sign_up()
    mail = await service.wait_mail()
    handle = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    url = signed_up.headers["Location"]
    with trio.fail_after(10):
        while (await service.client.get(f"{url}?wait=5", headers=handle)).json()["state"] != "sent":
            pass
    return url, handle, str(mail.message["Message-ID"]).strip("<>").partition("@")[0]


async def test_a_report_moves_the_registration_and_the_waiting_page(service: Service) -> None:
    """One webhook: stored once, mail and registration moved, audited, and a frame on the page that waits."""
    url, handle, mail_id = await sign_up(service)
    live = f"{service.url.replace('http', 'ws', 1)}{url}/live"
    with trio.fail_after(10):
        async with open_websocket_url(live) as socket:
            await socket.send_message(json.dumps({"handle": handle["Regsvc-Handle"]}))
            assert json.loads(await socket.get_message())["state"] == "sent"
            told = await service.client.post(
                "/api/v1/feedback/postmark", json=postmark_bounce(mail_id), auth=CREDENTIALS
            )
            assert (told.status_code, told.json()) == (200, {"applied": 1})
            frame = json.loads(await socket.get_message())
    assert frame["state"] == "bounced"
    assert frame["bounce"] == {"kind": "hard", "reason": "no_such_mailbox"}
    again = await service.client.post(
        "/api/v1/feedback/postmark", json=postmark_bounce(mail_id), auth=CREDENTIALS
    )
    assert (again.status_code, again.json()) == (202, {"applied": 0})
    shown = (await service.client.get(url, headers=handle)).json()
    assert (shown["state"], shown["seq"]) == ("bounced", frame["seq"])
    with psycopg.connect(service.settings.database_url.get_secret_value()) as conn:
        assert conn.execute("SELECT count(*) FROM mail_reports").fetchone() == (1,)
        audited = conn.execute("SELECT details FROM audit_events WHERE event = 'mail_reported'").fetchall()
    assert [details["report"] for (details,) in audited] == ["bounced"]


async def test_a_page_without_scripts_shows_the_bounce_and_the_address_to_correct(service: Service) -> None:
    """The reason in words, and the form open with the address in it."""
    form = {"name": "Ann", "email": "ann@example.com", "password": PASSWORD}
    await service.client.get("/signup")
    await service.client.post("/signup", data=form, headers={"Origin": service.url})
    mail = await service.wait_mail()
    mail_id = str(mail.message["Message-ID"]).strip("<>").partition("@")[0]
    await service.client.post("/api/v1/feedback/postmark", json=postmark_bounce(mail_id), auth=CREDENTIALS)
    with trio.fail_after(10):
        while "does not know this address" not in (page := (await service.client.get("/signup/status")).text):
            pass
    assert 'value="ann@example.com"' in page
    assert '<details id="wrong" open>' in page


async def test_sources_without_their_setting_are_off(service: Service) -> None:
    """A source that is not configured, or does not exist, is not there."""
    for source in ("ses", "sendgrid", "mailgun", "resend", "nobody"):
        assert (await service.client.post(f"/api/v1/feedback/{source}", content=b"{}")).status_code == 404


async def test_a_wrong_password_is_401_and_an_unknown_mail_202(service: Service) -> None:
    """Nothing is parsed before the credentials are right."""
    body = postmark_bounce("0c2e4f0e-8f0d-4d76-a8f3-8d9f3b9d9a10")
    path = "/api/v1/feedback/postmark"
    assert (await service.client.post(path, json=body)).status_code == 401
    assert (
        await service.client.post(path, content=b"no JSON", auth=("postmark", "wrong"))
    ).status_code == 401
    assert (await service.client.post(path, json=body, auth=CREDENTIALS)).status_code == 202
    assert (await service.client.post(path, content=b"no JSON", auth=CREDENTIALS)).status_code == 400


async def test_administrators_list_and_lift_suppressed_addresses(service: Service, database: str) -> None:
    """A bounced address is listed without the address, and lifted by its id."""
    _, _, mail_id = await sign_up(service)
    await service.client.post("/api/v1/feedback/postmark", json=postmark_bounce(mail_id), auth=CREDENTIALS)
    await service.confirm("root@example.com")
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute("UPDATE users SET role = 'admin'")
    admin = await service.log_in("root@example.com")
    path = "/api/v1/admin/suppressions"
    (found,) = (await service.client.get(path, headers=admin)).json()["suppressions"]
    assert (found["bounces"], found["reason"]) == (1, "no_such_mailbox")
    assert "ann" not in json.dumps(found)
    assert (await service.client.delete(f"{path}/{found['id']}", headers=admin)).status_code == 204
    assert (await service.client.delete(f"{path}/{found['id']}", headers=admin)).status_code == 404
    assert (await service.client.get(path, headers=admin)).json()["suppressions"] == []


async def test_a_suppressed_address_walks_the_same_way_without_a_mail(service: Service) -> None:
    """The next sign-up is shown as sent, then as bounced; a resend with the handle brings the mail after all."""
    _, _, mail_id = await sign_up(service)
    await service.client.post("/api/v1/feedback/postmark", json=postmark_bounce(mail_id), auth=CREDENTIALS)
    again = await service.post(
        "/register", {"email": "ann@example.com", "password": PASSWORD + "!", "name": "Ann"}
    )
    handle = {"Regsvc-Handle": again.headers["Regsvc-Handle"]}
    seen: list[str] = []
    seq = 0
    with trio.fail_after(20):
        while "bounced" not in seen:
            url = f"{again.headers['Location']}?wait=5&seq={seq}"
            shown = (await service.client.get(url, headers=handle)).json()
            seen.append(shown["state"])
            seq = shown["seq"]
    assert seen[-2:] == ["sent", "bounced"]
    assert len(service.mails("ann@example.com")) == 1
    body = {"email": "ann@example.com", "registration": again.headers["Location"].rpartition("/")[2]}
    assert (await service.post("/confirm-email/resend", body, handle)).status_code == 202
    await service.wait_mail(number=2)
