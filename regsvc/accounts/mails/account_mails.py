"""Messages about an account: recipient and contents, decided when a sender claims them.

They have no registration, and no client watches them. A notice goes to the account's address at booking. A password
reset link goes to the owner of the account at the typed address; without an account none is sent. An email change link
goes to the new address, or tells its owner that it already has an account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from psycopg.rows import class_row

from regsvc.accounts.audit.record import By, record
from regsvc.accounts.limits import login_attempts, mail_schedule
from regsvc.accounts.users import email_change, panic, password_reset
from regsvc.mail.queue.jobs import SentAs
from regsvc.postgres.connection import Connection
from regsvc.security.tokens import Secrets


@dataclass(frozen=True)
class AccountLetter:
    """The recipient and contents of a claimed message about an account; see `Letter`.

    Args:
        user_id: the user.
        move_id: the email change, if it is about one.
        account_email: address of the account.
        account_since: when the account was created.
        about: what a notice of a change is about.
        password_hash: hash of the account, which a password reset link is bound to.
    """

    mail_id: UUID
    user_id: UUID
    move_id: UUID | None
    email: str
    email_key: str
    locale: str
    origin: str
    client: str
    created_at: datetime
    sent_as: SentAs
    admitted: bool
    silent: bool
    account_email: str
    account_since: datetime
    about: str | None
    password_hash: str = field(repr=False)

    def turn(self, secrets: Secrets) -> bytes:
        """Return the key of the schedule it follows unless admitted, one for each kind."""
        key = mail_schedule.reset_key if self.sent_as == "password_reset" else mail_schedule.change_key
        return key(secrets, self.email_key)

    def mint_link(self, secrets: Secrets) -> tuple[str, timedelta]:
        """Return the token of its link and the link's lifetime."""
        if self.about is not None:
            return panic.mint_panic_token(
                secrets, self.mail_id, self.user_id, self.email_key
            ), panic.PANIC_LIFE
        if self.move_id is None:
            token = password_reset.mint_reset_token(
                secrets,
                self.mail_id,
                user_id=self.user_id,
                email_key=self.email_key,
                password_hash=self.password_hash,
            )
            return token, password_reset.RESET_LIFE
        if self.sent_as in {"email_moving", "email_changed"}:
            return email_change.mint_undo_token(secrets, self.move_id, self.email_key), email_change.UNDO_LIFE
        return email_change.mint_change_token(secrets, self.move_id, self.email_key), email_change.CHANGE_LIFE


async def choose_accounts(conn: Connection, secrets: Secrets, mail_ids: Sequence[UUID]) -> None:
    """Decide the accounts of password reset messages that were requested by address.

    A request from a place where the owner has logged in before is admitted, so a flood of strangers' requests cannot
    block it. It is audited here because its user was not known before.
    """
    cursor = await conn.execute(
        """
        WITH owners AS (
            -- Do not wait for an account that is being deleted: it has no messages; look again later.
            SELECT id, email_key FROM users
             WHERE email_key IN (SELECT email_key FROM mails WHERE id = ANY(%(mail_ids)s) AND kind = 'forgot')
               AND disabled_at IS NULL
               FOR KEY SHARE SKIP LOCKED
        )
        UPDATE mails m SET user_id = u.id
          FROM owners u
         WHERE m.id = ANY(%(mail_ids)s) AND m.kind = 'forgot' AND m.user_id IS NULL AND u.email_key = m.email_key
        RETURNING m.id, u.id, u.email_key, m.origin, m.client
        """,
        {"mail_ids": list(mail_ids)},
    )
    for mail_id, user_id, email_key, origin, client in await cursor.fetchall():
        if await login_attempts.is_known(conn, secrets, email_key, origin or ""):
            await conn.execute("UPDATE mails SET admitted = true WHERE id = %(id)s", {"id": mail_id})
        by = By("anonymous", origin=origin, client=client)
        await record(conn, "password_reset_asked", by, user_id=user_id)


async def begin_sending_account(conn: Connection, mail_ids: Sequence[UUID]) -> list[AccountLetter]:
    """Return the letters of claimed messages that are about an account.

    Obsolete messages are omitted: the account has another address or is disabled, or the email change is over.
    """
    async with conn.cursor(row_factory=class_row(AccountLetter)) as cursor:
        await cursor.execute(
            """
            SELECT m.id AS mail_id, m.user_id, m.move_id, coalesce(owner.email, m.email, u.email) AS email, m.email_key,
                   coalesce(owner.locale, u.locale) AS locale, coalesce(m.origin, '') AS origin,
                   coalesce(m.client, '') AS client, m.created_at, m.admitted, m.silent, u.password_hash,
                   u.email AS account_email, u.created_at AS account_since, m.about,
                   CASE WHEN m.kind = 'notice' THEN m.notice
                        WHEN m.kind = 'security' AND m.about = 'new_login' THEN 'new_login'
                        WHEN m.kind = 'security' THEN 'security_changed'
                        WHEN m.kind = 'forgot' THEN 'password_reset'
                        WHEN owner.id IS NULL THEN 'email_change'
                        ELSE 'email_taken' END AS sent_as
              FROM mails m
              JOIN users u ON u.id = m.user_id
              LEFT JOIN address_moves v ON v.id = m.move_id
              LEFT JOIN users owner
                ON m.kind = 'email_change' AND owner.email_key = m.email_key AND owner.id <> u.id
             WHERE m.id = ANY(%(mail_ids)s)
               AND CASE m.kind WHEN 'notice' THEN true
                               WHEN 'security' THEN true
                               WHEN 'forgot' THEN u.email_key = m.email_key AND u.disabled_at IS NULL
                               WHEN 'email_change' THEN v.state = 'asked' AND u.disabled_at IS NULL END
            """,
            {"mail_ids": list(mail_ids)},
        )
        return await cursor.fetchall()
