"""Webhooks: signed, tried again by their schedule, in order, repeated by hand, and no slow one in another's way."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from uuid import UUID

import pytest
import trio
from standardwebhooks import Webhook, WebhookVerificationError

from regsvc.accounts.events.deliveries import claim_deliveries, delay_after, list_deliveries
from regsvc.accounts.events.replay import cancel_deliveries, purge_events, replay_delivery, replay_since
from regsvc.accounts.events.webhooks import rotate_webhook
from regsvc.postgres.pool import Pool
from tests.events.happenings import (
    OPERATOR,
    SECRETS,
    add_receiver,
    add_user,
    change_user,
    read_rows,
    rewind,
    sending,
)
from tests.mail.providers import ProviderServer, SeenRequest
from tests.polling import wait_until

pytestmark = pytest.mark.timeout(60)


def hook(server: ProviderServer, path: str = "/hook") -> str:
    """Return the URL of a receiver."""
    return f"http://127.0.0.1:{server.port}{path}"


def verify(request: SeenRequest, secret: str) -> dict[str, object]:
    """Return the event of a request, if the specification's own library takes it."""
    found = Webhook(secret).verify(request.body, request.headers)
    assert isinstance(found, dict)
    return found


def _has_sent(server: ProviderServer, number: int) -> bool:
    return len(server.requests) == number


async def wait_row(pool: Pool, statement: str) -> None:
    """Wait until a statement finds a row."""
    with trio.fail_after(20):
        while not await read_rows(pool, statement):  # noqa: ASYNC110 - rows of another task
            await trio.sleep(0.02)


async def wait_states(pool: Pool, *states: str) -> None:
    """Wait until the deliveries, by their order, are in these states."""
    with trio.fail_after(20):
        while (  # noqa: ASYNC110 - as above
            [state for (state,) in await read_rows(pool, "SELECT state FROM event_deliveries ORDER BY n")]
            != list(states)
        ):
            await trio.sleep(0.02)


async def test_an_event_is_signed_as_the_specification_says(pool: Pool, database: str) -> None:
    async with ProviderServer("resend").running() as server, sending(pool, database):
        _, secret = await add_receiver(pool, hook(server))
        user_id = await add_user(pool)
        await wait_states(pool, "delivered")
        (request,) = server.requests
        told = verify(request, secret)
        assert told["type"] == "user.created"
        assert told["id"] == request.headers["webhook-id"]
        assert told["data"] == {"user": str(user_id), "role": "user"}
        assert request.headers["content-type"] == "application/cloudevents+json"
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(request.body + b" ", request.headers)
        with pytest.raises(WebhookVerificationError):
            Webhook("whsec_" + "A" * 44).verify(request.body, request.headers)


async def test_both_secrets_sign_while_one_takes_the_place_of_the_other(pool: Pool, database: str) -> None:
    async with ProviderServer("resend").running() as server, sending(pool, database):
        webhook_id, old = await add_receiver(pool, hook(server))
        async with pool.transaction() as conn:
            new = await rotate_webhook(conn, SECRETS, webhook_id, OPERATOR)
        await add_user(pool)
        await wait_states(pool, "delivered")
        verify(server.requests[0], old)
        verify(server.requests[0], new)
        async with pool.connection() as conn:
            await conn.execute("UPDATE event_sinks SET previous_until = now()")
        await add_user(pool)
        await wait_states(pool, "delivered", "delivered")
        verify(server.requests[1], new)
        with pytest.raises(WebhookVerificationError):
            verify(server.requests[1], old)


def test_the_schedule_is_the_one_that_is_promised() -> None:
    delays = [delay_after(attempts) for attempts in range(1, 11)]
    hours = [timedelta(hours=hours) for hours in (2, 5, 10, 14, 20, 24)]
    assert delays == [timedelta(seconds=5), timedelta(minutes=5), timedelta(minutes=30), *hours, None]


async def test_a_subject_waits_for_its_first_event_and_others_do_not(pool: Pool, database: str) -> None:
    async with ProviderServer("resend", [(500, {}, b"")]).running() as server:
        _, secret = await add_receiver(pool, hook(server))
        ann = await add_user(pool)
        async with sending(pool, database):
            await wait_states(pool, "delayed")
            await change_user(pool, ann, name="Bea")
            await add_user(pool)
            await wait_states(pool, "delayed", "queued", "delivered")
            await rewind(pool, "5 s")
            await wait_states(pool, "delivered", "delivered", "delivered")
        told = [verify(request, secret) for request in server.requests]
        assert [each["type"] for each in told if each["subject"] == f"user/{ann}"] == [
            "user.created",
            "user.created",
            "user.updated",
        ]
        assert told[0]["id"] == told[2]["id"], "an event keeps its id"
        assert server.requests[0].body == server.requests[2].body


