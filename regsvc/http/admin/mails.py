"""Mails by hand: an administrator finds them, looks at them, replays and cancels them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import structlog
from pydantic import BeforeValidator, Field
from quart import Blueprint, Response
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.admin import mail_actions, mail_search
from regsvc.accounts.admin.cursor import Position
from regsvc.accounts.admin.mail_search import Attempt, Filters, OutboxMail
from regsvc.accounts.audit.record import record
from regsvc.accounts.registrations.registration import RegistrationOverError
from regsvc.errors import DatabaseUnavailableError, ValidationFailedError
from regsvc.http.context import get_context
from regsvc.http.openapi.operation import Parameter, Timestamp, documented
from regsvc.http.request.actor import by_admin
from regsvc.http.request.admin_authentication import authenticate_admin
from regsvc.http.request.body import Body, EmailText, address_of, read_id, read_query
from regsvc.http.response.errors import ForbiddenError
from regsvc.http.response.json_response import answer, timestamp
from regsvc.postgres.connection import Connection

log = structlog.get_logger()
blueprint = Blueprint("admin_mails", __name__)

PAGE = 50  # mails, if nobody says how many


class MailQuery(Body):
    """Which mails to list."""

    state: mail_search.State | None = None
    kind: mail_search.Kind | None = None
    address: EmailText | None = None
    cursor: Annotated[Position, BeforeValidator(Position.decode)] | None = None
    limit: Annotated[int, Field(ge=1, le=mail_search.MAX_PAGE)] = PAGE


class MailShown(TypedDict):
    """A mail and whom it is for."""

    id: str
    kind: Annotated[mail_search.Kind, Field(description="What was asked for.")]
    sent_as: Annotated[str | None, Field(description="What it became, once it was accepted.")]
    state: mail_search.State
    attempts: Annotated[int, Field(description="Since it was asked for or replayed.")]
    address: Annotated[str | None, Field(description="Null if it was mended since and is known no more.")]
    registration: Annotated[str | None, Field(description="The registration that it is for, once decided.")]
    registration_state: str | None
    silent: Annotated[bool, Field(description="What becomes of it is not shown to whoever waits.")]
    due_at: Annotated[Timestamp | None, Field(description="When an open mail is taken up.")]
    reason: Annotated[str | None, Field(description="Why it is not sent, as a word.")]
    reply: Annotated[str | None, Field(description="What the mail server said last.")]
    created_at: Timestamp
    changed_at: Timestamp
    sent_at: Timestamp | None
    replayed_at: Timestamp | None


class AttemptShown(TypedDict):
    """One try to send a mail."""

    attempt: Annotated[int, Field(description="From 1, and anew after a replay.")]
    tried_at: Timestamp
    outcome: Annotated[str, Field(description="What the mail became.")]
    stage: Annotated[str | None, Field(description="Of the conversation with the mail server.")]
    reason: str | None
    reply: str | None


class MailWithAttempts(MailShown):
    """A mail, whom it is for, and what was tried, the oldest first."""

    tries: list[AttemptShown]


class MailPage(TypedDict):
    """Some mails, the newest first."""

    mails: list[MailShown]
    next_cursor: Annotated[str | None, Field(description="The `cursor` of the next page, if there is one.")]


class Replayed(TypedDict):
    """How many mails were given a new life by this call."""

    replayed: int


_FILTERS = [
    Parameter(
        "state", "`queued`, `sending`, `sent`, `delayed`, `bounced`, `cancelled` or `dead`.", where="query"
    ),
    Parameter("kind", "`signup`, `resend`, `foreign`, `notice`, `forgot` or `email_change`.", where="query"),
    Parameter("address", "Of the recipient, whole.", where="query"),
    Parameter("cursor", "The `next_cursor` of the page before.", where="query"),
    Parameter(
        "limit",
        f"How many, 1 to {mail_search.MAX_PAGE}; {PAGE} if not given.",
        where="query",
        whole_number=True,
    ),
]
_ANY = [ForbiddenError, DatabaseUnavailableError]


@blueprint.get("/admin/mails")
@documented({200: MailPage}, parameters=_FILTERS, needs_token=True, errors=[ValidationFailedError, *_ANY])
async def list_mails() -> Response:
    """List mails, the newest first."""
    context = get_context()
    token = await authenticate_admin(context)
    query = read_query(MailQuery)
    filters = Filters(query.state, query.kind, address_of(query.address).key if query.address else None)
    async with context.pool.connection() as conn:
        page = await mail_search.list_mails(conn, filters, after=query.cursor, limit=query.limit)
    log.info(
        "mails listed",
        actor=str(token.user_id),
        count=len(page.mails),
        **query.model_dump(include=_LOGGED, exclude_none=True),
    )
    shown: MailPage = {
        "mails": [show_mail(mail) for mail in page.mails],
        "next_cursor": page.next.encode() if page.next else None,
    }
    return answer(shown)


@blueprint.get("/admin/mails/<mail_id>")
@documented({200: MailWithAttempts}, needs_token=True, errors=[mail_search.MailNotFoundError, *_ANY])
async def show(mail_id: str) -> Response:
    """Show a mail, and what was tried to send it."""
    context = get_context()
    token = await authenticate_admin(context)
    async with context.pool.connection() as conn:
        shown = await read_mail(conn, read_id(mail_id, mail_search.MailNotFoundError))
    log.info("mail shown", mail=shown["id"], actor=str(token.user_id))
    return answer(shown)


@blueprint.post("/admin/mails/<mail_id>/replay")
@documented(
    {200: MailWithAttempts},
    needs_token=True,
    errors=[mail_search.MailNotFoundError, mail_actions.MailInHandError, RegistrationOverError, *_ANY],
)
async def replay(mail_id: str) -> Response:
    """Send a mail again, or at last: a new life of 48 hours from now, whatever became of it before."""
    context = get_context()
    token = await authenticate_admin(context)
    wanted = read_id(mail_id, mail_search.MailNotFoundError)
    async with context.pool.transaction() as conn:
        await mail_actions.replay_mail(conn, wanted)
        await record(conn, "mail_replayed", by_admin(token), mail=str(wanted))
        shown = await read_mail(conn, wanted)
    log.info("mail replayed", mail=shown["id"], actor=str(token.user_id))
    return answer(shown)


@blueprint.post("/admin/mails/<mail_id>/cancel")
@documented(
    {200: MailWithAttempts},
    needs_token=True,
    errors=[mail_search.MailNotFoundError, mail_actions.MailInHandError, mail_actions.MailOverError, *_ANY],
)
async def cancel(mail_id: str) -> Response:
    """Call off a mail that is queued or delayed."""
    context = get_context()
    token = await authenticate_admin(context)
    wanted = read_id(mail_id, mail_search.MailNotFoundError)
    async with context.pool.transaction() as conn:
        await mail_actions.cancel_mail(conn, wanted)
        await record(conn, "mail_cancelled", by_admin(token), mail=str(wanted))
        shown = await read_mail(conn, wanted)
    log.info("mail cancelled", mail=shown["id"], actor=str(token.user_id))
    return answer(shown)


@blueprint.post("/admin/mails/replay-dead")
@documented({200: Replayed}, needs_token=True, errors=_ANY)
async def replay_dead() -> Response:
    """Replay mails that were given up and that somebody still waits for, the oldest first, up to 1,000 a call.

    Call it again until it replays none.
    """
    context = get_context()
    token = await authenticate_admin(context)
    async with context.pool.transaction() as conn:
        count = await mail_actions.replay_dead(conn, mail_actions.DEAD_AT_ONCE)
        if count:
            await record(conn, "dead_mails_replayed", by_admin(token), count=count)
    log.info("dead mails replayed", count=count, actor=str(token.user_id))
    shown: Replayed = {"replayed": count}
    return answer(shown)


async def read_mail(conn: Connection, mail_id: UUID) -> MailWithAttempts:
    """Return a mail with its attempts, in words of the API.

    Raises:
        MailNotFoundError: there is none of that id.
    """
    mail = await mail_search.get_mail(conn, mail_id)
    attempts = await mail_search.list_attempts(conn, mail_id)
    return {**show_mail(mail), "tries": [_show_attempt(attempt) for attempt in attempts]}


def show_mail(mail: OutboxMail) -> MailShown:
    """Return a mail in words of the API."""
    return {
        "id": str(mail.id),
        "kind": mail.kind,
        "sent_as": mail.sent_as,
        "state": mail.state,
        "attempts": mail.attempts,
        "address": mail.address,
        "registration": str(mail.registration_id) if mail.registration_id else None,
        "registration_state": mail.registration_state,
        "silent": mail.silent,
        "due_at": timestamp(mail.due_at),
        "reason": mail.reason,
        "reply": mail.reply,
        "created_at": timestamp(mail.created_at),
        "changed_at": timestamp(mail.changed_at),
        "sent_at": timestamp(mail.sent_at),
        "replayed_at": timestamp(mail.replayed_at),
    }


def _show_attempt(attempt: Attempt) -> AttemptShown:
    return {
        "attempt": attempt.attempt,
        "tried_at": timestamp(attempt.tried_at),
        "outcome": attempt.outcome,
        "stage": attempt.stage,
        "reason": attempt.reason,
        "reply": attempt.reply,
    }


_LOGGED = {"state", "kind", "address"}
