"""The whole service in this process, on a real database and a Maildir: what most tests of the API talk to."""

from __future__ import annotations

import email
import email.policy
import os
import re
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from email.parser import BytesHeaderParser
from functools import cache, lru_cache
from pathlib import Path

import httpx
import pytest
import trio

from regsvc.config import loading
from regsvc.config.settings import Settings
from regsvc.program import run_service
from regsvc.security import passwords
from tests.suite.ports import take_port

SECRET = "a secret of the tests that is long enough"
PASSWORD = "correct horse battery"
# bcrypt's least: a test hashes some ten passwords, and what hashes cost is shown where it is the subject.
CHEAP_COST = 4
# For clients that use no TLS: httpx would read all authorities of the machine for each.
PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True)
class Mail:
    """What a mail brought."""

    message: EmailMessage
    text: str

    @property
    def token(self) -> str:
        """The token of its link."""
        return self.token_for("confirm")

    def token_for(self, page: str) -> str:
        """The token of its link to a page."""
        return self._find(rf"^http\S+/{page}#t=([A-Za-z0-9._~-]+)$")

    @property
    def code(self) -> str:
        """Its six digits."""
        return self._find(r"\b(\d{6})$")

    def _find(self, pattern: str) -> str:
        found = re.search(pattern, self.text, re.MULTILINE)
        assert found, self.text
        return found[1]


@dataclass(frozen=True)
class Service:
    """A running service.

    Args:
        url: where it listens.
        client: speaks to it.
        settings: it runs with.
        mailbox: the Maildir that its mail goes into.
    """

    url: str
    client: httpx.AsyncClient
    settings: Settings
    mailbox: Path

    async def post(self, path: str, body: object, headers: Mapping[str, str] | None = None) -> httpx.Response:
        """Post JSON to a call of the API."""
        return await self.client.post(f"/api/v1{path}", json=body, headers=headers)

    async def sign_up(
        self, address: str = "ann@example.com", password: str = PASSWORD, *, name: str = "Ann"
    ) -> httpx.Response:
        """Register somebody."""
        answer = await self.post("/register", {"email": address, "password": password, "name": name})
        assert answer.status_code == 201, answer.text
        return answer

    async def wait_mail(self, address: str = "ann@example.com", *, number: int = 1) -> Mail:
        """Wait for so many mails to an address and return the last."""
        with trio.fail_after(20):
            while len(found := self.mails(address)) < number:  # noqa: ASYNC110 - a folder has no event
                await trio.sleep(0.02)
        return found[-1]

    async def wait_link(self, page: str, address: str = "ann@example.com") -> str:
        """Wait for a mail to an address with a link to a page, and return the newest such link's token."""
        with trio.fail_after(20):
            while True:
                for mail in reversed(self.mails(address)):
                    with suppress(AssertionError):
                        return mail.token_for(page)
                await trio.sleep(0.02)

    def mails(self, address: str) -> list[Mail]:
        """Return the mails to an address, in the order of their files."""
        return read_mails(self.mailbox, address)

    async def confirm(self, address: str = "ann@example.com", password: str = PASSWORD) -> None:
        """Sign somebody up and press the link."""
        await self.sign_up(address, password)
        mail = await self.wait_mail(address)
        answer = await self.post("/confirm-email", {"token": mail.token})
        assert answer.status_code == 200, answer.text

    async def prove(self, headers: Mapping[str, str], password: str = PASSWORD) -> None:
        """Prove in a session that its user is there, as changes of an account need it."""
        answer = await self.post("/me/proof", {"password": password}, headers)
        assert answer.status_code == 200, answer.text

    async def log_in(self, address: str = "ann@example.com", password: str = PASSWORD) -> dict[str, str]:
        """Log somebody in and return the header that their requests carry."""
        answer = await self.post("/login", {"email": address, "password": password})
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}


def read_mails(mailbox: Path, address: str) -> list[Mail]:
    """Return the mails to an address in a Maildir, in the order of their files."""
    return [_read(*file) for file in _list(mailbox) if _read_recipient(*file) == address]


def read_all_mails(mailbox: Path) -> list[Mail]:
    """Return the mails in a Maildir, in the order of their files."""
    return [_read(*file) for file in _list(mailbox)]


def _list(mailbox: Path) -> list[tuple[int, str]]:
    """Return the files in a Maildir, each with the time in ns that tells it from another of its name."""
    try:
        return sorted((entry.stat().st_mtime_ns, entry.path) for entry in os.scandir(mailbox / "new"))
    except FileNotFoundError:
        return []


# Whoever waits for a mail looks fifty times a second into a mailbox that has hundreds, if others share it. So each
# is read once: in `new` it is complete and only ever replaced.
@cache
def _read_recipient(_came_at: int, file: str) -> str:
    with Path(file).open("rb") as opened:
        return str(BytesHeaderParser(policy=email.policy.default).parse(opened)["To"])


@lru_cache(maxsize=256)
def _read(_came_at: int, file: str) -> Mail:
    message = email.message_from_bytes(Path(file).read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(("plain",))
    assert body is not None
    return Mail(message, body.get_content().replace("\r\n", "\n"))


@contextmanager
def cheap_hashes() -> Iterator[None]:
    """Allow hashing lanes that are made within the block a cost that no setting allows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passwords, "MIN_COST", CHEAP_COST)
        yield


@asynccontextmanager
async def run_test_service(
    database: str, folder: Path, environ: Mapping[str, str] | None = None, *, dev: bool = False
) -> AsyncIterator[Service]:
    """Run the service in role `all` as long as the block lasts.

    Args:
        database: PostgreSQL, with the schema.
        folder: for its mail.
        environ: settings on top of those that tests have.
        dev: as `regsvc dev` runs it.
    """
    port = take_port()
    chosen = loading.load(
        {
            "REGSVC_DATABASE_URL": database,
            "REGSVC_SECRET_KEY": SECRET,
            "REGSVC_SMTP_URL": f"maildir:{folder / 'mail'}",
            "REGSVC_MAIL_FROM": "regsvc <no-reply@example.org>",
            "REGSVC_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "REGSVC_HTTP_PORT": str(port),
            "REGSVC_RATE_LIMITS": "off",
            **(environ or {}),
        },
        mode="dev",
    )
    if "REGSVC_BCRYPT_COST" not in (environ or {}):
        chosen = chosen.model_copy(update={"bcrypt_cost": CHEAP_COST})
    stopping, ready = trio.Event(), trio.Event()
    url = f"http://127.0.0.1:{chosen.http_port}"
    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await run_service(chosen, stopping=stopping, dev=dev, lame_duck=0, on_ready=ready.set)

        with cheap_hashes(), trio.fail_after(20):
            nursery.start_soon(run)
            await ready.wait()
        async with httpx.AsyncClient(base_url=url, verify=PLAIN, timeout=60) as client:
            yield Service(url, client, chosen, folder / "mail")
        stopping.set()


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A running service without a broker."""
    async with run_test_service(database, tmp_path) as service:
        yield service
