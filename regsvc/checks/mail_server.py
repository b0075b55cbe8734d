"""Prove that the mail server takes mail from this process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regsvc.errors import RegsvcError
from regsvc.mail.outcome import Aborted, Accepted
from regsvc.roles import open_mail_transport

if TYPE_CHECKING:
    from regsvc.checks.report import Report
    from regsvc.config.settings import Settings


async def check_mail_server(settings: Settings, _: Report) -> None:
    """Connect and log in."""
    transport = open_mail_transport(settings)
    try:
        outcome = await transport.check()
    finally:
        await transport.aclose()
    if not isinstance(outcome, Accepted | Aborted):
        raise RegsvcError(f"{outcome.reason} at {outcome.stage} {outcome.reply}".strip())
