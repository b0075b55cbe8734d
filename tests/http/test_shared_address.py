"""Two people sign up with one address: each is shown what the mail server says, and nothing of the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio

from tests.http.test_resending import show, wait_state
from tests.services import PASSWORD, Service, run_test_service
from tests.smtp_servers import Hold, Reaction, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import httpx

    from regsvc.postgres.pool import Pool


async def sign_up(service: Service, network: int) -> httpx.Response:
    """Sign up as a client of its own network."""
    body = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}
    answer = await service.post("/register", body, {"X-Forwarded-For": f"198.51.{network}.1"})
    assert answer.status_code == 201, answer.text
    return answer


async def let_time_pass(pool: Pool) -> None:
    """Make delayed mails due."""
    async with pool.connection() as conn:
        await conn.execute("UPDATE mails SET due_at = now() WHERE state = 'delayed' AND NOT silent")
        await conn.execute("SELECT pg_notify('mail_due', '')")


@pytest.mark.parametrize(
    ("refusals", "state"),
    [([], "sent"), (["450 4.2.1 busy"], "delayed"), (["550 5.1.1 user unknown"], "bounced")],
    ids=["accepted", "refused-for-now", "refused"],
)
async def test_both_are_shown_alike(
    database: str, tmp_path: Path, pool: Pool, refusals: list[str], state: str
) -> None:
    answer = trio.Event()
    script: Mapping[str, Reaction | Sequence[Reaction]] = {"MAIL": [Hold(answer)], "RCPT": refusals}
    async with ScriptedServer(script).running() as smtp:
        environ = {
            "REGSVC_RATE_LIMITS": "on",
            "REGSVC_SMTP_URL": smtp.url,
            "REGSVC_TRUSTED_PROXIES": "127.0.0.1",
        }
        async with run_test_service(database, tmp_path, environ) as service:
            first = await sign_up(service, 1)
            await smtp.wait(lambda: "MAIL" in smtp.steps)
            second = await sign_up(service, 2)
            before = [await wait_state(service, each, "sending") for each in (first, second)]
            answer.set()
            after = [await wait_state(service, each, state) for each in (first, second)]
            hidden = {"id", "created_at", "changed_at", "expires_at", "next_try_at", "next_resend_at"}
            for one, other in (before, after):
                assert one.keys() == other.keys()
                assert {k: v for k, v in one.items() if k not in hidden} == {
                    k: v for k, v in other.items() if k not in hidden
                }
                assert [k for k, v in one.items() if v is None] == [k for k, v in other.items() if v is None]
            if state == "delayed":
                with trio.fail_after(20):
                    while {(await show(service, each))["state"] for each in (first, second)} != {"sent"}:
                        await let_time_pass(pool)
                        await trio.sleep(0.1)
            if state == "bounced":
                assert smtp.mails == []
                await wait_state(service, await sign_up(service, 3), "sent")
            assert len(smtp.mails) == 1
