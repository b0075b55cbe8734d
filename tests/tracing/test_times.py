"""The histograms of what a request or a mail waits for, and the spans of the same moments."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
import trio
import trio.testing
from prometheus_client import REGISTRY

from regsvc.config.mail_url import parse_mail_url
from regsvc.config.provider_url import MailProvider
from regsvc.mail.envelope import Envelope
from regsvc.mail.providers.transport import ProviderTransport
from regsvc.postgres.pool import Pool
from regsvc.security.lane import Lane
from regsvc.tracing.sampling import Sampling
from regsvc.tracing.spans import Attributes, Kind, begin_request, entered, get_span, record, recording
from regsvc.tracing.trace_context import TraceContext
from tests.mail.conftest import MAIL
from tests.mail.providers import ProviderServer, hang_up
from tests.mail.test_smtp import transport_to
from tests.smtp_servers import HangUp, ScriptedServer


@dataclass
class KeptSpan:
    """A span that is kept here."""

    name_: str
    context: TraceContext
    begun: float
    attributes: dict[str, object] = field(default_factory=dict)
    failed: bool = False
    ended: float | None = None

    @property
    def recording(self) -> bool:
        """Return whether it has not ended."""
        return self.ended is None

    def name(self, name: str) -> None:
        """Give it another name."""
        self.name_ = name

    def note(self, attributes: Attributes) -> None:
        """Add attributes."""
        self.attributes |= attributes

    def link(self, context: TraceContext) -> None:
        """Refuse: nothing here has links."""
        raise NotImplementedError

    def fail(self) -> None:
        """Mark it as failed."""
        self.failed = True

    def end(self, seconds_ago: float = 0.0) -> None:
        """End it."""
        self.ended = time.monotonic() - seconds_ago


@dataclass
class Keeper:
    """Keeps spans, in the order in which they begin."""

    spans: list[KeptSpan] = field(default_factory=list)

    def begin(
        self,
        name: str,
        kind: Kind,
        *,
        parent: TraceContext | None,
        links: Sequence[TraceContext],
        attributes: Attributes,
        seconds_ago: float = 0.0,
    ) -> KeptSpan:
        """Begin a span and keep it."""
        del kind, links
        number = len(self.spans) + 1
        context = TraceContext(parent.trace_id if parent else number, number)
        span = KeptSpan(name, context, time.monotonic() - seconds_ago, dict(attributes))
        self.spans.append(span)
        return span

    def shown(self) -> list[tuple[str, dict[str, object], bool]]:
        """Return name, attributes and failure of each span that has ended, but for the request's own."""
        return [(span.name_, span.attributes, span.failed) for span in self.spans[1:] if span.ended]


@pytest.fixture
def keeper() -> Iterator[Keeper]:
    """Keeps what happens in the request that the test is."""
    keeper = Keeper()
    with recording(keeper, Sampling(ratio=1, per_second=1)):
        span = begin_request([])
        assert span is not None
        with entered(span):
            yield keeper
    assert get_span() is None


def count(metric: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"{metric}_count", labels) or 0.0


def count_stages() -> dict[tuple[str, str], float]:
    return {
        (sample.labels["stage"], sample.labels["outcome"]): sample.value
        for family in REGISTRY.collect()
        if family.name == "regsvc_smtp_stage_seconds"
        for sample in family.samples
        if sample.name.endswith("_count")
    }


def subtract(
    after: Mapping[tuple[str, str], float], before: Mapping[tuple[str, str], float]
) -> dict[tuple[str, str], float]:
    return {key: value - before.get(key, 0) for key, value in after.items() if value != before.get(key, 0)}


ENVELOPE = Envelope("no-reply@example.org", "jane@example.net", MAIL)
OPENED = {("connect", "ok"): 1, ("greeting", "ok"): 1, ("ehlo", "ok"): 1}


@pytest.mark.parametrize(
    ("script", "stages"),
    [
        ({}, {("mail", "ok"): 1, ("rcpt", "ok"): 1, ("data", "ok"): 1, ("dot", "ok"): 1}),
        (
            {"RCPT": "550 5.1.1 no such user", "DATA": "503 5.5.1 no recipient"},
            {("mail", "ok"): 1, ("rcpt", "permanent"): 1, ("data", "permanent"): 1},
        ),
        ({"MAIL": HangUp()}, {("mail", "lost"): 1}),
        (
            {"DOT": "451 4.7.1 later"},
            {("mail", "ok"): 1, ("rcpt", "ok"): 1, ("data", "ok"): 1, ("dot", "transient"): 1},
        ),
    ],
    ids=["taken", "refused", "hung up", "put off"],
)
async def test_each_stage_of_smtp_is_counted_by_its_outcome(
    keeper: Keeper, script: Mapping[str, str | HangUp], stages: Mapping[tuple[str, str], float]
) -> None:
    before = count_stages()
    async with ScriptedServer(script).running() as server, transport_to(server) as transport:
        await transport.send(ENVELOPE)
        found = subtract(count_stages(), before)
    assert found == {**OPENED, **stages}
    spans = keeper.shown()
    assert [name for name, _, _ in spans] == [f"SMTP {stage}" for stage, _ in (*OPENED, *stages)]
    assert [failed for _, _, failed in spans] == [outcome != "ok" for _, outcome in (*OPENED, *stages)]
    if "RCPT" in script:
        refused = next(attributes for name, attributes, _ in spans if name == "SMTP rcpt")
        assert refused == {"smtp.reply.code": 550, "smtp.reply.enhanced_code": "5.1.1"}


