"""Mails that the system this one replaces asks for, while both run: an address, and a link's token of its own.

Such a mail has no registration here, and nobody watches it: whom it goes to and the token stand in its row. The id of
its row derives from the message that asked for it, so that a message that comes twice is one mail. The token is another
system's secret: sealed at rest, never logged, and forgotten once it need not be sent any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import ClassVar
from uuid import UUID

from psycopg.rows import class_row, scalar_row

from regsvc.accounts.address import Address, AddressError, parse_address
from regsvc.accounts.registrations.registration import KEEP_FINAL
from regsvc.errors import MalformedMessageError
from regsvc.mail.queue.jobs import DUE_CHANNEL, SentAs
from regsvc.postgres.connection import Connection
from regsvc.security.seals import seal, unseal
from regsvc.security.tokens import Secrets, mint_foreign_mail_ids

MAX_BYTES = 4096  # an address and a token at their longest, every character of them escaped, have less
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,512}")  # what RFC 3986, 2.3 lets stand in a URL as it is
_SEAL = "foreign-mail-seal"


@dataclass(frozen=True)
class ForeignRequest:
    """What a message of that system asks for.

    Args:
        address: whom to mail.
        token: of the link.
        origin: what the message is known by: its id, or all of it.
    """

    address: Address
    token: str = field(repr=False)
    origin: tuple[bytes, bytes] = field(repr=False)


@dataclass(frozen=True)
class ForeignLetter:
    """Whom such a mail in hand goes to, and what it has to say; see `Letter`."""

    mail_id: UUID
    email: str
    email_key: str
    created_at: datetime
    sealed_token: bytes = field(repr=False)

    sent_as: ClassVar[SentAs] = "foreign_confirm"
    locale: ClassVar[str] = "en"  # which it does not tell
    admitted: ClassVar[bool] = True  # that system decided that it is time for a mail
    silent: ClassVar[bool] = False

    def open_token(self, secrets: Secrets) -> str:
        """Return the token of the link.

        Raises:
            UnsealError: the service's secret is not the one that sealed it.
        """
        return unseal(secrets, _SEAL, self.sealed_token, bound=self.mail_id.bytes).decode("ascii")


def read_request(body: bytes, message_id: str | None, local_domains: Collection[str] = ()) -> ForeignRequest:
    """Return what a message asks for: `{"email": …, "confirmation_token": …}`, and whatever else, which is ignored.

    Args:
        body: of the message.
        message_id: of the message, if it has one.
        local_domains: see `parse_address`.

    Raises:
        MalformedMessageError: saying what is wrong, and nothing of what the message says.
    """
    if len(body) > MAX_BYTES:
        raise MalformedMessageError("oversized")
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MalformedMessageError("not JSON") from error
    if not isinstance(fields, dict):
        raise MalformedMessageError("wrong fields")
    email, token = fields.get("email"), fields.get("confirmation_token")
    if not isinstance(email, str) or not isinstance(token, str):
        raise MalformedMessageError("wrong fields")
    try:
        address = parse_address(email, local_domains)
    except AddressError as error:
        raise MalformedMessageError("wrong address") from error
    if not _TOKEN.fullmatch(token):
        raise MalformedMessageError("wrong token")
    return ForeignRequest(address, token, (b"id", message_id.encode()) if message_id else (b"body", body))


async def add_foreign_mails(
    conn: Connection, secrets: Secrets, requests: Sequence[ForeignRequest]
) -> list[UUID]:
    """Insert the mails of messages, due now, in the caller's transaction, and return their ids, in any order.

    What was asked for by the same message before, up to 30 days ago, is left out.
    """
    ids = [[*mint_foreign_mail_ids(secrets, request.origin)] for request in requests]
    async with conn.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(
            """
            WITH added AS (
                INSERT INTO mails (id, kind, email, email_key, foreign_token, admitted)
                SELECT n.id, 'foreign', n.email, n.email_key, n.token, true
                  FROM unnest(%(ids)s::uuid[], %(earlier)s::uuid[], %(emails)s::text[], %(email_keys)s::text[],
                              %(tokens)s::bytea[]) AS n (id, earlier, email, email_key, token)
                 WHERE NOT EXISTS (SELECT FROM mails m WHERE m.id = n.earlier)
                ON CONFLICT (id) DO NOTHING
                RETURNING id
            )
            SELECT id, pg_notify(%(channel)s, '') FROM added
            """,
            {
                "ids": [current for current, *_ in ids],
                # As it was called before the secret was changed.
                "earlier": [previous[0] if previous else None for _, *previous in ids],
                "emails": [request.address.email for request in requests],
                "email_keys": [request.address.key for request in requests],
                "tokens": [
                    seal(secrets, _SEAL, request.token.encode("ascii"), bound=current.bytes)
                    for request, (current, *_) in zip(requests, ids, strict=True)
                ],
                "channel": DUE_CHANNEL,
            },
        )
        return await cursor.fetchall()


async def begin_sending_foreign(conn: Connection, mail_ids: Sequence[UUID]) -> list[ForeignLetter]:
    """Return what to send for those of these mails, all claimed by the caller, that another system asked for."""
    async with conn.cursor(row_factory=class_row(ForeignLetter)) as cursor:
        await cursor.execute(
            """
            SELECT id AS mail_id, email, email_key, created_at, foreign_token AS sealed_token
              FROM mails
             WHERE id = ANY(%(mail_ids)s) AND kind = 'foreign'
            """,
            {"mail_ids": list(mail_ids)},
        )
        return await cursor.fetchall()


async def purge_nobodys_mails(conn: Connection, limit: int) -> int:
    """Delete mails of no registration that ended 30 days ago, and return how many."""
    cursor = await conn.execute(
        """
        DELETE FROM mails
         WHERE id IN (SELECT id FROM mails
                       WHERE registration_id IS NULL AND due_at IS NULL AND changed_at <= now() - %(keep)s
                       ORDER BY changed_at LIMIT %(limit)s
                         FOR UPDATE SKIP LOCKED)
        """,
        {"keep": KEEP_FINAL, "limit": limit},
    )
    return cursor.rowcount
