"""How the server stops: what is in flight finishes, what is idle ends, and nobody can hold it up."""

from __future__ import annotations

import trio

from regsvc.http.server.events import DrainFinished, DrainStarted
from regsvc.http.server.server import Limits
from tests.http.application import DEADLINE
from tests.http.frames import connect, read_close
from tests.http.serving import Client, Served, make_request, serving


async def test_requests_are_taken_for_a_while_and_told_to_leave() -> None:
    async with serving(lame_duck=0.3) as served:
        async with served.client() as open_before:
            await open_before.ask("GET / HTTP/1.1")
            served.stopping.set()
            for client in (open_before, Client(await trio.open_tcp_stream(*served.address))):
                answer = await client.ask("GET / HTTP/1.1")
                assert (answer.status, answer.headers["connection"]) == (200, "close")
                assert await client.read_end() == b""
                await client.stream.aclose()
        await served.wait_ended()


async def test_a_request_in_flight_finishes_while_a_new_server_takes_the_address() -> None:
    async with serving(grace=DEADLINE) as old:
        async with old.client() as client:
            await client.send(make_request("GET /held HTTP/1.1"))
            await old.happenings.wait_for("held")
            old.stopping.set()
            await old.wait_until(lambda: any(isinstance(event, DrainStarted) for event in old.events))
            async with serving(port=old.address[1]) as new:
                assert (await new.ask("GET / HTTP/1.1")).status == 200
                old.happenings.note("release")
                answer = await client.read_answer()
            assert (answer.status, answer.body, answer.headers["connection"]) == (200, b"released", "close")
            assert await client.read_end() == b""
        await old.wait_ended()
        assert old.events[-1] == DrainFinished(cut=0)


async def test_a_request_that_is_half_here_is_still_answered() -> None:
    async with serving(grace=DEADLINE) as served:
        async with served.client() as client:
            await client.send(b"GET / HTTP/1.1\r\nHo")
            await served.wait_until(lambda: served.server.statistics().open == 1)
            served.stopping.set()
            await served.wait_until(lambda: any(isinstance(event, DrainStarted) for event in served.events))
            await client.send(b"st: test\r\n\r\n")
            assert (await client.read_answer()).status == 200
        await served.wait_ended()


async def test_idle_connections_end_at_once() -> None:
    async with serving(grace=DEADLINE) as served, served.client() as used, served.client() as fresh:
        await used.ask("GET / HTTP/1.1")
        await served.wait_until(lambda: served.server.statistics().open == 2)
        started = trio.current_time()
        served.stopping.set()
        assert await used.read_end() == await fresh.read_end() == b""
        await used.stream.aclose()
        await fresh.stream.aclose()
        await served.wait_ended()
        assert trio.current_time() - started < DEADLINE / 2


async def test_a_thousand_websockets_end_with_1012_and_hold_up_nothing() -> None:
    count = 1000
    codes: list[int] = []

    async def watch(served: Served) -> None:
        async with served.client() as client:
            await connect(client)
            codes.append(await read_close(client))

    async with serving(grace=DEADLINE) as served, trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(watch, served)
        await served.happenings.wait_for("open", count)
        served.stopping.set()
        await served.wait_ended()
    assert codes == [1012] * count
    assert served.events[-1] == DrainFinished(cut=0)


async def test_websockets_whose_clients_never_answer_hold_up_nothing() -> None:
    impatient = Limits(linger_seconds=0.1, send_seconds=0.2)
    async with (
        serving(impatient, grace=DEADLINE) as served,
        served.client() as deaf,
        served.client() as flooded,
    ):
        await connect(deaf, "/deaf")
        await connect(flooded, "/flood")
        await served.happenings.wait_for("flood", 3)
        served.stopping.set()
        await served.wait_ended()


async def test_a_client_that_never_reads_is_cut_off_when_the_grace_is_over() -> None:
    async with serving(Limits(send_seconds=60), grace=0.1) as served, served.client() as client:
        await client.send(make_request("GET /big HTTP/1.1"))
        await served.happenings.wait_for("big")
        served.stopping.set()
        await served.wait_ended()
        assert served.events[-1] == DrainFinished(cut=1)
        assert served.server.statistics().cut == 1


async def test_a_handler_that_hangs_is_cut_off_when_the_grace_is_over() -> None:
    async with serving(grace=0.1) as served, served.client() as client:
        await client.send(make_request("GET /hung HTTP/1.1"))
        await served.happenings.wait_for("hung")
        served.stopping.set()
        await served.wait_ended()
        assert served.events[-1] == DrainFinished(cut=1)


async def test_a_cancellation_from_outside_ends_the_server_whatever_its_clients_do() -> None:
    with trio.CancelScope() as scope:
        async with serving(Limits(send_seconds=60)) as served:
            clients = [Client(await trio.open_tcp_stream(*served.address)) for _ in range(4)]
            await clients[0].send(make_request("GET /big HTTP/1.1"))
            await clients[1].send(make_request("GET /hung HTTP/1.1"))
            await connect(clients[2])
            await served.happenings.wait_for("big")
            await served.happenings.wait_for("hung")
            started = trio.current_time()
            scope.cancel()
    assert scope.cancelled_caught
    assert trio.current_time() - started < DEADLINE
    for client in clients:
        await client.stream.aclose()


async def test_a_server_that_was_cancelled_can_be_started_again() -> None:
    async with serving() as served, served.client() as client:
        await client.ask("GET / HTTP/1.1")
        served.cancel_scope.cancel()
        await served.wait_ended()
        async with trio.open_nursery() as nursery:
            [served.address] = await nursery.start(served.server.serve)
            assert (await served.ask("GET / HTTP/1.1")).status == 200
            served.stopping.set()
