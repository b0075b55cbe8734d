"""Many refused requests are told to the operator, once a minute."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from structlog.testing import capture_logs
from trio.testing import MockClock

from regsvc.accounts.limits.refusal_alarm import MANY, RefusalAlarm
from tests.services import Service, run_test_service

LIMITED = {"REGSVC_RATE_LIMITS": "on", "REGSVC_TRUSTED_PROXIES": "127.0.0.0/8"}
PERMITTED = 30  # requests of a client for mails, before it is refused


@pytest.fixture
async def limited(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service that keeps its limits, behind a proxy on this machine: a test says which client it is."""
    async with run_test_service(database, tmp_path, LIMITED) as service:
        yield service


async def test_it_is_said_once_a_minute_with_how_many_of_whom_and_why(autojump_clock: MockClock) -> None:
    alarm = RefusalAlarm(many=4)
    with capture_logs() as lines:
        for client in ("a", "b", "b"):
            alarm.note("login", client)
        await trio.sleep(10)
        assert lines == []
        for _ in range(100):
            alarm.note("register", "c")
        assert lines == [
            {
                "event": "many requests refused",
                "log_level": "warning",
                "count": 4,
                "seconds": 10.0,
                "clients": 3,
                "limits": {"login": 3, "register": 1},
            }
        ]
        await trio.sleep(50)
        for _ in range(100):
            alarm.note("login", "a")
    assert [(line["clients"], line["limits"]) for line in lines[1:]] == [(1, {"login": 4})]


async def test_few_refusals_a_minute_are_no_attack(autojump_clock: MockClock) -> None:
    alarm = RefusalAlarm(many=4)
    with capture_logs() as lines:
        for _ in range(10):
            for _ in range(3):
                alarm.note("login", "a")
            await trio.sleep(60)
    assert lines == []


async def test_what_the_limits_refuse_over_http_counts(limited: Service) -> None:
    async def ask(number: int) -> int:
        answer = await limited.client.post(
            "/api/v1/confirm-email/resend",
            json={"email": f"ann{number}@example.com"},
            headers={"X-Forwarded-For": f"192.0.2.{number % 2}"},
        )
        return answer.status_code

    with capture_logs() as lines:
        refused = [await ask(number) for number in range(3 * PERMITTED + MANY)].count(429)
    assert refused >= MANY
    [line] = [line for line in lines if line["event"] == "many requests refused"]
    assert (line["count"], line["clients"], line["limits"]) == (MANY, 2, {"mail-request": MANY})
