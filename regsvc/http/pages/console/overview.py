"""The console's overview, for users with the role `admin`: sign-ups, open messages, child tasks.

It is in English, as are the log and the command line. Everything it does is done by the functions behind the API's
calls for administrators, and is in the audit log likewise.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from prometheus_client import REGISTRY
from quart import Response, current_app, request

from regsvc.accounts.admin import statistics
from regsvc.accounts.admin.shared_overview import SharedOverview
from regsvc.errors import RegsvcError
from regsvc.http.admin.supervisor import MYSELF, restart_child, show_supervisor
from regsvc.http.context import get_context
from regsvc.http.pages.browser_session import find_visitor
from regsvc.http.pages.console.bar_chart import make_bars
from regsvc.http.pages.forms import lead_to, read_form
from regsvc.http.pages.page import blueprint, show_page
from regsvc.http.pages.texts import get_languages
from regsvc.http.pages.times import say_moment
from regsvc.http.request.admin_authentication import ADMIN
from regsvc.http.request.caller import get_caller
from regsvc.http.response.errors import ChildNotFoundError, ForbiddenError, ServingChildError
from regsvc.mail.message.languages import FALLBACK
from regsvc.mail.queue.remedies import find_remedy
from regsvc.security.signing.access_token import AccessToken

_SHARED = "REGSVC_OVERVIEW"


class NotLoggedInError(RegsvcError):
    """Log in first."""


@blueprint.errorhandler(NotLoggedInError)
async def lead_to_login(_: NotLoggedInError) -> Response:
    """Redirect to the login page."""
    return lead_to("/login")


async def get_operator() -> AccessToken:
    """Return the administrator who is logged in.

    Raises:
        NotLoggedInError: no user is logged in.
        ForbiddenError: the user is no administrator.
    """
    visitor = await find_visitor()
    if visitor is None:
        raise NotLoggedInError
    if visitor.role != ADMIN:
        raise ForbiddenError
    return visitor


async def show_console(template: str, status: int = 200, *, frames: bool = False, **values: Any) -> Response:
    """Show a page of the console."""
    return await show_page(
        template,
        status,
        words=get_languages()[FALLBACK],
        submits=True,
        frames=frames,
        say_moment=say_moment,
        path=request.path,
        **values,
    )


@blueprint.get("/admin")
async def open_console() -> Response:
    """Show how the service does; a script reads it again every few seconds."""
    await get_operator()
    context = get_context()
    look = await _get_shared_overview().get(context.pool)
    day, breaker = look.day, look.breaker
    return await show_console(
        "console.html",
        breaker=breaker,
        remedy=find_remedy(breaker.reason, breaker.reply) if breaker.open else None,
        routes=[
            (name, route, find_remedy(route.reason, route.reply))
            for name, route in sorted(look.routes.items())
            if route.open
        ],
        throttling=sorted(look.held.items()),
        echoes=look.echoes,
        day=day,
        totals=day.totals,
        queue=day.queue,
        most_counted=statistics.MOST_COUNTED,
        by_hour=make_bars([(f"{hour.began_at:%H}:00", hour.signed_up, hour.confirmed) for hour in day.hours]),
        speed=day.speed,
        by_time=make_bars(
            [(name, count, 0) for name, count in zip(statistics.name_bounds(), day.speed.counts, strict=True)]
        ),
        broker=_count_messages() if context.settings.amqp_url else None,
        supervisor=show_supervisor(context),
        myself=MYSELF,
    )


def _get_shared_overview() -> SharedOverview:
    """Return the overview that viewers of this process share."""
    shared: SharedOverview = current_app.config.setdefault(_SHARED, SharedOverview())
    return shared


def _count_messages() -> dict[str, int | None]:
    """Return how many messages wait in RabbitMQ by queue, as this process saw last; None if it does not know."""
    from regsvc.rabbitmq.queues import DEAD, MAILS  # noqa: PLC0415 - without a broker none of it is loaded

    counts = {
        queue: REGISTRY.get_sample_value("regsvc_queue_messages", {"queue": queue}) for queue in (MAILS, DEAD)
    }
    return {queue: None if count is None else int(count) for queue, count in counts.items()}


@blueprint.post("/admin/children/<child>/restart")
async def submit_restart(child: str) -> Response:
    """Start a child of this process again; one that there is none of, or that answers this, stays as it is."""
    await read_form()
    operator = await get_operator()
    with suppress(ChildNotFoundError, ServingChildError):
        await restart_child(get_context(), child, get_caller().as_admin(operator))
    return lead_to("/admin#children")
