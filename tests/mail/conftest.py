"""What the mail tests share: certificates for loopback, and a mail to send."""

from __future__ import annotations

import ssl
from dataclasses import dataclass

import pytest
import trustme

from regsvc.mail.envelope import Envelope

MAIL = b"Message-ID: <1@example.org>\r\nSubject: hello\r\n\r\nhello\r\n"


@dataclass(frozen=True)
class Certificates:
    """Both ends of a TLS connection to 127.0.0.1, and their authority as PEM."""

    server: ssl.SSLContext
    client: ssl.SSLContext
    authority: bytes


@pytest.fixture(scope="session")
def certificates() -> Certificates:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    return Certificates(server, client, authority.cert_pem.bytes())


@pytest.fixture
def envelope() -> Envelope:
    return Envelope("no-reply@example.org", "jane@example.net", MAIL)
