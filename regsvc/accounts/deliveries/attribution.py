"""Decide which mail a report concerns.

An envelope sender of ours decides alone: with a wrong MAC nothing else in the report is believed. Else the Message-ID
of the returned mail, our id in a header or tag, or the provider's id. Ids of mails are random and cannot be guessed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.mail.reports.report import Clues
from regsvc.postgres.connection import Connection
from regsvc.security.feedback.return_paths import ReturnPath, read_return_path
from regsvc.security.tokens import Secrets


@dataclass(frozen=True)
class Senders:
    """The addresses by which our mails are recognised.

    Args:
        domain: of MAIL_FROM, which ends our Message-IDs.
        return_path: the configured return path; None without one.
    """

    domain: str
    return_path: str | None = None


def list_mail_ids(secrets: Secrets, senders: Senders, clues: Clues) -> list[UUID]:
    """Return the mails that a report names, best clue first; empty if an envelope sender has a wrong MAC."""
    path = _read_path(secrets, senders, clues)
    if path is not None:
        return [] if path.mail_id is None else [path.mail_id]
    return list(dict.fromkeys(_read_ids(senders, clues)))


async def find_mail(conn: Connection, secrets: Secrets, senders: Senders, clues: Clues) -> UUID | None:
    """Return the mail that a report concerns, or None if it is none of ours or was deleted."""
    async with conn.cursor(row_factory=scalar_row) as cursor:
        if named := list_mail_ids(secrets, senders, clues):
            await cursor.execute(
                """
                SELECT m.id FROM unnest(%(ids)s::uuid[]) WITH ORDINALITY AS named (id, place) JOIN mails m USING (id)
                 ORDER BY place LIMIT 1
                """,
                {"ids": named},
            )
            mail_id: UUID | None = await cursor.fetchone()
            if mail_id is not None:
                return mail_id
        if clues.provider_id is None or _read_path(secrets, senders, clues) is not None:
            return None
        await cursor.execute(
            "SELECT id FROM mails WHERE provider_id = %(id)s ORDER BY created_at DESC LIMIT 1",
            {"id": clues.provider_id},
        )
        return await cursor.fetchone()


def _read_path(secrets: Secrets, senders: Senders, clues: Clues) -> ReturnPath | None:
    """Return what the first envelope sender of ours says."""
    if senders.return_path is not None:
        for text in clues.return_paths:
            if (path := read_return_path(secrets, senders.return_path, text)) is not None:
                return path
    return None


def _read_ids(senders: Senders, clues: Clues) -> Iterator[UUID]:
    for text in clues.message_ids:
        local, _, domain = text.strip().strip("<>").rpartition("@")
        if domain.lower() == senders.domain.lower() and (mail_id := _read_id(local)) is not None:
            yield mail_id
    for text in clues.mail_ids:
        if (mail_id := _read_id(text)) is not None:
            yield mail_id


def _read_id(text: str) -> UUID | None:
    try:
        mail_id = UUID(text)
    except ValueError:
        return None
    return mail_id if str(mail_id) == text.strip().lower() else None
