"""Every call about login codes, made rightly and in most wrong ways."""

from __future__ import annotations

import trio

from tests.services import Mail, Service


async def use_login_codes(service: Service, address: str) -> None:
    """Ask for codes, and log in with one."""
    known = len(service.mails(address))
    once = {"Idempotency-Key": address}
    for email in (address, f"other-{address}", "x"):
        asked = await service.post("/login/code", {"email": email}, once)
    asked = await service.post("/login/code", {"email": address})
    assert asked.status_code == 202, asked.text
    handle = {"Regsvc-Handle": asked.headers["Regsvc-Handle"]}
    login = asked.json()["login"]
    again = {"email": address, "login": login}
    for headers in (handle, {}):
        await service.post("/login/code", again, headers)
    await service.post("/login/code", again | {"email": f"other-{address}"}, handle)
    found: list[Mail] = []
    with trio.fail_after(20):
        while len(found) < 3:
            await trio.sleep(0.02)
            found = [mail for mail in service.mails(address)[known:] if "log in" in mail.message["Subject"]]
    for code, headers in (("1", handle), ("123456", handle), ("123456", {})):
        await service.post("/login/code/verify", {"login": login, "code": code}, headers)
    statuses = []
    for mail in found:
        answer = await service.post("/login/code/verify", {"login": login, "code": mail.code}, handle)
        statuses.append(answer.status_code)
    assert 200 in statuses
    await service.post("/login/code/verify", {"login": login, "code": "123456"}, handle)
