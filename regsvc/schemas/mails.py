"""Mails as the API shows them."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from pydantic import BeforeValidator, Field
from typing_extensions import TypedDict  # pydantic reads this one alone before Python 3.12

from regsvc.accounts.admin import mail_search
from regsvc.accounts.admin.cursor import Position
from regsvc.accounts.admin.mail_search import Attempt, OutboxMail
from regsvc.postgres.connection import Connection
from regsvc.schemas.fields import Body, EmailText
from regsvc.schemas.formats import Timestamp, timestamp

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
