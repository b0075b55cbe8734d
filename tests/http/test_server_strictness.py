"""Where HTTP/1.1 lets a server choose, ours takes the reading that no proxy can have misread, and says no at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from regsvc.http.server.events import ApplicationFailed
from regsvc.http.server.server import Limits
from tests.http.application import DEADLINE
from tests.http.serving import make_request, serving

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

POST = "POST /echo HTTP/1.1"
CHUNKED = f"{POST}\nTransfer-Encoding: chunked"
PATIENT = Limits(header_seconds=10 * DEADLINE, body_seconds=10 * DEADLINE)

REFUSED = {
    "a line without a carriage return": (b"GET / HTTP/1.1\nHo", 400),
    "the same behind a good one": (b"GET / HTTP/1.1\r\nHost: test\nName", 400),
    "an end without carriage returns": (b"GET / HTTP/1.1\r\nHost: test\n\n", 400),
    "a folded header": (make_request("GET / HTTP/1.1\nName: a\n b"), 400),
    "a control character in a header": (make_request("GET / HTTP/1.1\nName: a\x01b"), 400),
    "two lengths that agree": (make_request(f"{POST}\nContent-Length: 1\nContent-Length: 1", b"x"), 400),
    "a list of lengths": (make_request(f"{POST}\nContent-Length: 1, 1", b"x"), 400),
    "a length with a sign": (make_request(f"{POST}\nContent-Length: +1", b"x"), 400),
    "a chunk longer than it says": (make_request(CHUNKED, b"1\r\nxx\r\n"), 400),
    "a chunk size without a carriage return": (make_request(CHUNKED, b"1\n"), 400),
    "an extension with a carriage return": (make_request(CHUNKED, b"1;\r;\r\nx\r\n"), 400),
    "an extension that does not end": (make_request(CHUNKED, b"1;" + b"x" * 20_000), 431),
    "a trailer that is no header": (make_request(CHUNKED, b"0\r\nno header\r\n"), 400),
    "trailers that do not end": (make_request(CHUNKED, b"0\r\n" + b"Name: value\r\n" * 30_000), 413),
    "white space that could match in many ways": (
        make_request(f"GET / HTTP/1.1\nName:{' ' * 15_000}\x00"),
        400,
    ),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_can_be_read_in_two_ways_is_refused_before_it_is_whole(data: bytes, status: int) -> None:
    async with serving(PATIENT) as served, served.client() as client:
        await client.send(data)
        answer = await client.read_answer()
        assert (answer.status, answer.problem["status"]) == (status, status)
        assert await client.read_end() == b""


async def test_a_client_that_sends_far_ahead_and_hangs_up_is_noticed() -> None:
    """What it sent is left in the system's buffers: nothing has to be read to see that it left."""
    async with serving() as served:
        async with served.client() as client:
            await client.send(make_request("GET /held HTTP/1.1") + bytes(50_000))
            await served.happenings.wait_for("held")
        await served.happenings.wait_for("cancelled")


async def test_a_client_that_ends_its_side_alone_has_hung_up() -> None:
    async with serving() as served, served.client() as client:
        await client.send(make_request("GET /held HTTP/1.1"))
        await served.happenings.wait_for("held")
        await client.stream.send_eof()
        await served.happenings.wait_for("cancelled")


async def test_hundreds_of_clients_that_hang_up_are_noticed_together() -> None:
    count = 200
    async with serving() as served:
        clients = [served.client() for _ in range(count)]
        opened = [await client.__aenter__() for client in clients]
        for client in opened:
            await client.send(make_request("GET /held HTTP/1.1"))
        await served.happenings.wait_for("held", count)
        assert (await served.ask("GET / HTTP/1.1")).status == 200
        for manager in clients:
            await manager.__aexit__(None, None, None)
        await served.happenings.wait_for("cancelled", count)
        await served.wait_until(lambda: len(served.requests) == count + 1)
    assert sorted((line.path, line.status or 0) for line in served.requests) == [
        ("/", 200),
        *[("/held", 0)] * count,
    ]


async def test_a_client_that_pipelines_does_not_hold_up_others() -> None:
    order: list[str] = []

    def noting(_: object) -> Callable[..., Awaitable[None]]:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                while True:
                    await send({"type": f"{(await receive())['type']}.complete"})
            order.append(scope["path"])
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

        return answer

    async with serving(wrap=noting) as served, served.client() as greedy, served.client() as other:
        await other.ask("GET /first HTTP/1.1")
        await other.send(make_request("GET /other HTTP/1.1"))
        await greedy.send(make_request("GET /greedy HTTP/1.1") * 200)
        for _ in range(200):
            await greedy.read_answer()
        assert (await other.read_answer()).status == 204
    assert order.index("/other") < len(order) - 1


ANSWERS = {
    "more than announced": (5, [b"abcdef"], 500),
    "less than announced": (5, [b"abc"], 500),
    "more than announced, in two parts": (5, [b"abc", b"def"], 200),
    "less than announced, in two parts": (5, [b"abc", b"d"], 200),
}


@pytest.mark.parametrize(("length", "parts", "status"), ANSWERS.values(), ids=ANSWERS.keys())
async def test_an_answer_that_breaks_its_own_announcement_ends_the_connection(
    length: int, parts: list[bytes], status: int
) -> None:
    """The next answer would be read as a part of this one."""

    def lying(_: object) -> Callable[..., Awaitable[None]]:
        async def answer(scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "lifespan":
                while True:
                    await send({"type": f"{(await receive())['type']}.complete"})
            headers = [(b"content-length", b"%d" % length)]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for part in parts[:-1]:
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": parts[-1]})

        return answer

    async with serving(wrap=lying) as served, served.client() as client:
        await client.send(make_request("GET / HTTP/1.1") * 2)
        answer = await client.read_answer(with_body=status == 500)
        assert answer.status == status
        assert await client.read_end() == (b"" if status == 500 else parts[0])
    assert [line.status for line in served.requests] == [500 if status == 500 else None]
    assert sum(isinstance(event, ApplicationFailed) for event in served.events) == 1


async def test_http_1_0_gets_an_answer_of_unknown_length_up_to_the_end() -> None:
    async with serving() as served, served.client() as client:
        served.happenings.note("release")
        await client.send(make_request("GET /pieces HTTP/1.0"))
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert "transfer-encoding" not in answer.headers
        assert await client.read_end() == b"onetwo"


async def test_http_1_1_gets_it_in_chunks() -> None:
    async with serving() as served, served.client() as client:
        await client.send(make_request("GET /pieces HTTP/1.1") * 2)
        for _ in range(2):
            answer = await client.read_answer(with_body=False)
            assert answer.headers["transfer-encoding"] == "chunked"
            assert await client.read(21) == b"3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n"
        await client.send(make_request("HEAD /pieces HTTP/1.1"))
        assert (await client.read_answer(with_body=False)).status == 200
        assert client.received == b""
