"""Nothing secret is ever in a log, a metric or a message, at whatever level."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.amqp import open_channel
from tests.programs import run_program, serve_environ, talk_to
from tests.services import SECRET
from tests.smtp_servers import ScriptedServer

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


async def test_a_message_carries_the_mails_id_and_nothing_else(
    database: str, tmp_path: Path, amqp_url: str
) -> None:
    environ = serve_environ(database, tmp_path, amqp_url=amqp_url)
    async with (
        run_program("serve", "--role", "api", folder=tmp_path, environ=environ) as program,
        talk_to(program, tmp_path) as service,
    ):
        await service.sign_up(ADDRESS, PASSWORD)
        await program.wait_log("mail published")
        async with open_channel(amqp_url) as channel:
            message = await channel.get("email_confirm")
    assert message is not None
    text = repr(message)
    for secret in (PASSWORD, ADDRESS, SECRET):
        assert secret not in text
