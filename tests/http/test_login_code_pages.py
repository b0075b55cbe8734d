"""A browser logs in with a mailed code; no page needs a script."""

from __future__ import annotations

from datetime import datetime

import trio

from regsvc.http.pages.times import say_moment
from regsvc.postgres.pool import Pool
from tests.http.test_email_change import execute
from tests.http.test_login_code import code_mail
from tests.services import Service

ANN = "ann@example.com"
OWN = {"Sec-Fetch-Site": "same-origin"}


async def read_status(service: Service, *, until: str = "") -> str:
    """Read the page of the mail until it says something."""
    with trio.fail_after(20):
        while True:
            answer = await service.client.get("/login/code/status")
            assert answer.status_code == 200
            if until in answer.text:
                return answer.text
            await trio.sleep(0.05)


async def test_a_browser_asks_for_a_code_waits_and_logs_in(service: Service, pool: Pool) -> None:
    await service.confirm()
    client = service.client
    assert 'href="/login/code"' in (await client.get("/login")).text
    assert (await client.get("/login/code/status")).headers["Location"] == "/login/code"
    wrong = await client.post("/login/code", data={"email": "x"}, headers=OWN)
    assert (wrong.status_code, "valid email address" in wrong.text) == (422, True)
    asked = await client.post("/login/code", data={"email": ANN}, headers=OWN)
    assert (asked.status_code, asked.headers["Location"]) == (303, "/login/code/status")
    page = await read_status(service, until="We sent an email to ann@example.com")
    assert "Logged in" in page  # the last step
    assert "Address confirmed" not in page
    ((accepted,),) = await execute(pool, "SELECT sent_at FROM mails WHERE kind = 'login'")
    assert isinstance(accepted, datetime)
    assert f"took it at {say_moment(accepted)}" in page
    again = await client.post("/login/code/resend", data={"": ""}, headers=OWN)
    assert again.status_code == 303
    mail = await code_mail(service, 2)
    refused = await client.post("/login/code/verify", data={"code": "12"}, headers=OWN)
    assert (refused.status_code, "This code is wrong" in refused.text) == (400, True)
    done = await client.post("/login/code/verify", data={"code": mail.code}, headers=OWN)
    assert (done.status_code, done.headers["Location"]) == (303, "/account")
    assert (await client.get("/account")).status_code == 200
    assert await execute(pool, "SELECT amr FROM sessions") == [(["otp"],)]


async def test_an_address_without_an_account_sees_the_same_page(service: Service) -> None:
    await service.client.post("/login/code", data={"email": "nobody@example.com"}, headers=OWN)
    page = await read_status(service, until="We sent an email to nobody@example.com")
    assert 'action="/login/code/verify"' in page
    refused = await service.client.post("/login/code/verify", data={"code": "123456"}, headers=OWN)
    assert refused.status_code == 400
