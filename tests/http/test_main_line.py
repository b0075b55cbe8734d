"""The way of a sign-up, from the POST to the profile."""

from __future__ import annotations

import json

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed

from regsvc.postgres.pool import Pool
from tests.databases import run_sql
from tests.services import PASSWORD, Service
from tests.websockets import open_socket


async def wait_sent(service: Service, signed_up: httpx.Response) -> None:
    """Wait until the service knows that the mail of a sign-up was sent."""
    headers = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    url = signed_up.headers["Location"]
    with trio.fail_after(20):
        seen = (await service.client.get(url, headers=headers)).json()
        while seen["state"] != "sent":
            seen = (await service.client.get(f"{url}?wait=5&seq={seen['seq']}", headers=headers)).json()


async def test_a_sign_up_answers_exactly_this(service: Service) -> None:
    answer = await service.client.post(
        "/api/v1/register",
        content=b'{"email": "test@example.com", "password": "password123", "name": "Test User"}',
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code == 201
    assert answer.content == b'{"message": "User registered successfully!"}'
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["Location"].startswith("/api/v1/registrations/")
    assert len(answer.headers["Regsvc-Handle"]) == 43
    assert answer.headers["X-Request-Id"]
    assert answer.headers["Cache-Control"] == "no-store"


async def test_a_client_that_asks_for_it_gets_the_registration_in_the_body(service: Service) -> None:
    answer = await service.post(
        "/register",
        {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"},
        {"Prefer": "respond-async, return=representation"},
    )
    shown = answer.json()["registration"]
    assert answer.headers["Location"].endswith(shown["id"])
    assert shown["handle"] == answer.headers["Regsvc-Handle"]
    assert shown["state"] == "queued"


async def test_ids_in_a_path_may_have_capitals(service: Service) -> None:
    """RFC 9562, section 4."""
    signed_up = await service.sign_up()
    path, _, name = signed_up.headers["Location"].rpartition("/")
    headers = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    for written, status in ((name.upper(), 200), (name.replace("-", ""), 404), (f"{{{name}}}", 404)):
        answer = await service.client.get(f"{path}/{written}", headers=headers)
        assert answer.status_code == status, written
    assert name.upper() != name


async def test_from_sign_up_to_profile(service: Service) -> None:
    await service.confirm()
    headers = await service.log_in()
    profile = await service.client.get("/api/v1/me", headers=headers)
    assert profile.status_code == 200
    assert profile.json() | {"id": 0, "created_at": 0} == {
        "id": 0,
        "email": "ann@example.com",
        "name": "Ann",
        "locale": "en",
        "role": "user",
        "created_at": 0,
    }
    changed = await service.client.patch("/api/v1/me", json={"name": "Ann B."}, headers=headers)
    assert changed.json()["name"] == "Ann B."
    assert changed.headers["ETag"] != profile.headers["ETag"]
    stale = await service.client.patch(
        "/api/v1/me", json={"name": "x"}, headers=headers | {"If-Match": profile.headers["ETag"]}
    )
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")


async def test_the_code_confirms_for_whoever_holds_the_handle(service: Service) -> None:
    signed_up = await service.sign_up()
    mail = await service.wait_mail()
    body = {"registration": signed_up.headers["Location"].rpartition("/")[2], "code": mail.code}
    assert (await service.post("/confirm-email/code", body)).status_code == 404
    headers = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    answer = await service.post("/confirm-email/code", body, headers)
    assert (answer.status_code, answer.json()) == (200, {"message": "email confirmed"})
    await service.log_in()


async def test_an_old_links_token_moves_into_the_fragment(service: Service) -> None:
    await service.sign_up()
    mail = await service.wait_mail()
    answer = await service.client.get(f"/api/v1/confirm-email?token={mail.token}")
    assert answer.status_code == 303
    assert answer.headers["Location"] == f"{service.url}/confirm#t={mail.token}"
    odd = await service.client.get("/api/v1/confirm-email", params={"token": "x\r\nSet-Cookie: a=b"})
    assert odd.headers["Location"] == f"{service.url}/confirm"


async def test_before_the_confirmation_log_in_answers_as_for_a_wrong_password(service: Service) -> None:
    await service.sign_up()
    await service.confirm("bob@example.com")

    async def fail(address: str, password: str) -> tuple[int, object]:
        answer = await service.post("/login", {"email": address, "password": password})
        body = answer.json()
        del body["request_id"]
        return answer.status_code, body

    pending = await fail("ann@example.com", PASSWORD)
    assert pending[0] == 401
    assert pending == await fail("bob@example.com", "wrong password")
    assert pending == await fail("nobody@example.com", "wrong password")
    assert pending == await fail("not an address", "wrong password")
    assert "confirmation email" in json.dumps(pending[1])


async def test_a_second_sign_up_answers_alike_and_its_mail_tells_the_owner(service: Service) -> None:
    await service.confirm()
    again = await service.sign_up("Ann@example.com", "another password")
    await service.wait_mail(number=2)  # at the address of the account, not as a stranger typed it
    [mail] = [mail for mail in service.mails("ann@example.com") if "already" in mail.text]
    assert "/confirm#t=" not in mail.text
    shown = await service.client.get(
        again.headers["Location"], headers={"Regsvc-Handle": again.headers["Regsvc-Handle"]}
    )
    assert shown.json()["state"] in {"sending", "sent"}


async def test_the_live_status_shows_every_step_until_it_is_final(service: Service) -> None:
    signed_up = await service.sign_up()
    url = service.url.replace("http", "ws") + signed_up.headers["Location"] + "/live"
    frames = []
    async with open_socket(url) as socket:
        await socket.send_message(json.dumps({"handle": signed_up.headers["Regsvc-Handle"]}))
        with trio.fail_after(20), pytest.raises(ConnectionClosed) as closed:
            while True:
                frame = json.loads(await socket.get_message())
                frames.append(frame)
                if frame["state"] == "sent":
                    mail = await service.wait_mail()
                    await service.post("/confirm-email", {"token": mail.token})
    assert closed.value.reason is not None
    assert closed.value.reason.code == 1000
    seqs = [frame["seq"] for frame in frames]
    assert seqs == sorted(set(seqs))
    states = [frame["state"] for frame in frames]
    assert states[-2:] == ["sent", "confirmed"]
    order = ["queued", "sending", "sent", "confirmed"]
    assert [order.index(state) for state in states] == sorted({order.index(state) for state in states})


async def test_a_registration_that_was_deleted_is_closed_with_4401_and_not_as_if_it_were_final(
    service: Service,
) -> None:
    signed_up = await service.sign_up()
    # Once its mail is booked, for a relay that finds its registration gone is another matter.
    await wait_sent(service, signed_up)
    url = service.url.replace("http", "ws") + signed_up.headers["Location"] + "/live"
    # Aside: the service, which may have the row in hand, shares this thread.
    database = service.settings.database_url.get_secret_value()
    await trio.to_thread.run_sync(run_sql, database, "DELETE FROM registrations")
    async with open_socket(url) as socket:
        await socket.send_message(json.dumps({"handle": signed_up.headers["Regsvc-Handle"]}))
        with trio.fail_after(20), pytest.raises(ConnectionClosed) as closed:
            await socket.get_message()
    assert closed.value.reason is not None
    assert closed.value.reason.code == 4401


async def test_a_long_poll_waits_for_the_next_change(service: Service) -> None:
    signed_up = await service.sign_up()
    mail = await service.wait_mail()
    headers = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    url = signed_up.headers["Location"]
    await wait_sent(service, signed_up)
    answers: list[httpx.Response] = []

    async def wait() -> None:
        answers.append(await service.client.get(f"{url}?wait=25", headers=headers))

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            await service.post("/confirm-email", {"token": mail.token})
    assert answers[0].json()["state"] == "confirmed"


async def test_a_refresh_token_gives_a_new_pair_and_log_out_ends_the_session(service: Service) -> None:
    await service.confirm()
    first = (await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})).json()
    second = (await service.post("/token/refresh", {"refresh_token": first["refresh_token"]})).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert first["token"] == first["access_token"]
    assert (first["token_type"], first["expires_in"]) == ("Bearer", 600)
    headers = {"Authorization": f"Bearer {second['access_token']}"}
    assert (await service.client.get("/api/v1/me", headers=headers)).status_code == 200
    assert (await service.client.post("/api/v1/logout", headers=headers)).status_code == 204
    after = await service.client.get("/api/v1/me", headers=headers)
    assert (after.status_code, after.json()["code"]) == (401, "access_token_invalid")
    refused = await service.post("/token/refresh", {"refresh_token": second["refresh_token"]})
    assert (refused.status_code, refused.json()["code"]) == (401, "refresh_token_invalid")


async def test_repudiating_voids_the_attempt_and_is_one_event_however_often(
    service: Service, pool: Pool
) -> None:
    await service.sign_up()
    mail = await service.wait_mail()
    for _ in range(5):
        assert (await service.post("/confirm-email/repudiate", {"token": mail.token})).status_code == 200
    answer = await service.post("/confirm-email", {"token": mail.token})
    assert (answer.status_code, answer.json()["code"]) == (410, "token_expired")
    async with pool.connection() as conn:
        events = await conn.execute("SELECT FROM audit_events WHERE event = 'registration_repudiated'")
        assert events.rowcount == 1
