from __future__ import annotations

import mailbox
import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from regsvc.mail.maildir import MaildirTransport
from regsvc.mail.outcome import Accepted, Delayed

if TYPE_CHECKING:
    from pathlib import Path

    from regsvc.mail.envelope import Envelope


def files(maildir: Path) -> dict[str, bytes]:
    return {
        str(file.relative_to(maildir)): file.read_bytes() for file in maildir.rglob("*") if file.is_file()
    }


def with_id(envelope: Envelope, message_id: str) -> Envelope:
    return replace(envelope, data=f"Message-ID: <{message_id}>\r\n\r\nx\r\n".encode())


async def test_a_mail_is_one_file_named_after_its_id(tmp_path: Path, envelope: Envelope) -> None:
    """Nothing stays in `tmp`, and any Maildir reader finds the mail."""
    outcome = await MaildirTransport(tmp_path / "a" / "mail").send(envelope)
    assert outcome == Accepted("written to new/1")
    assert files(tmp_path / "a" / "mail") == {"new/1@example.org": envelope.data}
    (message,) = mailbox.Maildir(tmp_path / "a" / "mail")
    assert message["Subject"] == "hello"


async def test_a_mail_is_for_its_owner_alone(tmp_path: Path, envelope: Envelope) -> None:
    """Files are 0600 and folders 0700, whatever the umask; a folder that was there keeps its mode."""
    (tmp_path / "mail").mkdir(mode=0o755)
    (tmp_path / "mail").chmod(0o755)
    before = os.umask(0)
    try:
        await MaildirTransport(tmp_path / "mail").send(envelope)
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "mail").rglob("*")}
    assert modes == {"tmp": 0o700, "new": 0o700, "cur": 0o700, "1@example.org": 0o600}
    assert (tmp_path / "mail").stat().st_mode & 0o777 == 0o755


async def test_a_second_try_replaces_the_first(tmp_path: Path, envelope: Envelope) -> None:
    """The same Message-ID is the same mail."""
    transport = MaildirTransport(tmp_path)
    await transport.send(envelope)
    again = replace(envelope, data=envelope.data + b"again\r\n")
    await transport.send(again)
    assert files(tmp_path) == {"new/1@example.org": again.data}


async def test_a_second_try_replaces_what_was_read_already(tmp_path: Path, envelope: Envelope) -> None:
    """A reader has moved the mail to `cur`; it is not new again."""
    transport = MaildirTransport(tmp_path)
    await transport.send(envelope)
    (tmp_path / "new" / "1@example.org").rename(tmp_path / "cur" / "1@example.org:2,S")
    await transport.send(envelope)
    assert files(tmp_path) == {"cur/1@example.org:2,S": envelope.data}


@pytest.mark.parametrize("message_id", ["../../etc/x@y", ".hidden@y", "a:2,S@y", "x" * 300, "ä@y", "a*b@y"])
async def test_no_id_leads_out_of_the_folder(message_id: str, tmp_path: Path, envelope: Envelope) -> None:
    """An odd Message-ID is hashed, the same way each time."""
    transport = MaildirTransport(tmp_path / "mail")
    for _ in range(2):
        assert isinstance(await transport.send(with_id(envelope, message_id)), Accepted)
    (name,) = files(tmp_path)
    assert name.removeprefix("mail/new/").isalnum()


async def test_only_the_header_names_the_file(tmp_path: Path, envelope: Envelope) -> None:
    """A Message-ID in the text is text."""
    mail = replace(envelope, data=b"Subject: x\r\n\r\nMessage-ID: <2@example.org>\r\n")
    await MaildirTransport(tmp_path).send(mail)
    assert "new/2@example.org" not in files(tmp_path)


async def test_a_folder_that_cannot_be_written_delays(tmp_path: Path, envelope: Envelope) -> None:
    """A file stands where the folder should be; nothing is raised, and the check says the same."""
    (tmp_path / "mail").write_text("in the way")
    transport = MaildirTransport(tmp_path / "mail")
    expected = Delayed("maildir_write_failed", "write", "File exists")
    assert await transport.send(envelope) == expected
    assert await transport.check() == expected


async def test_a_failed_write_leaves_nothing_behind(tmp_path: Path, envelope: Envelope) -> None:
    """A folder where the mail's file should be makes the last step fail; the draft is removed."""
    (tmp_path / "new" / "1@example.org" / "x").mkdir(parents=True)
    outcome = await MaildirTransport(tmp_path).send(envelope)
    assert isinstance(outcome, Delayed)
    assert outcome.reason == "maildir_write_failed"
    assert files(tmp_path) == {}
