"""The bounce mailbox over IMAP: read once, by one process, and left as it was."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import structlog.testing
import trio

from regsvc.accounts.deliveries.attribution import Senders
from regsvc.accounts.deliveries.mailboxes import take_mailbox
from regsvc.checks.bounce_mailbox import check_bounce_mailbox
from regsvc.checks.report import Report
from regsvc.config.imap_url import ImapMailbox, read_imap_url
from regsvc.config.loading import load
from regsvc.consumer import bounce_mailbox
from regsvc.consumer.bounce_mailbox import BounceMailbox
from regsvc.mail.imap import mailbox as imap_mailbox
from regsvc.mail.imap.mailbox import MAX_MESSAGE, open_mailbox
from regsvc.mail.imap.wire import ImapRefusedError, ImapUnavailableError
from regsvc.security.feedback.return_paths import mint_return_path
from tests import reports
from tests.accounts.attempts import SECRETS, send, sign_up
from tests.accounts.mails import execute, get_registration
from tests.imap_servers import HANGS_UP, USER, Dovecot, ScriptedImap, dovecot
from tests.mail.conftest import Certificates
from tests.services import SECRET

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from uuid import UUID

    from regsvc.postgres.pool import Pool

__all__ = ["dovecot"]
PATH = "bounce@b.example.org"
SENDERS = Senders("example.org", PATH)


def bounce(mail_id: UUID, *, to: str | None = None, padding: int = 0) -> bytes:
    """A notification to the envelope sender of a mail of ours, or to another address."""
    return reports.bounce(mail_id, to=to or mint_return_path(SECRETS, PATH, mail_id), padding=padding)


LETTER = b"From: bob@example.net\r\nTo: bounces@example.org\r\nSubject: hello\r\n\r\nHow are you?\r\n"


def reader(pool: Pool, url: str) -> BounceMailbox:
    return BounceMailbox(pool, SECRETS, SENDERS, read_imap_url(url))


async def sent(pool: Pool, email: str = "ann@example.com") -> tuple[UUID, UUID]:
    new = await sign_up(pool, email)
    await send(pool, new.mail_id)
    return new.id, new.mail_id


async def test_bounces_are_taken_once_and_the_mailbox_stays_as_it_was(pool: Pool, dovecot: Dovecot) -> None:
    """Other messages are passed over; what was read is not read again; flags and messages stay."""
    shown, mail_id = await sent(pool)
    _, strange = await sent(pool, "bob@example.com")
    forged = bounce(strange, to=f"bounce+{'a' * 34}@b.example.org")
    dovecot.add(LETTER, bounce(mail_id), forged)
    before = dovecot.look()
    mailbox = reader(pool, dovecot.url())
    assert await mailbox.read_new() == 1
    assert (await get_registration(pool, shown)).state == "bounced"
    assert await mailbox.read_new() == 0
    assert dovecot.look() == before
    assert not any(b"Seen" in message for message in before)
    later, mail_id = await sent(pool, "cem@example.com")
    dovecot.add(bounce(mail_id))
    assert await mailbox.read_new() == 1
    assert (await get_registration(pool, later)).state == "bounced"


async def test_another_process_does_not_read_meanwhile(pool: Pool, dovecot: Dovecot) -> None:
    """The lease keeps it out until it is over."""
    _, mail_id = await sent(pool)
    dovecot.add(bounce(mail_id))
    first, second = reader(pool, dovecot.url()), reader(pool, dovecot.url())
    async with pool.connection() as conn:
        assert await take_mailbox(conn, read_imap_url(dovecot.url()).name, uuid4()) is not None
    assert await first.read_new() == 0
    await execute(pool, "UPDATE feedback_mailboxes SET leased_until = now()")
    assert await first.read_new() == 1
    assert await second.read_new() == 0


async def test_uids_that_begin_anew_are_read_from_the_first(pool: Pool, dovecot: Dovecot) -> None:
    """A folder that was made again is read whole; what was reported before changes nothing."""
    _, mail_id = await sent(pool)
    shown, another = await sent(pool, "bob@example.com")
    with dovecot.log_in() as client:
        client.create("Bounces")
    old = bounce(mail_id)
    dovecot.add(LETTER, LETTER, old, folder="Bounces")
    mailbox = reader(pool, dovecot.url(folder="Bounces"))
    assert await mailbox.read_new() == 1
    with dovecot.log_in() as client:
        client.delete("Bounces")
        client.create("Bounces")
    dovecot.add(old, bounce(another), folder="Bounces")
    assert await mailbox.read_new() == 1
    assert (await get_registration(pool, shown)).state == "bounced"


async def test_a_huge_message_is_passed_over_and_a_round_has_an_end(
    pool: Pool, dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is behind it is read; what exceeds a round waits for the next."""
    monkeypatch.setattr(bounce_mailbox, "AT_ONCE", 2)
    huge, small = await sent(pool), await sent(pool, "bob@example.com")
    dovecot.add(bounce(huge[1], padding=MAX_MESSAGE), LETTER, bounce(small[1]))
    mailbox = reader(pool, dovecot.url())
    assert [await mailbox.read_new() for _ in range(3)] == [0, 1, 0]
    assert (await get_registration(pool, huge[0])).state == "sent"
    assert (await get_registration(pool, small[0])).state == "bounced"


