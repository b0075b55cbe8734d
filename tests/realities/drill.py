"""A database that was lost comes back from a backup: people get in, and every mail is sent once.

`make drill` prints what comes of it; docs/backup.md has the table.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.drill.before import MailServer, live_and_lose
from tests.drill.restoring import restore
from tests.drill.servers import Grounds

pytestmark = pytest.mark.timeout(600)

WAITING = 4


async def test_a_restored_database_lets_people_in_and_sends_each_mail_once(
    short_directory: Path, tmp_path: Path
) -> None:
    grounds = Grounds(short_directory)
    async with MailServer().running() as server:
        lost = await live_and_lose(grounds, server, tmp_path, waiting=WAITING)
        before = server.counted()
        assert (len(lost.backed_up), len(lost.sent_since)) == (WAITING, WAITING // 2)
        dumped = await restore("dump", grounds, server, tmp_path, lost)
        logged = await restore("log", grounds, server, tmp_path, lost)
    for found in (dumped, logged):
        assert (found.verified, found.verified_wrong, found.login, found.link) == (0, 1, 200, 200)
    # The dump brings back what was ended since, and what was due then; the log has everything.
    assert (dumped.ended_session, logged.ended_session) == (200, 401)
    assert (dumped.missing, logged.missing) == (WAITING // 2, 0)
    assert (dumped.due, logged.due) == (lost.backed_up, lost.due)
    assert dumped.cancelled == len(lost.backed_up & lost.sent_since)
    for found in (dumped, logged):
        assert set(found.sent.values()) == {1}
        assert set(found.sent) == found.due - lost.sent_since
        assert not set(found.sent) & set(before)
