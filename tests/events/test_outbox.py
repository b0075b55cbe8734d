"""Every change that other services may hear of is written in its transaction, and only if a sink wants it."""

from __future__ import annotations

import json
from uuid import uuid4

import pytest
import trio

from regsvc.accounts.events.sinks import note_exchange
from regsvc.accounts.events.types import TYPES, write_event
from regsvc.postgres.pool import Pool
from tests.events.happenings import SOURCE, add_receiver, add_user, change_user, read_rows
from tests.services import Service

pytestmark = pytest.mark.timeout(60)
_TOLD = "SELECT type, data FROM events ORDER BY n"


async def test_nothing_is_written_while_nothing_listens(pool: Pool) -> None:
    await change_user(pool, await add_user(pool), name="Bea")
    assert await read_rows(pool, _TOLD) == []


async def test_what_is_rolled_back_is_not_told(pool: Pool) -> None:
    async with pool.connection() as conn:
        await note_exchange(conn, "regsvc.events")
    user_id = await add_user(pool)
    with pytest.raises(KeyError):
        async with pool.transaction() as conn:
            await conn.execute("UPDATE users SET name = 'Bea' WHERE id = %s", (user_id,))
            raise KeyError
    assert [kind for kind, _ in await read_rows(pool, _TOLD)] == ["user.created"]


async def test_a_user_is_told_of_from_first_to_last(pool: Pool) -> None:
    async with pool.connection() as conn:
        await note_exchange(conn, "regsvc.events")
    user_id = await add_user(pool)
    await change_user(pool, user_id, name="Bea", role="admin")
    await change_user(pool, user_id, password_hash="another", version=7)
    async with pool.connection() as conn:
        await conn.execute("UPDATE users SET disabled_at = now() WHERE id = %s", (user_id,))
        await conn.execute("UPDATE users SET disabled_at = NULL WHERE id = %s", (user_id,))
        session = uuid4()
        await conn.execute(
            "INSERT INTO sessions (id, user_id, origin, client, expires_at) VALUES (%s, %s, '', '', now() + '1 h')",
            (session, user_id),
        )
        await conn.execute(
            "UPDATE sessions SET ended_at = now(), ended_reason = 'logged_out' WHERE id = %s", (session,)
        )
        await conn.execute("UPDATE sessions SET last_used_at = now() WHERE id = %s", (session,))
        await conn.execute(
            "INSERT INTO totp_authenticators (user_id, sealed, sealed_with, last_step) VALUES (%s, '', '', 0)",
            (user_id,),
        )
        await conn.execute("DELETE FROM totp_authenticators WHERE user_id = %s", (user_id,))
        await conn.execute("DELETE FROM users WHERE id = %s", (user_id,))
    told = await read_rows(pool, _TOLD)
    assert [kind for kind, _ in told] == [
        "user.created",
        "user.updated",
        "user.disabled",
        "user.enabled",
        "session.started",
        "session.ended",
        "factor.added",
        "factor.removed",
        "user.deleted",
    ]
    assert told[1][1] == {"user": str(user_id), "role": "admin", "fields": ["name", "role"]}
    assert told[5][1] == {"user": str(user_id), "session": str(session), "reason": "logged_out"}
    assert told[6][1] == {"user": str(user_id), "factor": "totp"}
    assert "example.com" not in json.dumps([data for _, data in told])


async def test_a_sign_up_is_told_of_alike_whether_or_not_the_address_has_an_account(service: Service) -> None:
    pool = Pool(service.settings.database_url.get_secret_value(), application_name="regsvc test")
    try:
        async with pool.connection() as conn:
            await note_exchange(conn, "regsvc.events")
        await service.confirm("ann@example.com")
        await service.sign_up("ann@example.com")
        await service.wait_mail("ann@example.com", number=2)
        by_subject: dict[object, list[str]] = {}
        with trio.fail_after(20):
            while True:
                by_subject = {}
                for subject, kind in await read_rows(
                    pool,
                    "SELECT subject, type FROM events WHERE subject_kind = 'registration' ORDER BY n",
                ):
                    by_subject.setdefault(subject, []).append(kind)
                if [len(kinds) for kinds in by_subject.values()] == [3, 2]:
                    break
                await trio.sleep(0.02)
        first, second = by_subject.values()
        assert first == ["registration.created", "registration.sent", "registration.confirmed"]
        assert second == first[:2]
        data = await read_rows(pool, "SELECT data FROM events")
        assert "ann@" not in json.dumps(data)
    finally:
        await pool.aclose()


async def test_a_webhook_gets_the_types_that_it_wants(pool: Pool) -> None:
    wanted, _ = await add_receiver(pool, "https://example.com/", ["user.updated"])
    everything, _ = await add_receiver(pool, "https://example.com/")
    await change_user(pool, await add_user(pool), name="Bea")
    sent = await read_rows(
        pool,
        "SELECT d.sink_id, e.type FROM event_deliveries d JOIN events e ON e.id = d.event_id ORDER BY d.n",
    )
    assert [kind for sink, kind in sent if sink == wanted] == ["user.updated"]
    assert [kind for sink, kind in sent if sink == everything] == ["user.created", "user.updated"]


async def test_an_event_is_a_cloudevent_and_the_same_bytes_each_time(pool: Pool) -> None:
    async with pool.connection() as conn:
        await note_exchange(conn, "regsvc.events")
    user_id = await add_user(pool)
    ((event,),) = await read_rows(pool, "SELECT to_jsonb(e) FROM events e")
    told = json.loads(write_event(event, SOURCE))
    assert told.keys() == {
        "specversion",
        "id",
        "source",
        "type",
        "subject",
        "time",
        "datacontenttype",
        "data",
    }
    assert (told["specversion"], told["source"], told["subject"]) == ("1.0", SOURCE, f"user/{user_id}")
    assert told["type"] in TYPES
    assert write_event(event, SOURCE) == write_event(event, SOURCE)
