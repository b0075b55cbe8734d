"""A collector for tests: takes spans by OTLP over HTTP in protobuf (https://opentelemetry.io/docs/specs/otlp/)."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as SentSpan
from opentelemetry.proto.trace.v1.trace_pb2 import Status

PATIENCE = 30.0  # seconds; machines that run the suite are busy


@dataclass(frozen=True)
class SeenSpan:
    """A span as it arrived."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    links: tuple[tuple[str, str], ...]
    attributes: dict[str, str | int | float | bool]
    failed: bool
    begun: int
    ended: int
    resource: dict[str, str | int | float | bool]


@dataclass
class Collector:
    """Keeps what it gets.

    Args:
        url: where it listens.
        spans: so far.
        bodies: what came, as bytes.
    """

    url: str
    spans: list[SeenSpan] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    _changed: trio.Event = field(default_factory=trio.Event)

    async def wait(self, condition: Callable[[], object]) -> None:
        """Wait until what arrived makes a condition true."""
        with trio.fail_after(PATIENCE):
            while not condition():
                await self._changed.wait()

    async def wait_span(self, name: str, number: int = 1) -> SeenSpan:
        """Wait for so many spans of a name and return the last."""
        await self.wait(lambda: len(self.named(name)) >= number)
        return self.named(name)[number - 1]

    def named(self, name: str) -> list[SeenSpan]:
        """Return the spans of a name."""
        return [span for span in self.spans if span.name == name]

    def children(self, of: SeenSpan) -> list[SeenSpan]:
        """Return the spans right below another, in their order."""
        found = [span for span in self.spans if (span.trace_id, span.parent_id) == (of.trace_id, of.span_id)]
        return sorted(found, key=lambda span: (span.begun, span.ended))

    def draw(
        self, root: SeenSpan, since: int | None = None, indent: str = "", mark: str = ""
    ) -> Iterator[str]:
        """Yield lines that show a span, those below it, and behind a mark what followed from them."""
        since = root.begun if since is None else since
        codes = [str(root.attributes[name]) for name in _CODES if name in root.attributes]
        told = f"  {' '.join(codes)}" if codes else ""
        yield (
            f"{indent}{mark}{root.name:<{max(1, 46 - len(indent + mark))}} at {(root.begun - since) / 1e6:8.1f} ms"
            f"  for {(root.ended - root.begun) / 1e6:8.1f} ms{told}"
        )
        indent += " " * len(mark) + "  "
        for child in self.children(root):
            yield from self.draw(child, since, indent)
        for span in self.spans:
            if span.links and span.links[-1] == (root.trace_id, root.span_id):
                yield from self.draw(span, since, indent, "~> ")

    def take(self, body: bytes) -> None:
        """Keep the spans of one request."""
        self.bodies.append(body)
        for group in ExportTraceServiceRequest.FromString(body).resource_spans:
            resource = _read(group.resource.attributes)
            self.spans += [_see(span, resource) for scope in group.scope_spans for span in scope.spans]
        self._changed.set()
        self._changed = trio.Event()


_CODES = ("http.response.status_code", "smtp.reply.code", "smtp.reply.enhanced_code", "regsvc.mail.outcome")


@asynccontextmanager
async def open_collector(status: int = 200) -> AsyncIterator[Collector]:
    """Listen on loopback for the duration of the block.

    Args:
        status: of every answer.
    """
    token = trio.lowlevel.current_trio_token()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert (self.path, self.headers["Content-Type"]) == ("/v1/traces", "application/x-protobuf")
            token.run_sync_soon(collector.take, body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        collector = Collector(f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        try:
            yield collector
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(server.shutdown)
                await trio.to_thread.run_sync(thread.join)


def _see(span: SentSpan, resource: dict[str, str | int | float | bool]) -> SeenSpan:
    return SeenSpan(
        name=span.name,
        kind=SentSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_").lower(),
        trace_id=span.trace_id.hex(),
        span_id=span.span_id.hex(),
        parent_id=span.parent_span_id.hex(),
        links=tuple((link.trace_id.hex(), link.span_id.hex()) for link in span.links),
        attributes=_read(span.attributes),
        failed=span.status.code == Status.STATUS_CODE_ERROR,
        begun=span.start_time_unix_nano,
        ended=span.end_time_unix_nano,
        resource=resource,
    )


def _read(attributes: Iterable[KeyValue]) -> dict[str, str | int | float | bool]:
    return {
        item.key: getattr(item.value, item.value.WhichOneof("value") or "string_value") for item in attributes
    }
