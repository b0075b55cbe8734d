"""A browser of the tests' own, without scripts: it goes to a provider and comes back, step by step."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx

from regsvc.postgres.pool import Pool
from tests.identities.issuer import Issuer
from tests.services import PLAIN, Service

_INPUT = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')
COUNTED = ("users", "identities", "sessions", "registrations", "registration_identities", "identity_codes")


@dataclass
class Visitor:
    """A browser.

    Args:
        service: that it visits.
        client: with the browser's cookies.
    """

    service: Service
    client: httpx.AsyncClient

    async def depart(self, name: str, query: Mapping[str, str] | None = None) -> str:
        """Return where the browser is led to log in with a provider."""
        answer = await self.client.get(f"/login/with/{name}", params=query)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    async def arrive(self, url: str) -> tuple[str, dict[str, str]]:
        """Open the page that a provider leads to, and return where its form goes, and its fields."""
        parts = urlsplit(url)
        return read_return(await self.client.get(f"{parts.path}?{parts.query}"))

    async def post(self, action: str, fields: Mapping[str, str]) -> httpx.Response:
        """Press the button of a form of ours."""
        headers = {"Origin": self.service.url, "Sec-Fetch-Site": "same-origin", "Accept": "text/html"}
        return await self.client.post(action, data=dict(fields), headers=headers)

    async def go(self, name: str, issuer: Issuer, query: Mapping[str, str] | None = None) -> httpx.Response:
        """Go to a provider and come back, and return the answer to the form of the return page."""
        action, fields = await self.arrive(issuer.authorize(await self.depart(name, query)))
        return await self.post(action, fields)


def read_return(answer: httpx.Response) -> tuple[str, dict[str, str]]:
    """Return the action and the fields of the return page's form."""
    assert answer.status_code == 200, answer.text
    action = re.search(r'<form id="return" method="post" action="([^"]+)">', answer.text)
    assert action, answer.text
    return action[1], {name: html.unescape(value) for name, value in _INPUT.findall(answer.text)}


@asynccontextmanager
async def visiting(service: Service) -> AsyncIterator[Visitor]:
    """Open a browser of its own."""
    async with httpx.AsyncClient(base_url=service.url, verify=PLAIN, timeout=60) as client:
        yield Visitor(service, client)


async def count_rows(database: str) -> dict[str, int]:
    """Return how many rows there are of everything that a login with a provider may make."""
    pool = Pool(database, size=1, application_name="tests")
    try:
        async with pool.connection() as conn:
            found: dict[str, Any] = {}
            for table in COUNTED:
                cursor = await conn.execute(f"SELECT count(*) FROM {table}")
                found[table] = (await cursor.fetchone() or [0])[0]
        return found
    finally:
        await pool.aclose()


async def execute(database: str, statement: str, *values: object) -> None:
    """Execute a statement of the tests' own."""
    pool = Pool(database, size=1, application_name="tests")
    try:
        async with pool.connection() as conn:
            await conn.execute(statement, values)
    finally:
        await pool.aclose()
