"""The dependencies of a process, by its settings."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial

from regsvc.checks.bounce_mailbox import check_bounce_mailbox
from regsvc.checks.broker import check_legacy, check_rabbitmq
from regsvc.checks.database import check_database
from regsvc.checks.mail_server import check_mail_server
from regsvc.checks.report import Report, run_check
from regsvc.config.settings import Settings


def check_settings(settings: Settings) -> Report:
    """Report weaknesses allowed by `REGSVC_ALLOW_INSECURE`; others make the settings invalid."""
    return Report("settings", notes=[f"insecure: {line}" for line in settings.insecurities()])


async def check_dependencies(settings: Settings) -> AsyncIterator[Report]:
    """Check each dependency in turn, and yield its report."""
    yield await run_check("postgresql", partial(check_database, settings))
    if settings.amqp_url is not None:
        yield await run_check("rabbitmq", partial(check_rabbitmq, settings.amqp_url.get_secret_value()))
    if settings.accept_foreign_mail and settings.foreign_amqp_url is not None:
        url, queue = settings.foreign_amqp_url.get_secret_value(), settings.foreign_queue or ""
        yield await run_check("foreign rabbitmq", partial(check_legacy, url, queue))
    if settings.role != "api":
        yield await run_check("smtp", partial(check_mail_server, settings))
    if settings.role != "api" and settings.bounce_mailbox is not None:
        yield await run_check("mailbox", partial(check_bounce_mailbox, settings))
