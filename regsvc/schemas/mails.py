"""Mails as the API shows them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from regsvc.accounts.admin import mail_search
from regsvc.accounts.admin.mail_search import Attempt, OutboxMail
from regsvc.postgres.connection import Connection
from regsvc.schemas.fields import PAGE, Body, Cursor, EmailText, Limit
from regsvc.schemas.rows import describe_page, describe_row, show_row
from regsvc.schemas.typed_dict import TypedDict


class MailQuery(Body):
    """Which mails to list."""

    state: mail_search.State | None = None
    kind: mail_search.Kind | None = None
    address: EmailText | None = None
    cursor: Cursor | None = None
    limit: Limit = PAGE


MailShown = describe_row(OutboxMail, "MailShown")
MailPage = describe_page("MailPage", "mails", MailShown)
AttemptShown: Any = describe_row(Attempt, "AttemptShown")
MailWithAttempts = describe_row(OutboxMail, "MailWithAttempts", more={"tries": list[AttemptShown]})


class Replayed(TypedDict):
    """How many mails were given a new life by this call."""

    replayed: int


async def read_mail(conn: Connection, mail_id: UUID) -> dict[str, Any]:
    """Return a mail with the attempts to send it, the oldest first.

    Raises:
        MailNotFoundError: there is none of that id.
    """
    mail = await mail_search.get_mail(conn, mail_id)
    attempts = await mail_search.list_attempts(conn, mail_id)
    return {**show_row(mail), "tries": [show_row(attempt) for attempt in attempts]}
