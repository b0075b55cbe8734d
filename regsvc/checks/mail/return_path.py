"""Where bounces go, and the sender's domain beside the service's."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from regsvc.checks.mail.sender import SECONDS, is_aligned
from regsvc.dns.mail_domains import ask_mail_domain

if TYPE_CHECKING:
    from regsvc.checks.mail.sender import Sender
    from regsvc.checks.report import Report


async def check_return_path(sender: Sender, report: Report) -> None:
    """Check that the domain of the envelope sender takes mail."""
    found = await ask_mail_domain(sender.resolver, sender.envelope, seconds=SECONDS)
    if found.takes_mail is None:
        report.unavailable.append(f"no answer for MX of {sender.envelope}")
    elif not found.takes_mail:
        report.misconfigured.append(
            f"{sender.envelope} takes no mail, so bounces are lost and some receivers refuse:"
            f" add {sender.envelope} MX '10 HOST'"
        )
    if sender.settings.mail_return_path is not None and sender.rewriting:
        report.notes.append(
            f"{', '.join(sender.rewriting)} replaces the envelope sender: bounces are told by Message-ID or its own id"
        )


async def check_domains(sender: Sender, report: Report) -> None:
    """Compare the domain of From with that of REGSVC_PUBLIC_URL."""
    host = urlsplit(sender.settings.public_url).hostname or ""
    if host and not is_aligned(sender.domain, host):
        report.notes.append(
            f"{sender.domain} is not of the organisation of {host}: people may take the mail for a forgery, and Apple"
            " offers a mailed code only at the sender's own domain"
        )
