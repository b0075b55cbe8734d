"""The header `traceparent` (W3C Trace Context, 3.2), and what is kept with a row."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regsvc.tracing.trace_context import TraceContext, parse_traceparent, read_stored

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
IDS = TraceContext(int(TRACE, 16), int(SPAN, 16))


@pytest.mark.parametrize(
    ("text", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"01-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
    ],
)
def test_a_valid_header_is_read(text: str, *, sampled: bool) -> None:
    assert parse_traceparent(text) == (IDS, sampled)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"00-{TRACE}-{SPAN}",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-01-",
        f"00-{TRACE}-{SPAN}-01-more",
        f"01-{TRACE}-{SPAN}-01more",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-0g",
        f" 00-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01\n",
        f"00_{TRACE}_{SPAN}_01",
        f"00-{TRACE[:-1]}\u0661-{SPAN}-01",
    ],
    ids=[str(number) for number in range(16)],
)
def test_an_invalid_header_counts_as_none(text: str) -> None:
    assert parse_traceparent(text) is None


@given(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1))
def test_what_is_written_is_read_again(trace_id: int, span_id: int) -> None:
    context = TraceContext(trace_id, span_id)
    assert parse_traceparent(context.header) == (context, True)
    assert len(context.stored) == 24
    assert read_stored(context.stored) == context


@pytest.mark.parametrize("stored", [None, b"", b"\0" * 23, b"\1" * 25])
def test_other_bytes_are_no_context(stored: bytes | None) -> None:
    assert read_stored(stored) is None


@given(st.text(alphabet="0123456789abcdef-", max_size=70))
def test_any_text_is_read_or_refused(text: str) -> None:
    found = parse_traceparent(text)
    assert found is None or found[0].header.split("-")[1] == text.split("-")[1]
