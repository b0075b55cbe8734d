"""Check that the bounce mailbox can be read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsvc.mail.imap.mailbox import open_mailbox
from regsvc.mail.imap.wire import ImapRefusedError, ImapUnavailableError
from regsvc.mail.smtp.access_token import fetch_token

if TYPE_CHECKING:
    from regsvc.checks.report import Report
    from regsvc.config.settings import Settings


async def check_bounce_mailbox(settings: Settings, report: Report) -> None:
    """Connect, log in and open the folder, reading no message."""
    place = settings.bounce_mailbox
    assert place is not None  # noqa: S101 - the caller looked

    async def get_token() -> str:
        return (await fetch_token(settings)).text

    try:
        async with open_mailbox(place, get_token):
            report.notes.append(place.name)
    except ImapRefusedError as error:
        report.misconfigured.append(f"{place.name}: {error}")
    except ImapUnavailableError as error:
        report.unavailable.append(f"{place.name}: {error}")
