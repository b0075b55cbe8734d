"""One sign-up as a collector sees it, from the browser's span to the mail server's reply. `make trace` prints it."""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path

import httpx
import pytest

from tests.canaries import Canaries
from tests.services import PASSWORD, PLAIN, Mail, Service, run_test_service
from tests.smtp_servers import ScriptedServer
from tests.tracing.collector import Collector, SeenSpan, open_collector

STAGES = ["SMTP connect", "SMTP greeting", "SMTP ehlo", "SMTP mail", "SMTP rcpt", "SMTP data", "SMTP dot"]


@asynccontextmanager
async def run_traced(
    database: str,
    folder: Path,
    patch: pytest.MonkeyPatch,
    **settings: str,
) -> AsyncIterator[tuple[Service, Collector]]:
    """Run the service with a collector of its own."""
    async with open_collector() as collector:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        async with run_test_service(database, folder, {"REGSVC_TRACES": "on"} | settings) as service:
            yield service, collector


def make_parent() -> tuple[str, str, str]:
    """Return the trace, the span and the header of a browser."""
    trace, span = secrets.token_hex(16), secrets.token_hex(8)
    return trace, span, f"00-{trace}-{span}-01"


def show(collector: Collector, browser: str, request: SeenSpan) -> None:
    """Write the tree where `make trace` reads it."""
    place = os.environ.get("REGSVC_TEST_TRACE")
    if place is not None:
        with Path(place).open("a") as file:
            print(f"browser {browser}", *collector.draw(request, indent="  "), "", sep="\n", file=file)


async def sign_up(service: Service, canaries: Canaries, traceparent: str) -> None:
    async with httpx.AsyncClient(
        base_url=service.url, verify=PLAIN, timeout=60, event_hooks=canaries.hooks
    ) as client:
        answer = await client.post(
            "/api/v1/register",
            json={"email": "ann@example.com", "password": PASSWORD, "name": "Ann Example"},
            headers={"Traceparent": traceparent, "User-Agent": "canary-browser/1.0"},
        )
        assert answer.status_code == 201
        handle = answer.headers["Regsvc-Handle"]
        read = await client.get(answer.headers["Location"], headers={"Regsvc-Handle": handle})
        assert read.status_code == 200


def check_request(collector: Collector, trace: str, browser: str) -> SeenSpan:
    """Check the part of the browser's trace, and return the span of the request."""
    (request,) = collector.named("POST /api/v1/register")
    assert (request.trace_id, request.parent_id, request.kind) == (trace, browser, "server")
    assert request.attributes["http.route"] == "/api/v1/register"
    assert request.attributes["http.response.status_code"] == 201
    assert not request.failed
    below = collector.children(request)
    names = [span.name for span in below if span.kind != "producer"]
    assert set(names) >= {
        "wait for a hashing thread",
        "password hash",
        "wait for a connection",
        "database",
    }
    for span in below:
        assert span.begun >= request.begun
        assert span.kind == "producer" or span.ended <= request.ended
    return request


def check_sending(collector: Collector, sending: SeenSpan, *followed: SeenSpan) -> None:
    """Check that a mail was sent in a trace of its own, which links to what it follows from."""
    assert sending.parent_id == ""
    assert sending.trace_id not in {span.trace_id for span in followed}
    assert sending.links == tuple((span.trace_id, span.span_id) for span in followed)
    assert sending.attributes["regsvc.mail.outcome"] == "accepted"
    stages = collector.children(sending)
    assert [span.name for span in stages] == STAGES
    assert [span.attributes.get("smtp.reply.code") for span in stages] == [None, 220, 250, 250, 250, 354, 250]
    assert stages[-1].attributes["smtp.reply.enhanced_code"] == "2.0.0"


def check_secrets(collector: Collector, canaries: Canaries, smtp: ScriptedServer) -> None:
    """Check that nothing that was exported is a secret or says who it was."""
    for received in smtp.mails:
        message = message_from_bytes(received.data, policy=policy.default)
        assert isinstance(message, EmailMessage)
        body = message.get_body(("plain",))
        assert body is not None
        mail = Mail(message, body.get_content().replace("\r\n", "\n"))
        canaries.see_mail(mail)
        values = [str(value) for span in collector.spans for value in span.attributes.values()]
        assert not [value for value in values if mail.code in value]
    exported = b"".join(collector.bodies).decode("latin-1")
    assert len(canaries.secrets) >= 3  # password, handle, token
    assert canaries.find_in(exported) == []
    for private in ("ann@", "example.com", "Ann Example", "127.0.0", "canary-browser", PASSWORD):
        assert private not in exported


@pytest.mark.timeout(120)
async def test_a_sign_up_is_one_trace_over_rabbitmq_to_the_smtp_reply(
    database: str, amqp_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canaries = Canaries()
    async with (
        ScriptedServer().running() as smtp,
        run_traced(database, tmp_path, monkeypatch, REGSVC_SMTP_URL=smtp.url, REGSVC_AMQP_URL=amqp_url) as (
            service,
            collector,
        ),
    ):
        trace, browser, header = make_parent()
        await sign_up(service, canaries, header)
        sending = await collector.wait_span("send mail")
        await collector.wait(lambda: collector.named("POST /api/v1/register"))
        request = check_request(collector, trace, browser)
        (published,) = collector.named("publish email_confirm")
        assert (published.trace_id, published.parent_id) == (trace, request.span_id)
        assert (published.kind, published.attributes["messaging.system"]) == ("producer", "rabbitmq")
        assert published.attributes["messaging.message.id"] == sending.attributes["messaging.message.id"]
        check_sending(collector, sending, request, published)
        show(collector, browser, request)
        assert collector.named("GET /api/v1/registrations/{id}")
        assert not [span for span in collector.spans if span.trace_id == trace and "GET" in span.name]
    check_secrets(collector, canaries, smtp)


async def test_without_a_broker_the_mail_follows_from_the_request_alone(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canaries = Canaries()
    async with (
        ScriptedServer().running() as smtp,
        run_traced(database, tmp_path, monkeypatch, REGSVC_SMTP_URL=smtp.url) as (service, collector),
    ):
        trace, browser, header = make_parent()
        await sign_up(service, canaries, header)
        sending = await collector.wait_span("send mail")
        await collector.wait(lambda: collector.named("POST /api/v1/register"))
        request = check_request(collector, trace, browser)
        check_sending(collector, sending, request)
        show(collector, browser, request)
    check_secrets(collector, canaries, smtp)
