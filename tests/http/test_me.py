"""One's own profile, and changing it only if nobody else did (RFC 9110 section 13.1)."""

from __future__ import annotations

import pytest

from regsvc.postgres.pool import Pool
from tests.services import Service

ME = "/api/v1/me"


async def etag(service: Service, headers: dict[str, str]) -> str:
    return (await service.client.get(ME, headers=headers)).headers["ETag"]


@pytest.mark.parametrize("expected", ["*", "{}", '"0", {}', '"x",{}', 'W/"9", {} , "8"'])
async def test_the_profile_is_changed_if_its_version_is_among_those_expected(
    service: Service, expected: str
) -> None:
    await service.confirm()
    headers = await service.log_in()
    if_match = {"If-Match": expected.format(await etag(service, headers))}
    answer = await service.client.patch(ME, json={"name": "Bea"}, headers=headers | if_match)
    assert (answer.status_code, answer.json()["name"]) == (200, "Bea")
    assert answer.headers["ETag"] == await etag(service, headers)


async def test_the_profile_is_not_changed_if_its_version_is_another(service: Service) -> None:
    await service.confirm()
    headers = await service.log_in()
    tag = await etag(service, headers)
    for expected in (f"W/{tag}", '"0"', f'"0{tag[1:]}', '"1.0"', '""', '"9", "8"', "", f'"{"9" * 400}"'):
        answer = await service.client.patch(
            ME, json={"name": "Bea"}, headers=headers | {"If-Match": expected}
        )
        assert (answer.status_code, answer.json()["code"]) == (412, "precondition_failed"), expected
    assert await etag(service, headers) == tag


async def test_a_profile_that_is_known_is_not_sent_again(service: Service) -> None:
    await service.confirm()
    headers = await service.log_in()
    tag = await etag(service, headers)
    for known in (tag, f"W/{tag}", f'"7", {tag}', "*"):
        answer = await service.client.get(ME, headers=headers | {"If-None-Match": known})
        assert (answer.status_code, answer.content, answer.headers["ETag"]) == (304, b"", tag)
    await service.client.patch(ME, json={"name": "Bea"}, headers=headers)
    answer = await service.client.get(ME, headers=headers | {"If-None-Match": tag})
    assert (answer.status_code, answer.json()["name"]) == (200, "Bea")


async def test_the_version_rises_when_something_changes_and_only_then(service: Service, pool: Pool) -> None:
    await service.confirm()
    headers = await service.log_in()
    tag = await etag(service, headers)
    for same in ({}, {"name": "Ann"}, {"locale": "en"}, {"name": None}):
        answer = await service.client.patch(ME, json=same, headers=headers)
        assert (answer.status_code, answer.headers["ETag"]) == (200, tag)
    answer = await service.client.patch(ME, json={"name": "Ann", "locale": "en"}, headers=headers)
    assert answer.headers["ETag"] == tag
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT details->>'fields' FROM audit_events WHERE event = 'profile_changed' ORDER BY id"
        )
        assert await cursor.fetchall() == []
    await service.client.patch(ME, json={"name": "Bea", "locale": "en"}, headers=headers)
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT details->>'fields' FROM audit_events WHERE event = 'profile_changed'"
        )
        assert await cursor.fetchall() == [("name",)]
