"""Flows without HTTP, as tests of many requests at once work with."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from regsvc.config import loading
from regsvc.flows.caller import Caller
from regsvc.flows.service import Service
from regsvc.postgres.pool import Pool
from regsvc.security.passwords import HashingLane
from tests.factors.people import SECRETS
from tests.services import SECRET, cheap_hashes

CALLER = Caller("192.0.2.1", "", "192.0.2.0/24", "curl", "en", "request", limited=False)


@pytest.fixture
async def flows(database: str, pool: Pool) -> AsyncIterator[Service]:
    """What the flows work with."""
    environ = {
        "REGSVC_DATABASE_URL": database,
        "REGSVC_SECRET_KEY": SECRET,
        "REGSVC_SMTP_URL": "maildir:/nowhere",
        "REGSVC_MAIL_FROM": "regsvc <no-reply@example.org>",
        "REGSVC_PUBLIC_URL": "http://127.0.0.1:8080",
        "REGSVC_RATE_LIMITS": "off",
    }
    settings = loading.load(environ, mode="dev")
    pepper, peppers = SECRETS.peppers()
    with cheap_hashes():
        async with HashingLane(cost=4, pepper=pepper, peppers=peppers, threads=1) as lane:
            yield Service(settings, SECRETS, pool, lane)