async def test_many_events_behind_one_that_waits_hold_up_no_other_subject(pool: Pool, database: str) -> None:
    """They would else be looked at again and again, and nothing behind them."""
    async with ProviderServer("resend", [(500, {}, b"")]).running() as server, sending(pool, database):
        _, secret = await add_receiver(pool, hook(server))
        ann = await add_user(pool)
        await wait_states(pool, "delayed")
        async with pool.transaction(limit=30) as conn:
            await conn.execute(
                "UPDATE event_deliveries SET due_at = now() + interval '1 hour' WHERE state = 'delayed'"
            )
            for number in range(600):
                await conn.execute("UPDATE users SET name = %s WHERE id = %s", (f"Ann {number}", ann))
        bea = await add_user(pool)
        await wait_until(partial(_has_sent, server, 2))
        assert verify(server.requests[1], secret)["subject"] == f"user/{bea}"
        async with pool.connection() as conn:
            await conn.execute("UPDATE event_deliveries SET due_at = now() WHERE state = 'delayed'")
            await conn.execute("SELECT pg_notify('event_due', '')")
        await wait_until(lambda: len(server.requests) >= 5)
        told = [verify(request, secret) for request in server.requests[2:5]]
        assert {each["subject"] for each in told} == {f"user/{ann}"}, "they go on behind it"


async def test_after_ten_attempts_a_delivery_is_listed_and_repeated_while_its_subject_went_on(
    pool: Pool, database: str
) -> None:
    async with ProviderServer("resend", [(503, {}, b"")] * 10).running() as server:
        webhook_id, _ = await add_receiver(pool, hook(server))
        ann = await add_user(pool)
        await change_user(pool, ann, name="Bea")
        async with sending(pool, database):
            for attempt in range(1, 10):
                await wait_until(partial(_has_sent, server, attempt))
                await wait_row(pool, "SELECT FROM event_deliveries WHERE state = 'delayed'")
                pauses = "SELECT due_at - changed_at FROM event_deliveries WHERE state = 'delayed'"
                assert await read_rows(pool, pauses) == [(delay_after(attempt),)]
                await rewind(pool, "25 h")
            await wait_states(pool, "dead", "delivered")
            async with pool.connection() as conn:
                (dead,) = (await list_deliveries(conn, webhook_id, dead=True, limit=10)).rows
                assert (dead.attempts, dead.status, dead.reason) == (10, 503, "status 503")
                await replay_delivery(conn, webhook_id, dead.id)
            await wait_states(pool, "delivered", "delivered")
        assert len(server.requests) == 12
        assert server.requests[-1].headers["webhook-id"] == server.requests[0].headers["webhook-id"]


async def test_a_receiver_that_is_gone_gets_nothing_more(pool: Pool, database: str) -> None:
    async with ProviderServer("resend", [(410, {}, b"")]).running() as server, sending(pool, database):
        await add_receiver(pool, hook(server))
        ann = await add_user(pool)
        await change_user(pool, ann, name="Bea")
        await wait_row(pool, "SELECT FROM event_sinks WHERE ended_reason = 'gone'")
        async with pool.connection() as conn:
            await cancel_deliveries(conn, 500)
        await wait_states(pool, "dead", "cancelled")
        await add_user(pool)
        assert await read_rows(pool, "SELECT count(*) FROM events") == [(2,)]
        assert len(server.requests) == 1


async def test_a_redirect_is_no_answer_and_is_not_followed(pool: Pool, database: str) -> None:
    async with ProviderServer("resend").running() as inner:
        away = (307, {"Location": hook(inner, "/inner")}, b"")
        async with ProviderServer("resend", [away]).running() as server, sending(pool, database):
            webhook_id, _ = await add_receiver(pool, hook(server))
            await add_user(pool)
            await wait_states(pool, "delayed")
            async with pool.connection() as conn:
                (shown,) = (await list_deliveries(conn, webhook_id, limit=10)).rows
            assert (shown.status, shown.reason) == (307, "status 307")
        assert inner.requests == []


