"""Quart-Trio, less what no request of ours uses: sessions, signals, and copies of headers and bodies.

Handlers see the same `request`, `g` and `current_app` as ever. A test compares every attribute of a request with that
of one that Quart made, and so notices what a new version adds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from functools import cached_property
from typing import Any, cast

import trio
from quart import Response
from quart.ctx import AppContext, RequestContext
from quart.globals import _cv_app, _cv_request, request_ctx
from quart.typing import ResponseReturnValue, ResponseTypes
from quart.wrappers import Request
from quart.wrappers.response import DataBody
from quart_trio import QuartTrio
from quart_trio.asgi import TrioASGIHTTPConnection
from quart_trio.wrappers.request import TrioBody, TrioRequest
from werkzeug.datastructures import Headers
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge
from werkzeug.routing import MapAdapter, RequestRedirect, Rule
from werkzeug.wrappers import Response as WerkzeugResponse

_MOST_NAMES = 256  # of headers that are remembered
_asked: dict[bytes, str] = {}
_answered: dict[str, bytes] = {}


class _Headers(Headers):
    """Headers that are as they came, and not looked at one by one."""

    def __init__(self, pairs: list[tuple[str, str]]) -> None:
        self._list = pairs


class _Body(TrioBody):
    """A body that is there."""

    def __init__(self, data: bytes, most: int | None) -> None:
        self._data = bytearray(data)
        self._must_raise = RequestEntityTooLarge() if most is not None and len(data) > most else None

    def __await__(self) -> Generator[Any, None, Any]:
        yield from ()  # there is nothing to wait for
        if self._must_raise is not None:
            raise self._must_raise
        return bytes(self._data)

    async def __anext__(self) -> bytes:
        data = await self
        if not data:
            raise StopAsyncIteration
        self._data.clear()
        return cast("bytes", data)


class LeanRequest(TrioRequest):
    """A request that was read whole.

    Args:
        scope: of ASGI.
        body: all of it.
        app: whose request it is.

    Attributes:
        answer_headers: of its answer, as ASGI has them.
    """

    def __init__(self, scope: Any, body: bytes, app: LeanApplication) -> None:
        client = scope.get("client")
        self.method = scope["method"]
        self.scheme = scope["scheme"]
        self.server = scope.get("server")
        self.root_path = scope.get("root_path", "")
        self.path = scope["path"]
        self.query_string = scope["query_string"]
        self.headers = _Headers([(_name(name), value.decode("latin1")) for name, value in scope["headers"]])
        self.remote_addr = client[0] if client else "<local>"
        self.http_version = scope["http_version"]
        self.scope = scope
        self.json_module = app.json
        self.body_timeout = None
        self.body = _Body(body, app.config["MAX_CONTENT_LENGTH"])
        self.routing_exception = None
        self._cached_json = {False: Ellipsis, True: Ellipsis}
        self._form = self._files = None
        self._parsing_lock = trio.Lock()  # type: ignore[assignment]  # the stub names asyncio's
        self.answer_headers: list[tuple[bytes, bytes]] = []

    async def _send_push_promise(self, path: str, headers: Headers) -> None:
        """Do nothing: HTTP/1.1 has no pushes."""


class LeanResponse(Response):
    """An answer whose body and headers are known to be sound: our own.

    Args:
        body: all of it.
        status: of the answer.
        headers: in the order in which they are sent; the body's length is added.
    """

    def __init__(self, body: bytes, status: int, headers: list[tuple[str, str]]) -> None:
        self.headers = _Headers([*headers, ("Content-Length", str(len(body)))])
        self.response = DataBody(body)
        self.timeout = Ellipsis
        self.status = status


class _RequestContext(RequestContext):
    """The context of one request, without a session, routed by the one adapter of all requests."""

    def __init__(self, app: LeanApplication, request: LeanRequest) -> None:
        self.app = app
        self.request_websocket = request
        self.session = None
        self.preserved = False
        self._cv_tokens = []
        self.flashes = None
        self._after_request_functions = []

    @cached_property
    def url_adapter(self) -> MapAdapter | None:  # type: ignore[override]  # made when it is needed
        return self.app.create_url_adapter(self.request_websocket)


class _Connection(TrioASGIHTTPConnection):
    """One request and its answer, in the task that asks for it."""

    app: LeanApplication
    scope: Any

    async def __call__(self, receive: Any, send: Any) -> None:
        parts: list[bytes] = []
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return  # the client is gone
            parts.append(message["body"])
            more = message["more_body"]
        request = LeanRequest(self.scope, b"".join(parts), self.app)
        response = await self.app.handle_request(request)
        status, headers = response.status_code, request.answer_headers
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = response.response
        if isinstance(body, DataBody):
            await send(
                {"type": "http.response.body", "body": body.data[body.begin : body.end], "more_body": False}
            )
            return
        async with body as pieces:
            async for data in pieces:
                piece = data.encode() if isinstance(data, str) else data
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class LeanApplication(QuartTrio):
    """An application without sessions, whose requests are all read whole.

    Args: as of Quart. Call `freeze` once all routes are there.
    """

    asgi_http_class = _Connection

    def freeze(self) -> None:
        """Take stock of what was registered: nothing may be added from here on.

        Raises:
            RuntimeError: there is something that requests no longer go through.
        """
        if any((*self.teardown_request_funcs.values(), self.teardown_appcontext_funcs)):
            raise RuntimeError("requests are not torn down here")
        self._adapter = self.url_map.bind("")
        self._handlers = {name: self.ensure_async(view) for name, view in self.view_functions.items()}
        self._fixed: dict[tuple[str, str], Rule] = {}
        for rule in self.url_map.iter_rules():
            if not rule.arguments and not rule.websocket and rule.redirect_to is None:
                for method in rule.methods or ():
                    self._fixed.setdefault((method, rule.rule), rule)

    def list_headers(self, response: Response) -> list[tuple[bytes, bytes]]:
        """Return the headers of the answer to the current request, as they are sent."""
        return [(encode_name(name), value.encode()) for name, value in response.headers]

    async def handle_request(self, request: Request) -> Response:
        """Answer a request, whatever happens."""
        if not isinstance(request, LeanRequest):
            return cast("Response", await super().handle_request(request))
        context = _RequestContext(self, request)
        tokens = _cv_app.set(AppContext(self)), _cv_request.set(context)
        try:
            try:
                self._route(context, request)
                response = await self.full_dispatch_request(context)
            except BaseExceptionGroup as group:
                error, cancelled = group.split(trio.Cancelled)[::-1]
                if cancelled is not None:
                    raise cancelled from None
                response = cast("Response", await self.handle_exception(cast("Exception", error)))
            except Exception as error:  # noqa: BLE001 - becomes an answer
                response = cast("Response", await self.handle_exception(error))
            request.answer_headers = self.list_headers(response)
            return response
        finally:
            _cv_request.reset(tokens[1])
            _cv_app.reset(tokens[0])

    async def full_dispatch_request(self, request_context: RequestContext | None = None) -> Response:
        """Call what comes before the handler, the handler, and what comes after it."""
        try:
            result: Any = await self.preprocess_request(request_context)
            if result is None:
                result = await self.dispatch_request(request_context)
        except (Exception, BaseExceptionGroup) as error:  # noqa: BLE001 - looked up by its class
            result = await self.handle_user_exception(error)
        response = result if isinstance(result, Response) else await self.make_response(result)
        if isinstance(response, WerkzeugResponse):  # a redirect to the spelling of a path
            response = Response(response.get_data(), response.status_code, response.headers)
        return await self.process_response(response, request_context)

    async def preprocess_request(self, request_context: RequestContext | None = None) -> Any:
        """Call what comes before the handler; return its answer if it has one."""
        for function in self._list_hooks(self.before_request_funcs, request_context):
            result = await function()
            if result is not None:
                return result
        return None

    async def process_response(
        self, response: ResponseTypes, request_context: RequestContext | None = None
    ) -> Response:
        """Call what comes after the handler; there is no session to be saved."""
        for function in reversed(self._list_hooks(self.after_request_funcs, request_context)):
            response = await function(response)
        return cast("Response", response)

    async def dispatch_request(self, request_context: RequestContext | None = None) -> ResponseReturnValue:
        """Return what the handler returns."""
        request = (request_context or request_ctx).request
        rule = request.url_rule
        if rule is None or request.routing_exception is not None or request.method == "OPTIONS":
            return await super().dispatch_request(request_context)
        return cast("ResponseReturnValue", await self._handlers[rule.endpoint](**request.view_args or {}))

    def _list_hooks(
        self, known: Any, request_context: RequestContext | None
    ) -> list[Callable[..., Awaitable[Any]]]:
        """Return the functions for all requests, then those of the blueprint."""
        rule = request_context.request.url_rule if request_context is not None else None
        blueprint = rule.endpoint.rpartition(".")[0] if rule is not None else ""
        everywhere = known.get(None, ())
        return [*everywhere, *known[blueprint]] if blueprint in known else everywhere

    def _route(self, context: _RequestContext, request: LeanRequest) -> None:
        """Find the rule of a request."""
        rule = self._fixed.get((request.method, request.path))
        if rule is not None:
            request.url_rule, request.view_args = cast("Any", rule), {}
            return
        try:
            found = self._adapter.match(request.path, request.method, return_rule=True, websocket=False)
            request.url_rule, request.view_args = cast("Any", found)
        except RequestRedirect:
            context.match_request()  # by an adapter that knows the host, which a redirect names
        except HTTPException as error:
            request.routing_exception = error


def encode_name(name: str) -> bytes:
    """Return the name of a header as it is sent."""
    known = _answered.get(name)
    if known is None:
        known = name.lower().encode()
        if len(_answered) < _MOST_NAMES:
            _answered[name] = known
    return known


def _name(name: bytes) -> str:
    known = _asked.get(name)
    if known is None:
        known = name.decode("latin1").title()
        if len(_asked) < _MOST_NAMES:
            _asked[name] = known
    return known
