"""The mail server: every way to it, every kind of no, and who carries on when a worker dies in the middle."""

from __future__ import annotations

import email
import email.policy
import signal
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest
import trio
import trustme

from tests.databases import run_sql
from tests.programs import run_program, serve_environ, talk_to
from tests.proxies import open_proxy
from tests.services import Mail, Service, run_test_service
from tests.smtp_servers import Hold, ReceivedMail, ScriptedServer

LEASE = 45  # seconds after which a mail of a dead worker is anybody's
USERS = {"jane@example.org": "päss:word/"}
CREDENTIALS = "jane%40example.org:p%C3%A4ss%3Aword%2F"


def read_mail(received: ReceivedMail) -> Mail:
    """Take a mail apart."""
    message = email.message_from_bytes(received.data, policy=email.policy.default)
    assert isinstance(message, email.message.EmailMessage)
    body = message.get_body(("plain",))
    assert body is not None
    return Mail(message, body.get_content().replace("\r\n", "\n"))


async def wait_shown(service: Service, signed_up: httpx.Response, state: str) -> Mapping[str, Any]:
    """Wait until a registration shows a state."""
    headers = {"Regsvc-Handle": signed_up.headers["Regsvc-Handle"]}
    seq = 0
    with trio.fail_after(20):
        while True:
            where = f"{signed_up.headers['Location']}?wait=25&seq={seq}"
            shown: dict[str, Any] = (await service.client.get(where, headers=headers)).json()
            if shown["state"] == state:
                return shown
            seq = shown["seq"]


@pytest.mark.parametrize("scheme", ["smtp", "smtp+starttls", "smtps"])
async def test_mail_goes_out_encrypted_and_logged_in_as_the_url_says(
    database: str, tmp_path: Path, scheme: str
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(tls)
    plain = scheme == "smtp"
    server = (
        ScriptedServer() if plain else ScriptedServer(tls=tls, users=USERS, implicit_tls=scheme == "smtps")
    )
    async with server.running() as smtp:
        who = "" if plain else f"{CREDENTIALS}@"
        environ = serve_environ(database, tmp_path, smtp_url=f"{scheme}://{who}localhost:{smtp.port}")
        environ["SSL_CERT_FILE"] = str(tmp_path / "authority.pem")
        async with (
            run_program("serve", folder=tmp_path, environ=environ) as program,
            talk_to(program, tmp_path) as service,
        ):
            signed_up = await service.sign_up()
            (received,) = await smtp.wait_mails(1)
            assert received.recipient == "ann@example.com"
            await wait_shown(service, signed_up, "sent")
            confirmed = await service.post("/confirm-email", {"token": read_mail(received).token})
            assert confirmed.status_code == 200
            assert ("AUTH" in smtp.steps) == (not plain)
            program.check_log()
            assert "word/" not in program.log()
            assert CREDENTIALS not in program.log()


async def test_what_fails_for_now_is_shown_as_delayed_and_sent_later(database: str, tmp_path: Path) -> None:
    script = {"RCPT": ["451 4.3.0 try again later"]}
    async with (
        ScriptedServer(script).running() as smtp,
        open_proxy(("127.0.0.1", smtp.port)) as proxy,
        run_test_service(
            database, tmp_path, {"REGSVC_SMTP_URL": f"smtp://127.0.0.1:{proxy.port}"}
        ) as service,
    ):
        await proxy.refuse()
        unreachable = await service.sign_up("ann@example.com")
        shown = await wait_shown(service, unreachable, "delayed")
        assert shown["reason"] == "connect_failed"
        assert shown["next_try_at"]
        await proxy.listen()
        put_off = await service.sign_up("bob@example.com")
        shown = await wait_shown(service, put_off, "delayed")
        assert shown["reason"] == "temporary_failure"
        assert shown["next_try_at"]
        for signed_up in (unreachable, put_off):
            shown = await wait_shown(service, signed_up, "sent")
            assert (shown["attempts"], shown["reason"], shown["next_try_at"]) == (2, None, None)
        assert sorted(mail.recipient for mail in smtp.mails) == ["ann@example.com", "bob@example.com"]


async def test_what_fails_for_good_is_shown_as_bounced_and_not_tried_again(
    database: str, tmp_path: Path
) -> None:
    script = {"RCPT": ["550 5.1.1 no such user"]}
    async with (
        ScriptedServer(script).running() as smtp,
        run_test_service(database, tmp_path, {"REGSVC_SMTP_URL": smtp.url}) as service,
    ):
        shown = await wait_shown(service, await service.sign_up("nobody@example.com"), "bounced")
        assert (shown["reason"], shown["next_try_at"]) == ("recipient_refused", None)
        # Others are not concerned.
        await wait_shown(service, await service.sign_up("ann@example.com"), "sent")
        assert [mail.recipient for mail in smtp.mails] == ["ann@example.com"]


@pytest.mark.parametrize(
    ("step", "copies"),
    [pytest.param("DATA", 1, id="before the dot"), pytest.param("DOT", 2, id="after it")],
)
async def test_a_worker_that_is_killed_with_a_mail_in_hand_is_followed_by_another(
    database: str, tmp_path: Path, step: str, copies: int
) -> None:
    go_on = trio.Event()
    async with ScriptedServer({step: Hold(go_on)}).running() as smtp:
        environ = serve_environ(database, tmp_path, smtp_url=smtp.url)
        async with (
            run_program("serve", folder=tmp_path, environ=environ) as first,
            talk_to(first, tmp_path) as service,
        ):
            await service.sign_up()
            await smtp.wait(lambda: step in smtp.steps)
            assert await first.stop(signal.SIGKILL) == -signal.SIGKILL
        go_on.set()
        with psycopg.connect(database) as connection:
            rows = connection.execute(
                "SELECT state, extract(epoch FROM due_at - now())::float8 FROM mails"
            ).fetchall()
        ((state, seconds_left),) = rows
        assert state == "sending"
        assert 0 < seconds_left <= LEASE
        # Which is not waited for here.
        run_sql(database, "UPDATE mails SET due_at = now()")
        async with run_program("serve", "--role", "worker", folder=tmp_path, environ=environ) as second:
            await smtp.wait_mails(copies)
            await second.wait_log("mail accepted")
            second.check_log()
        # Whoever got it twice sees one mail: the same id, link and code.
        received = [read_mail(mail) for mail in smtp.mails]
        assert len(received) == copies
        assert len({(mail.message["Message-ID"], mail.token, mail.code) for mail in received}) == 1
