"""Legacy mail: messages requested by the system this service replaces, while both run.

Each request has an address and a link token. It has no registration and no client watches it; recipient and token are
in its row. The row's id derives from the request, so a repeated request is one message. The token is the other system's
secret: sealed at rest, never logged, and deleted once it need not be sent again.
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
from regsvc.security.tokens import Secrets, mint_legacy_mail_ids

MAX_BYTES = 4096  # the longest address and token, fully escaped, are shorter
_TOKEN = re.compile(r"[A-Za-z0-9._~-]{1,512}")  # the unreserved characters of RFC 3986, 2.3
_SEAL = "foreign-mail-seal"


@dataclass(frozen=True)
class LegacyRequest:
    """A request for legacy mail.

    Args:
        address: the recipient.
        token: token of the link.
        origin: identity of the request: its message id, or its whole body.
    """

    address: Address
    token: str = field(repr=False)
    origin: tuple[bytes, bytes] = field(repr=False)


@dataclass(frozen=True)
class LegacyLetter:
    """The recipient and contents of claimed legacy mail; see `Letter`."""

    mail_id: UUID
    email: str
    email_key: str
    created_at: datetime
    sealed_token: bytes = field(repr=False)

    sent_as: ClassVar[SentAs] = "foreign_confirm"
    locale: ClassVar[str] = "en"  # the request does not name a language
    admitted: ClassVar[bool] = True  # the legacy system decides when to send
    silent: ClassVar[bool] = False

    def open_token(self, secrets: Secrets) -> str:
        """Return the token of the link.

        Raises:
            UnsealError: the service's secret is not the one that sealed the token.
        """
        return unseal(secrets, _SEAL, self.sealed_token, bound=self.mail_id.bytes).decode("ascii")


def read_request(body: bytes, message_id: str | None, local_domains: Collection[str] = ()) -> LegacyRequest:
    """Parse a request `{"email": …, "confirmation_token": …}`; other fields are ignored.

    Args:
        body: body of the request.
        message_id: message id of the request, if any.
        local_domains: see `parse_address`.

    Raises:
        MalformedMessageError: with a text that quotes nothing of the request.
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
    return LegacyRequest(address, token, (b"id", message_id.encode()) if message_id else (b"body", body))


async def add_legacy_mails(
    conn: Connection, secrets: Secrets, requests: Sequence[LegacyRequest]
) -> list[UUID]:
    """Insert the messages of requests, due now, in the caller's transaction, and return their ids in any order.

    Requests repeated within 30 days are skipped.
    """
    ids = [[*mint_legacy_mail_ids(secrets, request.origin)] for request in requests]
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
                # The id derived from the previous secret.
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


async def begin_sending_legacy(conn: Connection, mail_ids: Sequence[UUID]) -> list[LegacyLetter]:
    """Return the letters of claimed messages that are legacy mail."""
    async with conn.cursor(row_factory=class_row(LegacyLetter)) as cursor:
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
    """Delete messages without registration that ended 30 days ago, and return the count."""
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