async def test_a_receiver_that_never_answers_holds_up_no_other(pool: Pool, database: str) -> None:
    over = trio.Event()

    async def stay_silent(_: trio.SocketStream) -> None:
        await over.wait()

    silent = ProviderServer("resend", [stay_silent] * 100)
    async with silent.running(), ProviderServer("resend").running() as server:
        await add_receiver(pool, hook(silent))
        await add_receiver(pool, hook(server))
        async with sending(pool, database):
            for _ in range(30):
                await add_user(pool)
            await wait_until(lambda: len(server.requests) == 30)
            assert len(silent.requests) <= 8
            over.set()


async def test_an_answer_without_end_is_read_to_a_limit(pool: Pool, database: str) -> None:
    async def pour(stream: trio.SocketStream) -> None:
        await stream.send_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await stream.send_all(b"2000\r\n" + bytes(0x2000) + b"\r\n")

    async with ProviderServer("resend", [pour]).running() as server, sending(pool, database):
        await add_receiver(pool, hook(server))
        await add_user(pool)
        await wait_states(pool, "delivered")


async def test_the_address_is_added_when_the_operator_wants_it(pool: Pool, database: str) -> None:
    async with ProviderServer("resend").running() as server:
        await add_receiver(pool, hook(server))
        async with sending(pool, database, with_address=True):
            user_id = await add_user(pool)
            await wait_states(pool, "delivered")
        assert json.loads(server.requests[0].body)["data"]["email"] == f"{user_id}@example.com"
        assert "example.com" not in str(await read_rows(pool, "SELECT data FROM events"))


async def test_events_are_repeated_since_a_time_also_to_a_later_webhook(pool: Pool, database: str) -> None:
    async with ProviderServer("resend").running() as first, ProviderServer("resend").running() as second:
        await add_receiver(pool, hook(first))
        users = [await add_user(pool) for _ in range(3)]
        ((since,),) = await read_rows(pool, "SELECT min(at) FROM events")
        later, secret = await add_receiver(pool, hook(second))
        async with pool.connection() as conn:
            assert await replay_since(conn, later, since) == (3, None)
        async with sending(pool, database):
            await wait_until(lambda: len(second.requests) == 3)
        told = {str(verify(request, secret)["subject"]) for request in second.requests}
        assert told == {f"user/{user_id}" for user_id in users}


async def test_events_are_kept_for_thirty_days(pool: Pool) -> None:
    await add_receiver(pool, "https://example.com/")
    await add_user(pool)
    await add_user(pool)
    async with pool.connection() as conn:
        await conn.execute(
            "UPDATE events SET at = now() - interval '30 days' WHERE n = (SELECT min(n) FROM events)"
        )
        assert await purge_events(conn, 500) == 1
    assert await read_rows(pool, "SELECT count(*) FROM event_deliveries") == [(1,)]


async def test_many_claims_at_once_take_each_event_once(pool: Pool) -> None:
    """A claim that began before another one was committed sees the rows as they were, and must look again."""
    webhook_id, _ = await add_receiver(pool, "https://example.org/hook")
    async with pool.connection() as conn:
        await conn.execute(
            "INSERT INTO users (id, email, email_key, name, password_hash)"
            " SELECT gen_random_uuid(), n || '@example.org', n || '@example.org', 'Ann', '!'"
            " FROM generate_series(1, 600) n"
        )
    taken: list[UUID] = []

    async def claim() -> None:
        while len(taken) == len(set(taken)):
            async with pool.connection(limit=30) as conn:
                claimed = await claim_deliveries(conn, {webhook_id: 4})
            if not claimed:
                return
            taken.extend(each.id for each in claimed)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(claim)
    assert len(taken) == len(set(taken))


async def test_two_processes_send_each_event_in_its_order(pool: Pool, database: str) -> None:
    """Changes of one user are made while several children send: each comes after the one before."""
    async with ProviderServer("resend").running() as server:
        _, secret = await add_receiver(pool, hook(server))
        users: list[UUID] = [await add_user(pool) for _ in range(4)]
        async with sending(pool, database), sending(pool, database), trio.open_nursery() as nursery:

            async def change(user_id: UUID) -> None:
                for number in range(6):
                    await change_user(pool, user_id, name=f"Ann {number}")

            for user_id in users:
                nursery.start_soon(partial(change, user_id))
            await wait_until(lambda: len(server.requests) >= 28, seconds=30)
        told = [verify(request, secret) for request in server.requests]
        for user_id in users:
            times = [str(each["time"]) for each in told if each["subject"] == f"user/{user_id}"]
            assert len(times) == 7
            assert times == sorted(times)
