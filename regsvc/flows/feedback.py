"""Take reports that an authenticated source sends, each in a transaction of its own.

A report that was committed before is recognised, so a source that repeats all of them after a failure does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable

import structlog

from regsvc.accounts.deliveries.attribution import Senders
from regsvc.accounts.deliveries.reports import apply_report
from regsvc.config.settings import Settings
from regsvc.mail.reports.report import Report
from regsvc.metrics import REPORTS
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import Secrets

log = structlog.get_logger()


def get_senders(settings: Settings) -> Senders:
    """Return the addresses by which reports recognise our mails."""
    path = settings.mail_return_path
    return Senders(settings.mail_from.domain, None if path is None else path.addr_spec)


async def take_reports(pool: Pool, secrets: Secrets, senders: Senders, reports: Iterable[Report]) -> int:
    """Apply reports, and return how many changed or added something.

    Raises:
        DatabaseUnavailableError: the rest is not applied; the source should repeat all of them.
    """
    applied = 0
    for report in reports:
        async with pool.transaction() as conn:
            outcome = await apply_report(conn, secrets, senders, report)
        REPORTS.labels(report.source, report.event if outcome == "applied" else outcome).inc()
        applied += outcome == "applied"
        if outcome != "repeated":
            log.info(
                "mail reported",
                source=report.source,
                report=report.event,
                outcome=outcome,
                reason=report.reason,
            )
    return applied
