"""The bounces of real mail servers that flufl.bounce is tested with: read, and never taken for another mail's.

Its source is downloaded: the messages are no part of what is installed.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from collections import Counter
from importlib.metadata import version
from uuid import uuid4

import pytest

from regsvc.accounts.deliveries.attribution import Senders, list_mail_ids
from regsvc.mail.reports.messages import read_clues, read_message
from regsvc.security.feedback.return_paths import mint_return_path
from tests.accounts.attempts import SECRETS

SENDERS = Senders("example.org", "bounce@b.example.org")


@pytest.fixture(scope="module")
def messages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("flufl")
    subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:",
         "--no-build-isolation", "--dest", folder, f"flufl.bounce=={version('flufl.bounce')}"],
        check=True,
    )  # fmt: skip
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    found = {file.name: file.read_bytes() for file in folder.glob("*/tests/data/*.txt")}
    assert len(found) > 100
    return found


def test_none_of_them_is_taken_for_a_mail_of_ours(messages: dict[str, bytes]) -> None:
    assert [name for name, raw in messages.items() if list_mail_ids(SECRETS, SENDERS, read_clues(raw))] == []


def test_most_of_them_are_understood(messages: dict[str, bytes]) -> None:
    """Some are warnings or automatic replies."""
    events = Counter(
        report.event if (report := next(iter(read_message(raw)), None)) else "none"
        for raw in messages.values()
    )
    assert events["bounced"] >= 0.7 * len(messages), events
    assert set(events) <= {"bounced", "deferred", "none"}
    print(dict(events))  # noqa: T201 - the result of the command


def test_sent_to_the_return_path_of_a_mail_each_is_that_mails_alone(messages: dict[str, bytes]) -> None:
    """Whatever recipient the detectors find in it: the envelope sender decides, and a wrong MAC ends the search."""
    for name, raw in messages.items():
        mail_id = uuid4()
        path = mint_return_path(SECRETS, "bounce@b.example.org", mail_id)
        ours = f"Delivered-To: {path}\n".encode() + raw
        assert list_mail_ids(SECRETS, SENDERS, read_clues(ours)) == [mail_id], name
        local, _, domain = path.partition("@")
        forged = f"{local[:-1]}{'a' if local[-1] != 'a' else 'b'}@{domain}"
        wrong = f"Delivered-To: {forged}\nIn-Reply-To: <{mail_id}@example.org>\n".encode() + raw
        assert list_mail_ids(SECRETS, SENDERS, read_clues(wrong)) == [], name
