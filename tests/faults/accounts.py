"""Kills while somebody confirms or refreshes: nobody is confirmed twice or logged out by them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from itertools import count, cycle

import httpx

from tests.faults.stage import Stage
from tests.proxies import Way
from tests.services import PASSWORD, PLAIN

_numbers = count(1)
_WAYS: Iterator[Way] = cycle((Way.UP, Way.DOWN))


async def kill_while_confirming(stage: Stage) -> bool:
    """The API is killed around the COMMIT of a confirmation; the same link confirms afterwards."""
    return await _kill_around(stage, refreshing=False)


async def kill_while_refreshing(stage: Stage) -> bool:
    """The API is killed around the COMMIT of a refresh; the same token is good afterwards."""
    return await _kill_around(stage, refreshing=True)


async def _kill_around(stage: Stage, *, refreshing: bool) -> bool:
    await stage.load.pause()
    (api, *_) = stage.of("api")
    address = f"{stage.load.tag}.person{next(_numbers)}@example.com"
    async with httpx.AsyncClient(base_url=f"{api.url}/api/v1", timeout=20, verify=PLAIN) as client:

        async def post(path: str, **body: str) -> httpx.Response:
            return await client.post(path, json=body)

        await post("/register", email=address, password=PASSWORD, name="Ann")
        token = (await stage.inbox.wait_for(address)).read().token
        path, body = "/confirm-email", {"token": token}
        if refreshing:
            assert (await post(path, **body)).status_code == 200
            grant = (await post("/login", email=address, password=PASSWORD)).json()
            path, body = "/token/refresh", {"refresh_token": grant["refresh_token"]}
        trap = api.wires["postgres"].trap(b"COMMIT", next(_WAYS), api.kill, forward=False)
        with suppress(httpx.TransportError):
            await post(path, **body)
        api.wires["postgres"].disarm(trap)
        await api.wait_ended()
        await api.wait_ready()
        again = await post(path, **body)
        if again.status_code != 200:
            stage.ledger.failures.append(f"{path} after a kill: {again.status_code} {again.text}")
        if not refreshing:
            again = await post("/login", email=address, password=PASSWORD)
        me = await client.get("/me", headers={"Authorization": f"Bearer {again.json().get('access_token')}"})
        if me.status_code != 200:
            stage.ledger.failures.append(f"/me after a kill during {path}: {me.status_code} {me.text}")
        if await stage.query("SELECT 1 FROM users WHERE email = %s", address) != [(1,)]:
            stage.ledger.failures.append(f"not one user of {address}")
    stage.load.go()
    return trap.sprung.is_set()