@pytest.mark.parametrize(
    ("replies", "outcome", "attributes"),
    [
        ([], "ok", {"http.response.status_code": 200}),
        ([(401, {}, b"{}")], "permanent", {"http.response.status_code": 401}),
        ([(503, {}, b"{}")], "transient", {"http.response.status_code": 503}),
        ([hang_up], "lost", {}),
    ],
    ids=["taken", "refused", "put off", "hung up"],
)
async def test_a_request_to_a_provider_is_a_stage(
    keeper: Keeper, replies: Sequence[tuple[int, dict[str, str], bytes]], outcome: str, attributes: object
) -> None:
    before = count_stages()
    async with ProviderServer("resend", replies).running() as server:
        place = parse_mail_url(server.url)
        assert isinstance(place, MailProvider)
        transport = ProviderTransport(place)
        await transport.send(ENVELOPE)
        await transport.aclose()
    assert subtract(count_stages(), before) == {("request", outcome): 1}
    assert keeper.shown() == [("mail provider request", attributes, outcome != "ok")]


async def test_waiting_for_a_connection_and_using_it_are_told_apart(database: str, keeper: Keeper) -> None:
    pool = Pool(database, size=1, wait=20, limit=20, application_name="regsvc times")
    labels = {"use": "times"}
    lent, enough = trio.Event(), trio.Event()

    async def hold() -> None:
        async with pool.connection():
            lent.set()
            await enough.wait()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hold)
        await lent.wait()
        begun = time.monotonic()

        async def free() -> None:
            with trio.fail_after(20):
                while not pool.statistics().waiting:  # noqa: ASYNC110 - a pool has no event
                    await trio.sleep(0.01)
            await trio.sleep(0.1)
            enough.set()

        nursery.start_soon(free)
        async with pool.transaction() as conn:
            waited = time.monotonic() - begun
            await conn.execute("SELECT 1")
    await pool.aclose()
    assert count("regsvc_database_wait_seconds", **labels) == 2
    assert count("regsvc_database_use_seconds", **labels) == 2
    told = REGISTRY.get_sample_value("regsvc_database_wait_seconds_sum", labels)
    assert told is not None
    assert told >= 0.1
    assert waited >= 0.1
    names = [name for name, _, _ in keeper.shown()]
    assert names == ["wait for a connection", "database"] * 2
    waiting, using = keeper.spans[3:5]
    assert waiting.ended is not None
    assert waiting.ended - waiting.begun >= 0.1
    assert abs(waiting.ended - using.begun) < 0.05


async def test_waiting_for_a_hashing_thread_and_hashing_are_told_apart(keeper: Keeper) -> None:
    before = count("regsvc_password_hash_wait_seconds")
    async with Lane(threads=1) as lane, trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(lane.run, lambda: time.sleep(0.1))
    assert count("regsvc_password_hash_wait_seconds") - before == 2
    names = [name for name, _, _ in keeper.shown()]
    assert names == ["wait for a hashing thread", "password hash"] * 2
    lengths = [(span.ended or 0) - span.begun for span in keeper.spans[1:]]
    assert lengths[1] >= 0.1
    assert lengths[2] >= 0.1, "the second one waited for the first"
    assert lengths[3] >= 0.1


async def test_what_happens_after_the_request_is_no_part_of_it(keeper: Keeper) -> None:
    """A task that outlives the request still has its span."""
    begin = trio.Event()

    async def late() -> None:
        await begin.wait()
        record("late", 1.0)
        assert get_span() is None

    async with trio.open_nursery() as nursery:
        nursery.start_soon(late)
        await trio.testing.wait_all_tasks_blocked()
        keeper.spans[0].end()
        begin.set()
    assert keeper.shown() == []


def test_off_nothing_is_recorded() -> None:
    assert begin_request(["00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"]) is None
    record("nothing", 1.0)
    assert get_span() is None