async def test_a_wrong_password_is_said_and_not_tried_again_soon(
    pool: Pool, dovecot: Dovecot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The child goes on, and waits longer than after other failures."""
    monkeypatch.setattr(bounce_mailbox, "EVERY", 0.0)
    stopping = trio.Event()
    mailbox = reader(pool, dovecot.url("wrong"))
    with structlog.testing.capture_logs() as lines, trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(mailbox.run, stopping=stopping))
            while not lines:  # noqa: ASYNC110 - a list
                await trio.sleep(0.01)
            stopping.set()
    (line,) = lines
    assert (line["event"], line["outcome"]) == ("bounce mailbox not read", "refused")
    assert "AUTHENTICATIONFAILED" in line["reason"]


def settings_for(url: str) -> object:
    environ = {
        "REGSVC_DATABASE_URL": "postgresql://127.0.0.1/x",
        "REGSVC_SECRET_KEY": SECRET,
        "REGSVC_SMTP_URL": "maildir:/nowhere",
        "REGSVC_MAIL_FROM": "no-reply@example.org",
        "REGSVC_FEEDBACK_IMAP_URL": url,
    }
    return load(environ, mode="dev")


async def test_check_names_the_mailbox(dovecot: Dovecot) -> None:
    """A wrong password or folder is a wrong setting; the secret is not printed."""
    for url, said in (
        (dovecot.url(), []),
        (dovecot.url("wrong"), ["AUTHENTICATIONFAILED"]),
        (dovecot.url(folder="Missing"), ["exist"]),
    ):
        report = Report("mailbox")
        await check_bounce_mailbox(settings_for(url), report)  # type: ignore[arg-type]
        assert USER in report.line()
        assert "wrong" not in report.line()
        assert not report.unavailable
        assert len(report.misconfigured) == len(said)
        assert all(word in report.line() for word in said)


@asynccontextmanager
async def scripted(
    certificates: Certificates, tmp_path: Path, **script: object
) -> AsyncIterator[tuple[ScriptedImap, ImapMailbox]]:
    (tmp_path / "ca.pem").write_bytes(certificates.authority)
    server = ScriptedImap(certificates.server, **script)  # type: ignore[arg-type]
    async with server.running():
        yield (
            server,
            read_imap_url(
                f"imaps://{USER.replace('@', '%40')}:x@127.0.0.1:{server.port}?cafile={tmp_path}/ca.pem"
            ),
        )


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imap_mailbox, "PATIENCE", 1.0)


HUGE = b"* 1 FETCH (UID 1 BODY[]<0> {99999999}\r\n"
CUT = b"* 1 FETCH (UID 1 BODY[]<0> {400}\r\nFrom: MAILER" + HANGS_UP
SIZE = b"* 1 FETCH (UID 1 RFC822.SIZE 400)\r\n"


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({'EXAMINE "INBOX"': None}, "does not answer"),
        ({"UID FETCH": None}, "does not answer"),
        ({"UID FETCH": SIZE + HANGS_UP}, "closed"),
        ({"UID FETCH": CUT}, "closed"),
        ({"UID FETCH": HUGE}, "too long"),
        ({"UID SEARCH": b"* SEARCH" + b" 1" * 600_000 + b"\r\n"}, "too long"),
        ({"UID SEARCH": b"* BYE shutting down\r\n" + HANGS_UP}, "BYE"),
        ({'EXAMINE "INBOX"': b"* 1 EXISTS\r\n"}, "no UIDs"),
    ],
    ids=["silent", "silent-later", "gone", "cut", "huge", "long-line", "bye", "no-uids"],
)
@pytest.mark.usefixtures("impatient")
async def test_a_server_that_fails_costs_a_round_and_nothing_else(
    certificates: Certificates,
    tmp_path: Path,
    pool: Pool,
    script: dict[str, bytes | None],
    reason: str,
) -> None:
    """Whatever it does, the position stays where it was."""
    async with scripted(certificates, tmp_path, script=script) as (_, place):
        mailbox = BounceMailbox(pool, SECRETS, SENDERS, place)
        with trio.fail_after(20), pytest.raises(ImapUnavailableError, match=reason):
            await mailbox.read_new()
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT last_uid FROM feedback_mailboxes")
        assert await cursor.fetchall() == [(0,)]


async def test_a_server_that_is_not_there_or_not_the_right_one(
    certificates: Certificates, tmp_path: Path
) -> None:
    """The first is a matter of time, the second is not."""
    async with scripted(certificates, tmp_path) as (_, place):
        wrong = ImapMailbox(host=place.host, port=place.port, username="u", password="p")
        with pytest.raises(ImapRefusedError, match="certificate"):
            async with open_mailbox(wrong):
                pass
    with pytest.raises(ImapUnavailableError, match="refused") as error:
        async with open_mailbox(place):
            pass
    assert not isinstance(error.value, ImapRefusedError)


async def test_the_access_token_of_smtp_logs_in(certificates: Certificates, tmp_path: Path) -> None:
    """By XOAUTH2; the error that a server sends first is answered with an empty line."""

    async def get_token() -> str:
        return "token"

    async with scripted(certificates, tmp_path) as (server, _):
        place = read_imap_url(f"imaps://ann@127.0.0.1:{server.port}/?auth=xoauth2&cafile={tmp_path}/ca.pem")
        async with open_mailbox(place, get_token) as mailbox:
            assert mailbox.uid_validity == 7
    assert base64.b64decode(server.answers[0]) == b"user=ann\1auth=Bearer token\1\1"
    refused = {"AUTHENTICATE XOAUTH2": "[AUTHENTICATIONFAILED] no"}
    async with scripted(certificates, tmp_path, refused=refused) as (server, _):
        place = read_imap_url(f"imaps://ann@127.0.0.1:{server.port}/?auth=xoauth2&cafile={tmp_path}/ca.pem")
        with pytest.raises(ImapRefusedError, match="AUTHENTICATIONFAILED"):
            async with open_mailbox(place, get_token):
                pass


@pytest.mark.parametrize(
    "url",
    [
        "imap://u:p@example.org",
        "imaps://example.org",
        "imaps://u@example.org",
        "imaps://u:p@example.org?auth=xoauth2",
        "imaps://u:p@example.org?auth=plain",
        "imaps://u:p@example.org/B%C3%BCro",
        "imaps://u:p@example.org?tls=off",
    ],
)
def test_what_is_no_mailbox_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ValueError) as error:  # noqa: PT011 - the message follows
        read_imap_url(url)
    assert ":p" not in str(error.value)


def test_the_url_names_server_folder_and_user() -> None:
    """The default folder is INBOX, the default port that of IMAP over TLS."""
    place = read_imap_url("imaps://bounces%40example.org:p%3Aw@imap.example.org/My%20Bounces")
    assert place == ImapMailbox(
        host="imap.example.org",
        port=993,
        username=USER,
        password="p:w",
        folder="My Bounces",
    )
    assert "p:w" not in repr(place)
