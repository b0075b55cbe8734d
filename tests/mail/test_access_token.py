"""XOAUTH2: a token fetched once, kept sealed, and used for the login."""

from __future__ import annotations

import base64
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import pytest
import trio

from regsvc.config import loading
from regsvc.config.mail_url import read_mail_url
from regsvc.consumer.token import StoredToken, renew, take_lease
from regsvc.errors import ConfigurationError
from regsvc.mail.outcome import Accepted, Delayed, Refused
from regsvc.mail.smtp.access_token import fetch_token
from regsvc.mail.smtp.login import TokenUnavailableError
from regsvc.mail.transport import open_place
from tests.accounts import mails
from tests.accounts.attempts import SECRETS
from tests.mail.providers import ProviderServer, Reply, hang_up
from tests.smtp_servers import PATIENCE, ScriptedServer

if TYPE_CHECKING:
    from regsvc.config.settings import Settings
    from regsvc.mail.envelope import Envelope
    from regsvc.postgres.pool import Pool
    from tests.mail.conftest import Certificates


def settings_for(server: ProviderServer) -> Settings:
    return loading.load(
        {
            "REGSVC_SECRET_KEY": "x",
            "REGSVC_MAIL_URL": "smtps://jane%40example.org@127.0.0.1?auth=xoauth2",
            "REGSVC_SMTP_OAUTH_TOKEN_URL": f"http://127.0.0.1:{server.port}/token",
            "REGSVC_SMTP_OAUTH_CLIENT_ID": "client",
            "REGSVC_SMTP_OAUTH_CLIENT_SECRET": "canary-secret",
            "REGSVC_SMTP_OAUTH_SCOPE": "https://outlook.office365.com/.default",
        },
        mode="dev",
    )


GRANTED: Reply = (200, {}, b'{"access_token": "canary-token", "expires_in": 3600, "token_type": "Bearer"}')


async def test_the_token_is_kept_sealed_and_renewed_by_one_process(pool: Pool) -> None:
    async with ProviderServer("resend", [GRANTED] * 3).running() as server:
        settings = settings_for(server)
        stored = StoredToken(pool, SECRETS)
        with pytest.raises(TokenUnavailableError):
            await stored.get()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(renew, pool, settings, SECRETS)
        assert await stored.get() == "canary-token"
        assert len(server.requests) == 1
        form = parse_qs(server.requests[0].body.decode())
        assert form["grant_type"] == ["client_credentials"]
        assert form["client_secret"] == ["canary-secret"]
        async with pool.connection() as conn:
            row = await (
                await conn.execute("SELECT sealed, renew_at - now(), expires_at - now() FROM smtp_tokens")
            ).fetchone()
        assert row is not None
        assert b"canary" not in row[0]
        assert 2690 < row[1].total_seconds() <= 2700
        assert 3590 < row[2].total_seconds() <= 3600
        await mails.execute(pool, "UPDATE smtp_tokens SET renew_at = now()")
        await renew(pool, settings, SECRETS)
        assert len(server.requests) == 2
        await mails.execute(pool, "UPDATE smtp_tokens SET expires_at = now()")
        with pytest.raises(TokenUnavailableError):
            await stored.get()


async def test_a_renewal_that_fails_is_told_and_waits(pool: Pool) -> None:
    refused: Reply = (401, {}, b'{"error": "invalid_client", "error_description": "expired"}')
    async with ProviderServer("resend", [refused]).running() as server:
        await renew(pool, settings_for(server), SECRETS)
    with pytest.raises(TokenUnavailableError, match="invalid_client") as caught:
        await StoredToken(pool, SECRETS).get()
    assert caught.value.refused
    async with pool.connection() as conn:
        assert not await take_lease(conn)


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param((200, {}, b"<html>"), id="page"),
        pytest.param((200, {}, b'{"access_token": "a\\nb"}'), id="control"),
        pytest.param((200, {}, b"x" * 100_000), id="huge"),
        pytest.param((302, {"Location": "http://127.0.0.1:1/"}, b""), id="redirect"),
        pytest.param(hang_up, id="hangs-up"),
    ],
)
async def test_a_token_server_that_misbehaves_gives_none(reply: Reply) -> None:
    async with ProviderServer("resend", [reply]).running() as server:
        with trio.fail_after(PATIENCE), pytest.raises(TokenUnavailableError) as caught:
            await fetch_token(settings_for(server))
        assert not caught.value.refused
        assert len(server.requests) == 1


@pytest.mark.parametrize("challenged", [True, False])
async def test_the_login_with_a_token(
    challenged: bool,  # noqa: FBT001 - a case
    certificates: Certificates,
    envelope: Envelope,
) -> None:
    script = (
        {"AUTH": "334 eyJzdGF0dXMiOiI0MDAifQ==", "answer": "535 5.7.8 no"}
        if challenged
        else {"AUTH": "235 2.7.0 ok"}
    )
    server = ScriptedServer(
        script,
        tls=certificates.server,
        implicit_tls=True,
        users={"jane@example.org": "x"},
        mechanisms="PLAIN XOAUTH2",
    )

    async def token() -> str:
        return "canary-token"

    async with server.running():
        place = read_mail_url(f"smtps://jane%40example.org@127.0.0.1:{server.port}?auth=xoauth2")
        transport = open_place(place, tls=certificates.client, token=token)
        with trio.fail_after(PATIENCE):
            outcome = await transport.check()
        await transport.aclose()
    (line,) = [command for command in server.commands if command.startswith("AUTH")]
    assert base64.b64decode(line.split()[2]) == b"user=jane@example.org\x01auth=Bearer canary-token\x01\x01"
    assert isinstance(outcome, Refused if challenged else Accepted)
    del envelope


async def test_without_a_token_nothing_is_sent(certificates: Certificates, envelope: Envelope) -> None:
    server = ScriptedServer(
        tls=certificates.server, implicit_tls=True, users={"j": "x"}, mechanisms="XOAUTH2"
    )

    async def token() -> str:
        raise TokenUnavailableError("not yet")

    async with server.running():
        place = read_mail_url(f"smtps://jane%40example.org@127.0.0.1:{server.port}?auth=xoauth2")
        transport = open_place(place, tls=certificates.client, token=token)
        outcome = await transport.send(envelope)
    assert isinstance(outcome, Delayed)
    assert (outcome.reason, outcome.stage) == ("auth_unavailable", "auth")


def test_the_settings_of_tokens_are_needed_together() -> None:
    load = partial(loading.load, mode="dev")
    base = {"REGSVC_SECRET_KEY": "x", "REGSVC_MAIL_URL": "smtps://jane@mail.example.org?auth=xoauth2"}
    with pytest.raises(ConfigurationError, match="needs REGSVC_SMTP_OAUTH_TOKEN_URL"):
        load(base)
    for url, said in (
        ("smtps://jane:pw@mail.example.org?auth=xoauth2", "needs a user without a password"),
        ("smtp://jane@mail.example.org?auth=xoauth2", "smtp\\+starttls"),
        ("smtps://jane:pw@mail.example.org?auth=magic", "unknown auth"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            load(base | {"REGSVC_MAIL_URL": url})
    with pytest.raises(ConfigurationError, match="both set"):
        load(base | {"REGSVC_SMTP_URL": "smtps://mail.example.org"})
