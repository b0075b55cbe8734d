"""What the server makes of HTTP/1.1 requests, whole ones, broken ones and slow ones."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, cast

import pytest
import trio

from regsvc.http.server.events import ApplicationFailed, ConnectionFailed, RequestLine
from regsvc.http.server.server import Limits, Server
from tests.http.application import DEADLINE, Application
from tests.http.serving import make_request, serving

if TYPE_CHECKING:
    from hypercorn.typing import ASGIReceiveCallable, ASGISendCallable, Scope

POST = "POST /echo HTTP/1.1"


async def test_an_answer_has_the_request_id_that_the_application_saw() -> None:
    async with serving() as served:
        first = await served.ask("GET / HTTP/1.1\nX-Request-Id: chosen-by-client")
        second = await served.ask("GET / HTTP/1.1")
    assert re.fullmatch("[0-9a-f]{32}", first.headers["x-request-id"])
    assert first.headers["x-request-id"] == json.loads(first.body)["request_id"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert "date" in first.headers
    assert "server" not in first.headers


async def test_a_connection_serves_many_requests() -> None:
    async with serving() as served, served.client() as client:
        for _ in range(3):
            assert (await client.ask("GET / HTTP/1.1")).status == 200
        assert served.server.statistics().accepted == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with serving() as served, served.client() as client:
        await client.send(b"".join(make_request(f"GET /?{number} HTTP/1.1") for number in range(50)))
        answers = [await client.read_answer() for _ in range(50)]
    assert [json.loads(answer.body)["query"] for answer in answers] == [str(number) for number in range(50)]


@pytest.mark.parametrize(
    "head", ["GET / HTTP/1.1\nConnection: close", "GET / HTTP/1.0", "GET / HTTP/1.0\nConnection: keep-alive"]
)
async def test_the_last_answer_of_a_connection_says_close_and_is_followed_by_the_end(head: str) -> None:
    async with serving() as served, served.client() as client:
        await client.send(make_request(head) + b"more than there should be")
        answer = await client.read_answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.read_end() == b""


REFUSED = {
    "not HTTP": (b"hello\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
    "a header without a name": (make_request("GET / HTTP/1.1\n: x"), 400),
    "a space before the colon": (make_request("GET / HTTP/1.1\nName : x"), 400),
    "NUL in a header": (make_request("GET / HTTP/1.1\nName: \x00"), 400),
    "a path beyond ASCII": (make_request("GET /\xe4 HTTP/1.1"), 400),
    "authority form": (make_request("CONNECT example.org:443 HTTP/1.1"), 400),
    "asterisk form": (make_request("OPTIONS * HTTP/1.1"), 400),
    "a target that is neither": (make_request("GET index HTTP/1.1"), 400),
    "a fragment": (make_request("GET /confirm#t=secret HTTP/1.1"), 400),
    "a whole URI": (make_request("GET http://test/ HTTP/1.1"), 400),
    "a whole URI of another host": (make_request("GET http://other/?a=b HTTP/1.1"), 400),
    "a URI of another scheme": (make_request("GET ftp://test/ HTTP/1.1"), 400),
    "a URI with a password and nothing behind it": (make_request("GET http://me:secret@test HTTP/1.1"), 400),
    "a URI without an authority": (make_request("GET http:/// HTTP/1.1"), 400),
    "a method in small letters": (make_request("get / HTTP/1.1"), 400),
    "two authorizations": (
        make_request("GET / HTTP/1.1\nAuthorization: Bearer a\nAuthorization: Bearer b"),
        400,
    ),
    "two handles": (make_request("GET / HTTP/1.1\nRegsvc-Handle: a\nRegsvc-Handle: a"), 400),
    "two origins": (make_request("GET / HTTP/1.1\nOrigin: http://a\nOrigin: http://b"), 400),
    "two media types": (
        make_request(f"{POST}\nContent-Type: text/plain\nContent-Type: application/json"),
        400,
    ),
    "two keys": (make_request(f"{POST}\nIdempotency-Key: a\nIdempotency-Key: b"), 400),
    "contradicting lengths": (make_request(f"{POST}\nContent-Length: 1\nContent-Length: 2"), 400),
    "a negative length": (make_request(f"{POST}\nContent-Length: -1"), 400),
    "a length of 5,000 digits": (make_request(f"{POST}\nContent-Length: {'1' * 5000}"), 400),
    "length and coding": (make_request(f"{POST}\nContent-Length: 1\nTransfer-Encoding: chunked"), 400),
    "coding in HTTP/1.0": (make_request("POST /echo HTTP/1.0\nTransfer-Encoding: chunked"), 400),
    "a chunk size that is none": (make_request(f"{POST}\nTransfer-Encoding: chunked", b"x\r\n"), 400),
    "an unknown coding": (make_request(f"{POST}\nTransfer-Encoding: gzip"), 501),
    "two codings": (make_request(f"{POST}\nTransfer-Encoding: chunked, chunked"), 501),
    "a long body": (make_request(f"{POST}\nContent-Length: 16385", bytes(16_385)), 413),
    "a long chunk": (
        make_request(f"{POST}\nTransfer-Encoding: chunked", b"4001\r\n" + bytes(16_385) + b"\r\n0\r\n\r\n"),
        413,
    ),
    "many short chunks": (
        make_request(f"{POST}\nTransfer-Encoding: chunked", b"1\r\nx\r\n" * 16_385 + b"0\r\n\r\n"),
        413,
    ),
    "chunks with long extensions": (
        make_request(f"{POST}\nTransfer-Encoding: chunked", (b"1;" + b"x" * 15_000 + b"\r\nx\r\n") * 20),
        413,
    ),
    "an unknown expectation": (make_request("GET / HTTP/1.1\nExpect: a-miracle"), 417),
    "a long path": (make_request(f"GET /{'x' * 16_384} HTTP/1.1"), 431),
    "a long header": (make_request(f"GET / HTTP/1.1\nName: {'x' * 16_384}"), 431),
    "a header that does not end": (b"GET / HTTP/1.1\r\nName: " + b"x" * 20_000, 431),
    "HTTP/2 by prior knowledge": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 505),
    "HTTP/0.9": (make_request("GET / HTTP/0.9"), 505),
    "HTTP/3.0": (make_request("GET / HTTP/3.0"), 505),
}


@pytest.mark.parametrize(("data", "status"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_not_fit_for_the_application_is_answered_with_a_problem_and_a_close(
    data: bytes, status: int
) -> None:
    async with serving() as served:
        async with served.client() as client:
            await client.send(data)
            answer = await client.read_answer()
            assert await client.read_end() == b""
        assert (await served.ask("GET / HTTP/1.1")).status == 200
    problem = answer.problem
    assert (answer.status, answer.headers["connection"]) == (status, "close")
    assert problem["status"] == status
    assert problem["error"] == problem["detail"]
    assert problem["request_id"] == answer.headers["x-request-id"] == served.requests[0].request_id
    assert {"type", "title", "code"} < problem.keys()
    assert served.requests[0].status == status
    assert "secret" not in repr(served.requests)


async def test_a_head_of_exactly_the_limit_is_taken_and_one_byte_more_is_not() -> None:
    def head(size: int) -> bytes:
        request = make_request("GET / HTTP/1.1\nName: ")
        return request.replace(b"Name: ", b"Name: " + b"x" * (size - len(request)))

    async with serving() as served, served.client() as client:
        await client.send(head(16_384))
        assert (await client.read_answer()).status == 200
        await client.send(head(16_385))
        assert (await client.read_answer()).status == 431


async def test_whoever_still_sends_a_body_that_was_refused_gets_the_answer_and_no_reset() -> None:
    async with serving() as served, served.client() as client:
        await client.send(make_request(f"{POST}\nContent-Length: 900000", bytes(900_000)))
        assert (await client.read_answer()).status == 413
        assert await client.read_end() == b""


async def test_no_content_has_no_length() -> None:
    async with serving() as served, served.client() as client:
        answer = await client.ask("GET /nothing HTTP/1.1")
        assert (answer.status, answer.headers.get("content-length")) == (204, None)
        assert (await client.ask("GET / HTTP/1.1")).status == 200


async def test_head_is_refused_without_a_body() -> None:
    async with serving() as served, served.client() as client:
        answer = await client.ask("HEAD / HTTP/1.1\nExpect: a-miracle")
        assert answer.status == 417
        assert int(answer.headers["content-length"]) > 0
        assert await client.read_end() == b""


async def test_a_body_is_asked_for_only_when_it_is_within_the_limit() -> None:
    async with serving() as served, served.client() as client:
        await client.send(make_request(f"{POST}\nExpect: 100-continue\nContent-Length: 5"))
        assert (await client.read_answer()).status == 100
        await client.send(b"hello")
        answer = await client.read_answer()
        assert (answer.status, answer.body) == (200, b"hello")
        assert (await client.ask(f"{POST}\nExpect: 100-continue\nContent-Length: 16385")).status == 413


@pytest.mark.parametrize("size", [0, 1, 16_384])
async def test_a_body_arrives_as_it_was_sent(size: int) -> None:
    body = bytes(range(256)) * 64
    async with serving() as served, served.client() as client:
        plain = await client.ask(f"{POST}\nContent-Length: {size}", body[:size])
        chunks = b"".join(b"1;ext=1\r\n%c\r\n" % byte for byte in body[:size]) + b"0\r\nTrailer: x\r\n\r\n"
        chunked = await client.ask(f"{POST}\nTransfer-Encoding: chunked", chunks)
    assert plain.body == chunked.body == body[:size]


@pytest.mark.parametrize("upgrade", ["h2c", "h2c, websocket", "TLS/1.0"])
async def test_an_upgrade_to_anything_but_a_websocket_is_ignored(upgrade: str) -> None:
    async with serving() as served, served.client() as client:
        for _ in range(2):
            answer = await client.ask(
                f"GET / HTTP/1.1\nConnection: Upgrade, HTTP2-Settings\nUpgrade: {upgrade}\nHTTP2-Settings: AAM"
            )
            assert answer.status == 200


@pytest.mark.parametrize(
    "data", [b"G", b"GET / HTTP/1.1\r\nHost: test\r\n", make_request(f"{POST}\nContent-Length: 2", b"x")]
)
async def test_a_request_that_arrives_too_slowly_gets_408(data: bytes) -> None:
    async with serving(Limits(header_seconds=0.05, body_seconds=0.05)) as served, served.client() as client:
        await client.send(data)
        answer = await client.read_answer()
        assert (answer.status, answer.problem["code"]) == (408, "request_timeout")
        assert await client.read_end() == b""


async def test_an_idle_connection_is_closed_without_a_word() -> None:
    async with serving(Limits(keep_alive=0.05)) as served:
        async with served.client() as client:
            assert await client.read_end() == b""
        async with served.client() as client:
            await client.ask("GET / HTTP/1.1")
            assert await client.read_end() == b""


@pytest.mark.parametrize(
    "rest", [b"", make_request("GET / HTTP/1.1")], ids=["alone", "with another behind it"]
)
async def test_hanging_up_cancels_the_handler(rest: bytes) -> None:
    async with serving() as served:
        async with served.client() as client:
            await client.send(make_request("GET /held HTTP/1.1") + rest)
            await served.happenings.wait_for("held")
        await served.happenings.wait_for("cancelled")
        await served.wait_until(lambda: bool(served.requests))
    assert [(line.path, line.status) for line in served.requests] == [("/held", None)]


async def test_whoever_hangs_up_with_all_of_the_answer_has_abandoned_nothing() -> None:
    async with serving() as served:
        answer = await served.ask("GET /trailing HTTP/1.1")
        await served.wait_until(lambda: bool(served.requests))
    assert answer.body == b"all"
    assert [(line.path, line.status) for line in served.requests] == [("/trailing", 200)]


async def test_a_client_that_never_reads_is_cut_off() -> None:
    async with serving(Limits(send_seconds=0.05)) as served, served.client() as client:
        await client.send(make_request("GET /big HTTP/1.1"))
        await served.happenings.wait_for("big")
        await served.wait_until(lambda: served.server.statistics().open == 0)
        assert served.server.statistics().cut == 1
        assert [line.status for line in served.requests] == [None]


async def test_an_answer_that_is_not_valid_becomes_a_problem() -> None:
    async with serving() as served, served.client() as client:
        answer = await client.ask("GET /invalid HTTP/1.1")
        assert (answer.status, answer.problem["code"]) == (500, "internal_error")
        assert await client.read_end() == b""
    [failure] = [event for event in served.events if isinstance(event, ApplicationFailed)]
    assert failure.request_id == answer.headers["x-request-id"]


async def test_an_application_that_raises_is_answered_for() -> None:
    async def raising(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
        if scope["type"] == "http":
            raise ExceptionGroup("several", [ValueError("one")])
        while True:
            await send(cast("object", {"type": f"{(await receive())['type']}.complete"}))  # type: ignore[arg-type]  # whatever it is

    async with serving(wrap=lambda _: raising) as served:
        answer = await served.ask("GET / HTTP/1.1")
    assert (answer.status, answer.problem["code"]) == (500, "internal_error")
    [failure] = [event for event in served.events if isinstance(event, ApplicationFailed)]
    assert isinstance(failure.error, ValueError)


async def test_connections_over_the_limit_get_503_until_there_is_room() -> None:
    async with serving(Limits(connections=2)) as served:
        async with served.client() as first, served.client() as second:
            assert (await first.ask("GET / HTTP/1.1")).status == 200
            assert (await second.ask("GET / HTTP/1.1")).status == 200
            async with served.client() as third:
                answer = await third.read_answer()
                assert (answer.status, answer.problem["code"]) == (503, "too_many_connections")
                assert int(answer.headers["retry-after"]) > 0
                assert await third.read_end() == b""
        await served.wait_until(lambda: served.server.statistics().open == 0)
        assert (await served.ask("GET / HTTP/1.1")).status == 200
        assert served.server.statistics().refused == 1


async def test_a_line_of_a_request_tells_neither_query_nor_header_nor_body() -> None:
    async with serving() as served:
        await served.ask("GET /?token=secret HTTP/1.1\nRegsvc-Handle: secret\nHost: secret")
    [line] = served.requests
    assert (line.kind, line.method, line.path, line.status) == ("http", "GET", "/", 200)
    assert line.client == "127.0.0.0/24"
    assert line.milliseconds > 0
    assert "secret" not in repr(line)


async def test_the_application_may_say_whom_a_request_came_from() -> None:
    def behind_a_proxy(app: object) -> object:
        async def knowing(scope: Scope, receive: ASGIReceiveCallable, send: ASGISendCallable) -> None:
            if scope["type"] == "http":
                scope["state"]["client_prefix"] = "192.0.2.0/24"
            await app(scope, receive, send)  # type: ignore[operator]  # any ASGI application

        return knowing

    async with serving(wrap=behind_a_proxy) as served:  # type: ignore[arg-type]  # any ASGI application
        await served.ask("GET / HTTP/1.1")
    assert served.requests[0].client == "192.0.2.0/24"


async def test_an_error_within_a_connection_ends_that_connection_alone() -> None:
    broken = Limits(header_seconds=cast("float", None))
    async with serving(broken, may_fail=True) as served, served.client() as idle:
        for count in (1, 2, 3):
            async with served.client() as client:
                await client.send(b"G")
                assert await client.read_end() == b""
            assert served.server.statistics().caught == count
        assert served.server.statistics().open == 1
        await idle.stream.send_eof()
        assert await idle.read_end() == b""
    failures = [event for event in served.events if isinstance(event, ConnectionFailed)]
    assert [failure.caught for failure in failures] == [1, 2, 3]
    assert all(isinstance(failure.error, TypeError) for failure in failures)


async def test_a_hook_that_raises_ends_nothing() -> None:
    def raising(_line: RequestLine) -> None:
        raise ValueError("hook")

    async with serving(on_request=raising) as served, served.client() as client:
        for _ in range(2):
            assert (await client.ask("GET / HTTP/1.1")).status == 200


async def test_background_tasks_of_the_application_run() -> None:
    async with serving() as served:
        assert (await served.ask("GET /background HTTP/1.1")).status == 200
        await served.happenings.wait_for("background")


async def test_a_port_that_is_taken_is_an_error_before_anything_starts() -> None:
    async with serving() as served:
        host, port = served.address
        second = Server(Application(served.happenings), hosts=(host,), port=port, stopping=trio.Event())
        with pytest.raises(OSError, match="in use"):
            await second.serve()


async def test_every_address_means_both_versions_of_ip() -> None:
    async with serving(host="::") as served:
        for host in ("127.0.0.1", "::1"):
            with trio.fail_after(DEADLINE):
                stream = await trio.open_tcp_stream(host, served.address[1])
            await stream.aclose()
        await served.wait_until(lambda: served.server.statistics().accepted == 2)


@pytest.mark.parametrize(
    "target",
    [
        "//",
        "//echo",
        "/x//y",
        "/x//",
        "/./echo",
        "/x/../echo",
        "/x/..",
        "/%2e/echo",
        "/x/%2E%2e/echo",
        "/.%2e",
        "/x%2Fecho",
        "/x%5cecho",
        "/x\\echo",
        "/%00",
    ],
)
async def test_a_path_that_a_proxy_could_read_otherwise_is_refused(target: str) -> None:
    """Else `//metrics` passes a proxy's rule for `/metrics`."""
    async with serving() as served:
        answer = await served.ask(f"GET {target} HTTP/1.1")
        assert (answer.status, answer.problem["code"]) == (400, "bad_request")
        # What only looks like one, and what stands in a query, is as good as any.
        assert (await served.ask("GET /...?//x/../%2f HTTP/1.1")).status == 404
        assert (await served.ask("GET /?a=//b/.. HTTP/1.1")).status == 200


