"""All checks of `regsvc check --mail`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from regsvc.checks.mail.dkim import check_dkim
from regsvc.checks.mail.dmarc import check_dmarc
from regsvc.checks.mail.return_path import check_domains, check_return_path
from regsvc.checks.mail.sender import Sender
from regsvc.checks.mail.spf import check_spf
from regsvc.checks.report import Report, run_check
from regsvc.dns.resolver import Resolver

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from regsvc.config.settings import Settings

_CHECKS = (
    ("spf", check_spf),
    ("dkim", check_dkim),
    ("dmarc", check_dmarc),
    ("return path", check_return_path),
    ("domains", check_domains),
)


async def check_mail(settings: Settings) -> AsyncIterator[Report]:
    """Check what receivers look up about our mail, and yield the reports."""
    sender = Sender(settings, Resolver(settings.dns_server))
    for name, check in _CHECKS:
        yield await run_check(name, partial(check, sender))
