"""What follows from a traced request later: mails of every way in, webhooks, and reports about mails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import pytest

from regsvc.accounts.events.webhooks import add_webhook
from regsvc.postgres.pool import Pool
from tests.events.happenings import OPERATOR, SECRETS
from tests.http.reports import CREDENTIALS, postmark_bounce
from tests.mail.providers import ProviderServer
from tests.services import PASSWORD, Service
from tests.tracing.collector import Collector, SeenSpan
from tests.tracing.test_tree import make_parent, run_traced

NEW = "another horse battery"


def find_request(collector: Collector, trace: str) -> SeenSpan | None:
    return next((span for span in collector.spans if (span.trace_id, span.kind) == (trace, "server")), None)


def find_followers(collector: Collector, name: str, trace: str) -> list[SeenSpan]:
    return [span for span in collector.named(name) if trace in {link[0] for link in span.links}]


async def ask(
    service: Service,
    collector: Collector,
    call: str,
    body: object,
    headers: Mapping[str, str] | None = None,
    *,
    follower: str = "send mail",
) -> Mapping[str, str]:
    """Make a call in a trace of its own, wait for what follows from it, and check that it links to the call."""
    method, path = call.split()
    trace, browser, traceparent = make_parent()
    answer = await service.client.request(
        method, f"/api/v1{path}", json=body, headers={"Traceparent": traceparent, **(headers or {})}
    )
    assert answer.is_success, answer.text
    await collector.wait(partial(find_followers, collector, follower, trace))
    await collector.wait(partial(find_request, collector, trace))
    request = find_request(collector, trace)
    assert request is not None
    assert request.parent_id == browser
    found = find_followers(collector, follower, trace)
    assert [span.links[0] for span in found] == [(trace, request.span_id)] * len(found)
    assert trace not in {span.trace_id for span in found}
    return answer.headers


async def test_each_mail_follows_from_the_request_that_asked_for_it(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_traced(database, tmp_path, monkeypatch) as (service, collector):
        signup = partial(ask, service, collector)
        person = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}
        made = await signup("POST /register", person)
        handle = {"Regsvc-Handle": made["Regsvc-Handle"]}
        await signup("POST /confirm-email/resend", {"email": "ann@example.com"}, handle)
        path = made["Location"].removeprefix("/api/v1")
        await signup(f"PATCH {path}", {"email": "ann@example.net"}, handle)
        token = await service.wait_link("confirm", "ann@example.net")
        assert (await service.post("/confirm-email", {"token": token})).status_code == 200
        await signup("POST /login/code", {"email": "ann@example.net"})
        await signup("POST /password/forgot", {"email": "ann@example.net"})
        session = await service.log_in("ann@example.net")
        change = {"current_password": PASSWORD, "new_password": NEW}
        await signup("PUT /me/password", change, session)
        session = await service.log_in("ann@example.net", NEW)
        await signup("POST /me/email", {"email": "ann@example.org", "password": NEW}, session)


async def test_a_request_that_its_client_does_not_trace_leaves_no_span(
    database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with run_traced(database, tmp_path, monkeypatch) as (service, collector):
        traceparent = make_parent()[2].removesuffix("01") + "00"
        person = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}
        await ask(service, collector, "POST /register", person | {"email": "cem@example.com"})
        answer = await service.post("/register", person, {"Traceparent": traceparent})
        assert answer.status_code == 201
        await service.wait_mail()
        await ask(service, collector, "POST /register", person | {"email": "bob@example.com"})
        assert len(collector.named("POST /api/v1/register")) == 2
        assert len(collector.named("send mail")) == 2


async def test_webhooks_and_reports_link_to_what_they_tell_of(
    database: str, pool: Pool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "REGSVC_FEEDBACK_POSTMARK": ":".join(CREDENTIALS),
        "REGSVC_WEBHOOKS_ALLOW": "127.0.0.0/8",
    }
    async with (
        ProviderServer("resend").running() as receiver,
        run_traced(database, tmp_path, monkeypatch, **settings) as (service, collector),
    ):
        async with pool.transaction() as conn:
            url = f"http://127.0.0.1:{receiver.port}/hook"
            await add_webhook(conn, SECRETS, "tests", url, types=["registration.created"], by=OPERATOR)
        person = {"email": "ann@example.com", "password": PASSWORD, "name": "Ann"}
        await ask(service, collector, "POST /register", person, follower="call webhook")
        (called,) = collector.named("call webhook")
        assert called.attributes["http.response.status_code"] == 200
        assert called.attributes["regsvc.event.type"] == "registration.created"
        (request,) = collector.named("POST /api/v1/register")
        mail = await service.wait_mail()
        mail_id = str(mail.message["Message-ID"]).strip("<>").partition("@")[0]
        told = await service.client.post(
            "/api/v1/feedback/postmark", json=postmark_bounce(mail_id), auth=CREDENTIALS
        )
        assert told.json() == {"applied": 1}
        report = await collector.wait_span("POST /api/v1/feedback/{id}")
        assert report.links == ((request.trace_id, request.span_id),)
        exported = b"".join(collector.bodies).decode("latin-1")
        for private in ("ann@", "example.com", json.dumps(CREDENTIALS[1]), "/hook"):
            assert private not in exported