@pytest.mark.parametrize(
    "host", ["x/y@z", "a@b", "a b", "a,b/c", "[::1", "x:y", "a?b", "a#b", "x:80:80", '"x"']
)
async def test_a_host_that_is_none_is_refused(host: str) -> None:
    async with serving() as served:
        answer = await served.ask(f"GET / HTTP/1.1\nHost: {host}")
        assert (answer.status, answer.problem["code"]) == (400, "bad_request")


@pytest.mark.parametrize("host", ["", "test", "127.0.0.1:80", "[::1]:8080", "EXAMPLE.org.", "a_b:"])
async def test_every_host_that_is_one_is_taken(host: str) -> None:
    async with serving() as served:
        assert (await served.ask(f"GET / HTTP/1.1\nHost: {host}")).status == 200


async def test_one_empty_line_before_a_request_is_skipped() -> None:
    """RFC 9112, section 2.2: old clients send one behind a body."""
    request = make_request("GET / HTTP/1.1")
    async with serving() as served:
        async with served.client() as client:
            for start in (b"\r\n", b"", b"\r\n"):
                await client.send(start + request)
                assert (await client.read_answer()).status == 200
            await client.send(
                make_request("POST /echo HTTP/1.1\nContent-Length: 1", b"x") + b"\r\n" + request
            )
            assert [(await client.read_answer()).status for _ in range(2)] == [200, 200]
            await client.send(b"\r")
            await client.send(b"\n" + request[:1])
            await client.send(request[1:])
            assert (await client.read_answer()).status == 200
        for start in (b"\r\n\r\n", b"\n\n", b"\rx", b" \r\n"):
            async with served.client() as client:
                await client.send(start + request)
                assert (await client.read_answer()).status == 400


async def test_a_connection_is_kept_for_longer_than_balancers_keep_theirs() -> None:
    """Sixty seconds is the default of the usual ones."""
    assert Limits().keep_alive > 60
