"""Check that the mail server accepts mail from this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsvc.mail.outcome import Aborted, Accepted, Refused
from regsvc.mail.routes.opening import open_ways_out
from regsvc.mail.smtp.access_token import fetch_token

if TYPE_CHECKING:
    from regsvc.checks.report import Report
    from regsvc.config.settings import Settings


async def check_mail_server(settings: Settings, report: Report) -> None:
    """Connect, log in, and begin a mail without sending it: a server may accept the login but no mail."""

    async def get_token() -> str:
        return (await fetch_token(settings)).text

    transport = open_ways_out(settings, get_token)
    try:
        outcome = await transport.check(settings.mail_from.addr_spec)
    finally:
        await transport.aclose()
    if isinstance(outcome, Accepted | Aborted):
        return
    problem = f"{outcome.reason} at {outcome.stage} {outcome.reply}".strip()
    (report.misconfigured if isinstance(outcome, Refused) else report.unavailable).append(problem)
