"""A webhook's certificate is checked for its name, while the address that was checked is dialled."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trio
import trustme

from regsvc.webhooks import request
from regsvc.webhooks.request import UnreachableError, post
from tests.events.happenings import LOOPBACK
from tests.events.test_networks import Names
from tests.mail.providers import ProviderServer

NAME = "hooks.example.org"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def fresh_authorities() -> Iterator[None]:
    """What the system trusts is read again, as a process does at its start."""
    request._system_authorities.cache_clear()
    yield
    request._system_authorities.cache_clear()


class Seen:
    """A server's certificate, and the names that clients ask for."""

    def __init__(self, authority: trustme.CA, *names: str) -> None:
        self.names: list[str | None] = []
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(*names).configure_cert(self.tls)
        self.tls.sni_callback = lambda _, name, __: self.names.append(name)


async def call(server: ProviderServer, **how: Any) -> int:
    """Post to the name, which resolves to this machine once, and to an inner address after that."""
    trio.socket.set_custom_hostname_resolver(Names(["127.0.0.1"], ["10.0.0.1"]))
    reply = await post(
        f"https://{NAME}:{server.port}/hook", {}, b"{}", **{"allowed": LOOPBACK, "seconds": 15, **how}
    )
    return reply.status


async def test_an_authority_of_ones_own_is_refused_unless_the_system_trusts_it(
    authority: trustme.CA, fresh_authorities: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = Seen(authority, NAME)
    async with ProviderServer("resend", tls=seen.tls).running() as server:
        with pytest.raises(UnreachableError, match=r"^certificate refused: "):
            await call(server)
        assert server.requests == []
        trusted = tmp_path / "authorities.pem"
        authority.cert_pem.write_to_path(trusted)
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        request._system_authorities.cache_clear()
        assert await call(server) == 200
        assert seen.names[-1] == NAME, "the name is asked for, not the address"


@pytest.mark.parametrize("name", ["other.example.org", "127.0.0.1", "example.org"])
async def test_a_certificate_of_another_name_is_refused(authority: trustme.CA, name: str) -> None:
    """That of the dialled address too: the name in the URL counts."""
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with ProviderServer("resend", tls=Seen(authority, name).tls).running() as server:
        with pytest.raises(UnreachableError, match=r"^certificate refused: "):
            await call(server, tls=trusting)
        assert server.requests == []


async def test_a_server_without_tls_is_told_apart(authority: trustme.CA) -> None:
    async with ProviderServer("resend").running() as server:
        with pytest.raises(UnreachableError, match=r"^(TLS failed|disconnected)$"):
            await call(server)
        assert server.requests == []


async def test_a_certificate_that_is_over_is_refused(authority: trustme.CA) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    past = datetime.now(UTC) - timedelta(days=1)
    authority.issue_cert(NAME, not_after=past).configure_cert(tls)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with ProviderServer("resend", tls=tls).running() as server:
        with pytest.raises(UnreachableError, match="expired"):
            await call(server, tls=trusting)
