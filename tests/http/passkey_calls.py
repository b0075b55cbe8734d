"""What clients with passkeys ask of the API."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx

from tests.passkeys import Authenticator
from tests.services import Service


async def offer(service: Service, address: str, name: str = "Ann") -> dict[str, Any]:
    """Ask for creation options of a sign-up."""
    answer = await service.post("/register/passkey/options", {"email": address, "name": name})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def sign_up(service: Service, address: str, authenticator: Authenticator) -> httpx.Response:
    """Sign up with a passkey."""
    created = authenticator.create(await offer(service, address))
    answer = await service.post("/register", {"email": address, "name": "Ann", "passkey": created})
    assert answer.status_code == 201, answer.text
    return answer


async def ask(service: Service) -> dict[str, Any]:
    """Ask for request options."""
    answer = await service.post("/login/passkey/options", {})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def log_in(service: Service, authenticator: Authenticator, **wrong: Any) -> httpx.Response:
    """Log in with a passkey."""
    asserted = authenticator.get(await ask(service), **wrong)
    return await service.post("/login/passkey", {"assertion": asserted})


def handle_of(signed_up: httpx.Response) -> dict[str, str]:
    return {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}


async def confirm_with_handle(service: Service, address: str, signed_up: httpx.Response) -> None:
    token = (await service.wait_mail(address)).token
    answer = await service.post("/confirm-email", {"token": token}, handle_of(signed_up))
    assert answer.status_code == 200, answer.text


async def make_account(service: Service, authenticator: Authenticator) -> str:
    """Make an account with a passkey and no password, and return its address."""
    address = f"{uuid4()}@example.com"
    await confirm_with_handle(service, address, await sign_up(service, address, authenticator))
    return address


async def use_passkeys(service: Service) -> None:
    """Make every call about passkeys, rightly and in some wrong ways."""
    authenticator = Authenticator(service.url)
    address = f"{uuid4()}@example.com"
    await service.post("/register/passkey/options", {"email": "x", "name": "Ann"})
    signed_up = await sign_up(service, address, authenticator)
    token = (await service.wait_mail(address)).token
    await service.post("/confirm-email", {"token": token})
    await log_in(service, authenticator)
    await log_in(service, Authenticator(service.url))
    await service.post("/confirm-email", {"token": token}, handle_of(signed_up))
    await log_in(service, authenticator, flags=0)
    asserted = authenticator.get(await ask(service))
    for _ in range(2):
        await service.post("/login/passkey", {"assertion": asserted})
    await look_after_passkeys(service, authenticator)


async def look_after_passkeys(service: Service, authenticator: Authenticator) -> None:
    """Make every call about one's own passkeys."""
    mine = "/api/v1/me/passkeys"
    tokens = (await log_in(service, authenticator)).json()
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    await service.client.get(mine)
    await service.post("/me/passkeys/options", {}, bearer)
    options = (await service.post("/me/proof/options", {}, bearer)).json()
    for _ in range(2):
        await service.post("/me/proof", {"assertion": authenticator.get(options)}, bearer)
    created = Authenticator(service.url).create(
        (await service.post("/me/passkeys/options", {}, bearer)).json()
    )
    for _ in range(2):
        added = await service.post("/me/passkeys", {"passkey": created, "name": "A phone"}, bearer)
    listed = (await service.client.get(mine, headers=bearer)).json()["passkeys"]
    assert (len(listed), added.status_code) == (2, 410)
    path = f"{mine}/{listed[0]['id']}"
    await service.client.patch(path, json={"name": "An old phone"}, headers=bearer)
    for _ in range(2):
        await service.client.delete(path, headers=bearer)
    await service.client.delete(f"{mine}/{listed[1]['id']}", headers=bearer)
