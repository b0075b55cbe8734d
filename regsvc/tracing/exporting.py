"""Spans by OpenTelemetry's SDK, sent to a collector by OTLP over HTTP from a thread of the SDK's own.

Imported only while tracing is on. The standard variables `OTEL_EXPORTER_OTLP_…`, `OTEL_SERVICE_NAME`,
`OTEL_RESOURCE_ATTRIBUTES` and `OTEL_BSP_…` are read by the SDK.
"""

from __future__ import annotations

import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import structlog
import trio
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import (
    Link,
    NonRecordingSpan,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from regsvc import __version__
from regsvc.errors import ConfigurationError
from regsvc.metrics import SPANS
from regsvc.tracing.sampling import Sampling
from regsvc.tracing.spans import recording
from regsvc.tracing.trace_context import TraceContext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import Span

    from regsvc.tracing.spans import Attributes, Kind

log = structlog.get_logger()

_KINDS: Final = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "client": SpanKind.CLIENT,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
}
_STOPPING: Final = 2.0  # seconds in which what is left is sent at the end of the process
_AT_ONCE: Final = 64  # spans encoded without a pause, which is about a millisecond of the interpreter


class RecordedSpan:
    """A span of the SDK."""

    def __init__(self, span: Span) -> None:
        self._span = span
        found = span.get_span_context()
        self.context = TraceContext(found.trace_id, found.span_id)

    @property
    def recording(self) -> bool:
        """Return whether it has not ended."""
        return self._span.is_recording()

    def name(self, name: str) -> None:
        """Give it another name."""
        self._span.update_name(name)

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""
        self._span.set_attributes(attributes)

    def link(self, context: TraceContext) -> None:
        """Add a link to another span."""
        self._span.add_link(_foreign(context))

    def fail(self) -> None:
        """Mark it as failed, without the error's words."""
        self._span.set_status(StatusCode.ERROR)

    def end(self, seconds_ago: float = 0.0) -> None:
        """End it, `seconds_ago` or now."""
        self._span.end(_moment(seconds_ago))


class SdkRecorder:
    """Begins spans of the SDK. Whether they are recorded is decided before."""

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def begin(
        self,
        name: str,
        kind: Kind,
        *,
        parent: TraceContext | None,
        links: Sequence[TraceContext],
        attributes: Attributes,
        seconds_ago: float = 0.0,
    ) -> RecordedSpan:
        """Begin a span, `seconds_ago` or now."""
        context = Context()
        if parent is not None:
            context = set_span_in_context(NonRecordingSpan(_foreign(parent)), context)
        return RecordedSpan(
            self._tracer.start_span(
                name,
                context=context,
                kind=_KINDS[kind],
                attributes=attributes,
                links=[Link(_foreign(link)) for link in links],
                start_time=_moment(seconds_ago),
                record_exception=False,
                set_status_on_exception=False,
            )
        )


class CountingExporter(SpanExporter):
    """Sends spans, counts them, and logs one line when that begins to fail and one when it works again.

    Args:
        inner: sends them.
    """

    def __init__(self, inner: SpanExporter) -> None:
        self._inner = inner
        self._working = True

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send spans, a few at a time: the event loop waits while they are encoded."""
        result = SpanExportResult.SUCCESS
        for start in range(0, len(spans), _AT_ONCE):
            part = spans[start : start + _AT_ONCE]
            done = result is SpanExportResult.SUCCESS and self._send(part)
            result = SpanExportResult.SUCCESS if done else SpanExportResult.FAILURE
            SPANS.labels("exported" if done else "lost").inc(len(part))
        working = result is SpanExportResult.SUCCESS
        if working != self._working:
            self._working = working
            if working:
                log.info("traces are exported again")
            else:
                log.warning("traces are not exported: the collector does not take them")
        return result

    def _send(self, spans: Sequence[ReadableSpan]) -> bool:
        try:
            return self._inner.export(spans) is SpanExportResult.SUCCESS
        except Exception:  # noqa: BLE001 - a certificate that cannot be read, say; the SDK's log is off
            return False

    def shutdown(self) -> None:
        """Give up what is being sent."""
        self._inner.shutdown()


@asynccontextmanager
async def open_tracing(*, ratio: float, per_second: int, role: str) -> AsyncIterator[None]:
    """Trace what happens within the block; at its end send what is left, for two seconds at most.

    Args:
        ratio: share of requests that are traced.
        per_second: traces a second at most.
        role: of the process.

    Raises:
        ConfigurationError: a standard variable has a value that the SDK does not take.
    """
    try:
        exporter = CountingExporter(OTLPSpanExporter())
        provider = TracerProvider(sampler=ALWAYS_ON, resource=_describe(role), shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(exporter))
    except (ValueError, OSError) as error:
        raise ConfigurationError(f"an OTEL_ variable is invalid: {error}") from error
    # From here on the SDK would log every attempt that fails, with the collector's URL.
    logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)
    try:
        with recording(
            SdkRecorder(provider.get_tracer("regsvc", __version__)),
            Sampling(ratio=ratio, per_second=per_second),
        ):
            yield
    finally:
        with trio.move_on_after(_STOPPING, shield=True) as scope:
            await trio.to_thread.run_sync(provider.shutdown, abandon_on_cancel=True)
        if scope.cancelled_caught:
            exporter.shutdown()


def _describe(role: str) -> Resource:
    """Return what is told of this process; the standard variables come first."""
    found = dict(Resource.create().attributes)
    if str(found["service.name"]).startswith("unknown_service"):
        del found["service.name"]
    ours = {"service.version": __version__, "service.instance.id": str(uuid4()), "regsvc.role": role}
    return Resource({"service.name": "regsvc", **ours, **found})


def _moment(seconds_ago: float) -> int:
    return time.time_ns() - int(seconds_ago * 1e9)


def _foreign(context: TraceContext) -> SpanContext:
    return SpanContext(
        context.trace_id, context.span_id, is_remote=True, trace_flags=TraceFlags(TraceFlags.SAMPLED)
    )
