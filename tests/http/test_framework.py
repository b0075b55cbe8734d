"""The lean application gives handlers what Quart gives them."""

from __future__ import annotations

from functools import partial
from typing import Any, cast

import pytest
import quart.globals
import quart.signals
import trio
from quart import Response, g, request
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from werkzeug.exceptions import RequestEntityTooLarge

from regsvc.http.framework import LeanApplication, LeanRequest
from tests.http.serving import serving

HEADERS = [
    (b"host", b"test"),
    (b"content-type", b"application/x-www-form-urlencoded"),
    (b"content-length", b"7"),
    (b"cookie", b"a=b; c=d"),
    (b"x-name", b"one"),
    (b"x-name", b"\xe4"),
    (b"accept-language", b"de, en;q=0.5"),
]
SCOPE: dict[str, Any] = {
    "type": "http",
    "asgi": {"version": "3.0", "spec_version": "2.3"},
    "http_version": "1.1",
    "method": "POST",
    "scheme": "http",
    "path": "/things/ü",
    "raw_path": b"/things/%c3%bc",
    "query_string": b"a=1&a=2",
    "root_path": "",
    "headers": HEADERS,
    "client": ("192.0.2.1", 4711),
    "server": ("192.0.2.2", 80),
    "state": {"request_id": "x"},
    "extensions": {},
}
READ = (
    *(
        "args",
        "cookies",
        "host",
        "url",
        "base_url",
        "mimetype",
        "mimetype_params",
        "content_length",
        "remote_addr",
    ),
    *(
        "accept_languages",
        "access_route",
        "if_none_match",
        "is_secure",
        "full_path",
        "root_url",
        "user_agent",
    ),
)


async def ignore(*_: object) -> None:
    pass


async def test_a_request_has_every_attribute_that_quart_gives_it() -> None:
    app = LeanApplication("tests")
    theirs = TrioASGIHTTPConnection(app, cast("Any", SCOPE))._create_request_from_scope(cast("Any", ignore))
    theirs.body.set_result(b"d=e&f=g")
    async with app.app_context():
        ours = LeanRequest(cast("Any", SCOPE), b"d=e&f=g", app)
        assert not [name for name in (*vars(theirs), "routing_exception") if not hasattr(ours, name)]
        for name in vars(theirs).keys() - {
            "headers",
            "body",
            "body_timeout",
            "_parsing_lock",
            "_send_push_promise",
        }:
            assert getattr(ours, name) == getattr(theirs, name), name
        for name in READ:
            assert repr(getattr(ours, name)) == repr(getattr(theirs, name)), name
        assert [pair for pair in theirs.headers if pair[0] != "Remote-Addr"] == list(ours.headers)
        assert ours.headers.getlist("x-NAME") == ["one", "ä"]
        assert await ours.form == await theirs.form


async def test_a_body_may_be_read_again_and_is_forgotten_when_that_is_asked() -> None:
    app = LeanApplication("tests")
    async with app.app_context():
        found = LeanRequest(cast("Any", SCOPE), b"body", app)
        assert await found.get_data() == await found.get_data(cache=False) == b"body"
        assert await found.get_data() == b""
        app.config["MAX_CONTENT_LENGTH"] = 3
        with pytest.raises(RequestEntityTooLarge):
            await LeanRequest(cast("Any", SCOPE), b"body", app).get_data()


def make(log: list[str]) -> LeanApplication:
    app = LeanApplication("tests", static_folder=None)

    async def before() -> None:
        log.append(f"before {request.path} {'seen' in g}")
        g.seen = True

    async def after(response: Response) -> Response:
        log.append(f"after {request.path}")
        response.headers["X-After"] = "yes"
        return response

    async def fixed() -> dict[str, str]:
        return {"path": request.path}

    async def thing(name: str) -> Response:
        return Response(f"{name} {request.endpoint}", 201)

    async def broken() -> Response:
        raise ZeroDivisionError

    async def grouped() -> Response:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broken)
        return Response()

    async def handled(_: Exception) -> tuple[str, int]:
        return "handled", 418

    app.before_request(before)
    app.after_request(after)
    app.add_url_rule("/fixed", view_func=fixed)
    app.add_url_rule("/things/<name>", view_func=thing, methods=["GET", "PUT"])
    app.add_url_rule("/folder/", endpoint="folder", view_func=fixed)
    app.add_url_rule("/broken", view_func=broken)
    app.add_url_rule("/grouped", view_func=grouped)
    app.register_error_handler(ZeroDivisionError, handled)
    app.freeze()
    return app


ASKED = {
    "a path without variables": ("GET /fixed", 200, b'{"path":"/fixed"}\n'),
    "its head": ("HEAD /fixed", 200, b""),
    "its options": ("OPTIONS /fixed", 200, b""),
    "another method": ("PUT /fixed", 405, None),
    "a path with variables": ("GET /things/%c3%bc", 201, "ü thing".encode()),
    "its other method": ("PUT /things/a", 201, b"a thing"),
    "nothing": ("GET /nothing", 404, None),
    "a redirect": ("GET /folder", 308, None),
    "an error that is known": ("GET /broken", 418, b"handled"),
    "an error of a nursery": ("GET /grouped", 418, b"handled"),
}


@pytest.mark.parametrize(("asked", "status", "body"), ASKED.values(), ids=ASKED.keys())
async def test_a_request_is_routed_and_answered_as_by_quart(
    asked: str, status: int, body: bytes | None
) -> None:
    log: list[str] = []
    async with serving(wrap=lambda _: make(log)) as served:
        for number in range(2):
            answer = await served.ask(f"{asked} HTTP/1.1\nHost: example.org")
            assert answer.status == status, number
            assert body is None or answer.body == body
            assert answer.headers["x-after"] == "yes"
            if status == 308:
                assert answer.headers["location"] == "http://example.org/folder/"
            if asked.startswith("OPTIONS"):
                assert set(answer.headers["allow"].split(", ")) == {"GET", "HEAD", "OPTIONS"}
    path = log[0].split()[1]
    assert log == [f"before {path} False", f"after {path}"] * 2


async def test_what_requests_would_not_go_through_cannot_be_registered() -> None:
    app = make([])
    app.teardown_request(partial(ignore, None))
    with pytest.raises(RuntimeError):
        app.freeze()


def test_nobody_listens_to_signals_that_are_not_sent() -> None:
    """A library that did would hear nothing of any request."""
    names = [name for name in vars(quart.signals) if name.startswith(("request_", "appcontext_"))]
    assert len(names) == 6
    assert not [name for name in names if getattr(quart.signals, name).receivers]


def test_what_is_used_of_quart_is_there() -> None:
    """Private names, which any release may change."""
    assert {"_cv_app", "_cv_request", "_cv_websocket"} <= vars(quart.globals).keys()
    assert issubclass(LeanApplication, QuartTrio)
