"""Nothing secret is ever in a log, a metric or a message, at whatever level."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import httpx
import psycopg
import pytest
import trio

from regsvc.security.tokens import read_link_token
from tests.amqp import open_channel
from tests.canaries import Canaries
from tests.databases import run_sql
from tests.http.reports import CREDENTIALS
from tests.http.test_openapi import follow_a_sign_up
from tests.programs import run_program, serve_environ, talk_to
from tests.services import SECRET, read_all_mails
from tests.smtp_servers import ScriptedServer
from tests.suite.ports import take_port

PASSWORD = "canary-password-8c1f"
ADDRESS = "canary.address@example.com"
SMTP_PASSWORD = "canary-smtp-5d2e"


@pytest.mark.parametrize("level", ["info", "debug"])
async def test_no_log_line_has_a_secret(database: str, tmp_path: Path, level: str) -> None:
    async with ScriptedServer().running() as server:
        url = server.url.replace("smtp://", f"smtp://someone:{SMTP_PASSWORD}@")
        environ = serve_environ(database, tmp_path, log_level=level)
        seen: set[str] = {PASSWORD, ADDRESS, SECRET}
        async with (
            run_program("serve", folder=tmp_path, environ=environ) as program,
            talk_to(program, tmp_path) as service,
        ):
            signed_up = await service.sign_up(ADDRESS, PASSWORD)
            handle = signed_up.headers["Regsvc-Handle"]
            mail = await service.wait_mail(ADDRESS)
            await service.client.get(f"/api/v1/confirm-email?token={mail.token}")
            await service.client.get(f"/confirm?t={mail.token}")
            body = {"registration": signed_up.headers["Location"].rpartition("/")[2], "code": mail.code}
            await service.post("/confirm-email/code", body, {"Regsvc-Handle": handle})
            await service.post("/confirm-email", {"token": mail.token, "password": PASSWORD})
            tokens = (await service.post("/login", {"email": ADDRESS, "password": PASSWORD})).json()
            await service.post("/login", {"email": ADDRESS, "password": PASSWORD + "x"})
            headers = {"Authorization": f"Bearer {tokens['access_token']}"}
            await service.client.get("/api/v1/me", headers=headers)
            await service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]})
            metrics = (await service.client.get("/metrics")).text
            seen |= {mail.token, handle, tokens["access_token"], tokens["refresh_token"]}
            await program.stop()
            said = program.log()
        # What a failing day says: a database and a mail server that refuse, with passwords in their URLs.
        failing = environ | {
            "REGSVC_SMTP_URL": url,
            "REGSVC_AMQP_URL": "amqp://u:canary-amqp-77@127.0.0.1:1/",
        }
        seen |= {SMTP_PASSWORD, "canary-amqp-77"}
        async with (
            run_program("serve", folder=tmp_path, environ=failing) as program,
            talk_to(program, tmp_path) as service,
        ):
            await service.sign_up(ADDRESS, PASSWORD)
            await program.wait_log("child failed")
            await program.stop()
            said += program.log()
    for secret in seen:
        assert secret not in said, secret
        assert secret not in metrics
    assert f" {mail.code}" not in said
    assert f'"{mail.code}"' not in said
    assert "c***@example.com" in said


async def test_no_call_leaves_a_secret_anywhere(database: str, tmp_path: Path) -> None:
    """Every call there is, and then every one while the database has lost a table: bugs leave tracebacks."""
    canaries = Canaries()
    reports = ":".join(CREDENTIALS)
    port = take_port()  # passkeys belong to the origin that the service names
    url = f"http://127.0.0.1:{port}"
    environ = serve_environ(database, tmp_path, log_level="debug", feedback_postmark=reports, public_url=url)
    async with (
        run_program("serve", folder=tmp_path, environ=environ, port=port) as program,
        httpx.AsyncClient(base_url=program.url, timeout=60, event_hooks=canaries.hooks) as client,
        talk_to(program, tmp_path) as talking,
    ):
        service = replace(talking, client=client)
        await follow_a_sign_up(service)
        for mail in read_all_mails(service.mailbox):
            canaries.see_mail(mail)
        metrics = (await client.get("/metrics")).text
        stored = dump(database)
        run_sql(database, "ALTER TABLE users RENAME TO lost", "ALTER TABLE registrations RENAME TO lost_too")
        run_sql(database, "ALTER TABLE refresh_tokens RENAME TO lost_as_well")
        for path, body in failing_calls(canaries):
            assert (await service.post(path, body)).status_code == 500
        await program.stop()
    assert len(canaries.secrets) > 30
    assert program.log().count("Traceback") >= len(canaries.failures) > 3
    assert canaries.open_answers
    for text in (program.log(), metrics, *stored.values(), *canaries.open_answers, *canaries.failures):
        assert canaries.find_in(text) == []
    for address in canaries.addresses:
        assert address not in metrics
        assert address not in program.log()
        assert not any(address in text for text in canaries.failures)


def dump(database: str) -> dict[str, str]:
    """Return all that is stored, by table: a dump confirms nobody, and logs nobody in."""
    with psycopg.connect(database) as conn:
        tables = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        return {
            table: "\n".join(str(row) for row in conn.execute(f"TABLE {table}".encode()).fetchall())
            for (table,) in tables
        }


def failing_calls(canaries: Canaries) -> list[tuple[str, dict[str, str]]]:
    """Return calls that bring secrets to a database without its tables."""
    token = next(secret for secret in sorted(canaries.secrets) if read_link_token(secret) is not None)
    person = {"email": ADDRESS, "password": PASSWORD}
    return [
        ("/register", person | {"name": "Ann"}),
        ("/login", person),
        ("/confirm-email", {"token": token}),
        ("/token/refresh", {"refresh_token": "canary-refresh-77ab31"}),
    ]


async def test_a_message_carries_the_mails_id_and_nothing_else(
    database: str, tmp_path: Path, amqp_url: str
) -> None:
    environ = serve_environ(database, tmp_path, amqp_url=amqp_url)
    async with (
        run_program("serve", "--role", "api", folder=tmp_path, environ=environ) as program,
        talk_to(program, tmp_path) as service,
    ):
        await service.sign_up(ADDRESS, PASSWORD)
        await service.post("/confirm-email/resend", {"email": ADDRESS})
        await service.post("/password/forgot", {"email": ADDRESS})
        with trio.fail_after(20):
            while len(program.events("mail published")) < 3:  # noqa: ASYNC110 - a file has no event
                await trio.sleep(0.05)
        async with open_channel(amqp_url) as channel:
            messages = [await channel.get("email_confirm") for _ in range(3)]
    for message in messages:
        assert message is not None
        body = json.loads(message.body)
        assert body == {"id": str(UUID(body["id"])), "kind": "mail"}
        text = repr(message)
        for secret in (PASSWORD, ADDRESS, SECRET):
            assert secret not in text
