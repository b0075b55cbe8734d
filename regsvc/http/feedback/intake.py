"""Take the reports of providers: verified, then committed, then answered."""

from __future__ import annotations

import trio
from quart import Blueprint, Response, request
from werkzeug.exceptions import NotFound, RequestEntityTooLarge

from regsvc.accounts.deliveries.tokens import use_token
from regsvc.errors import OverloadedError
from regsvc.flows.feedback import get_senders, take_reports
from regsvc.http.context import get_context
from regsvc.http.feedback.certificates import SnsUnavailableError
from regsvc.http.feedback.sources import SOURCES, Delivered, is_on
from regsvc.http.openapi.operation import Parameter, documented
from regsvc.http.request.body import check_content_coding
from regsvc.http.response.json_response import answer
from regsvc.mail.reports.messages import MAX_BYTES
from regsvc.mail.reports.report import ReportUnreadableError
from regsvc.metrics import REPORTS
from regsvc.schemas.typed_dict import TypedDict
from regsvc.security.feedback.signatures import FeedbackSignatureError

blueprint = Blueprint("feedback", __name__)

PATIENCE = 5.0  # seconds for a place


class Taken(TypedDict):
    """Number of reports in the request that were new; unknown mails and repeated reports do not count."""

    applied: int


@blueprint.post("/feedback/<source>")
@documented(
    {200: Taken, 202: Taken},
    parameters=[Parameter("Authorization", "For `postmark` (basic) and `message` (bearer).")],
    errors=[FeedbackSignatureError, ReportUnreadableError, SnsUnavailableError, OverloadedError],
)
async def take(source: str) -> Response:
    """Take a provider's report about mails: `ses`, `postmark`, `sendgrid`, `mailgun`, `resend` or a raw `message`.

    Each is off (404) until its setting is there. The body has the provider's own format and any content type, up to
    1 MiB, a message up to 256 KiB. 200 and 202 follow the commit; 202 says that nothing was new.
    """
    context = get_context()
    if not is_on(context.settings, source):
        raise NotFound
    check_content_coding()
    raw = await request.get_data(cache=False, as_text=False)
    body = raw if isinstance(raw, bytes) else raw.encode()
    if source == "message" and len(body) > MAX_BYTES:
        raise RequestEntityTooLarge
    with trio.move_on_after(PATIENCE) as waiting:
        await context.intake.places.acquire()
    if waiting.cancelled_caught:
        raise OverloadedError
    try:
        read = await SOURCES[source](
            context.settings, context.intake.certificates, Delivered(body, dict(request.headers))
        )
        if read.once is not None:
            async with context.pool.transaction() as conn:
                await use_token(conn, *read.once)
        applied = await take_reports(
            context.pool, context.secrets, get_senders(context.settings), read.reports
        )
    except FeedbackSignatureError:
        REPORTS.labels(source, "forged").inc()
        raise
    finally:
        context.intake.places.release()
    return answer({"applied": applied}, 200 if applied else 202)
