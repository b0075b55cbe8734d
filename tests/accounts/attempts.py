"""Sign-ups for tests of what comes after them."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

from regsvc.accounts.address import to_address
from regsvc.accounts.registrations import mail_status, registration
from regsvc.accounts.registrations.registration import NewRegistration
from regsvc.mail.queue import bookings, jobs
from regsvc.postgres.connection import Connection
from regsvc.postgres.pool import Pool
from regsvc.security.tokens import LinkToken, Secrets, mint_link_token, read_link_token

SECRETS = Secrets(b"a secret for tests, 32 bytes long")


async def sign_up(
    pool: Pool, email: str = "ann@example.com", *, password_hash: str = "hash"
) -> NewRegistration:
    """Insert an attempt the way the API does."""
    new = NewRegistration(
        id=uuid4(),
        mail_id=uuid4(),
        email=email,
        email_key=to_address(email).key,
        name="Ann",
        locale="en",
        password_hash=password_hash,
        origin="192.0.2.0/24",
        client="Firefox on Linux",
    )
    async with pool.transaction() as conn:
        await registration.add_registration(conn, new)
    return new


async def send(pool: Pool, mail_id: UUID) -> jobs.SentAs:
    """Have a mail claimed, sent and booked, and say what it became."""
    async with pool.transaction() as conn:
        (job,) = await jobs.claim_mails(conn, [mail_id])
        (letter,) = await mail_status.begin_sending(conn, [mail_id])
    async with pool.transaction() as conn:
        await mail_status.show_sent(
            conn, await bookings.book_sent(conn, [(bookings.Sent(job, "250 ok"), letter.sent_as)])
        )
    return letter.sent_as


def link_token(new: NewRegistration) -> LinkToken:
    """Return the token of the link that an attempt's mail holds."""
    token = read_link_token(mint_link_token(SECRETS, new.id, new.email_key))
    assert token is not None
    return token


async def state_of(conn_or_pool: Pool | Connection, registration_id: UUID) -> str:
    """Return the state of an attempt."""
    if isinstance(conn_or_pool, Pool):
        async with conn_or_pool.connection() as conn:
            return await state_of(conn, registration_id)
    found = await registration.get_registration(conn_or_pool, registration_id)
    assert found is not None
    return found.state


async def let_pass(pool: Pool, time: timedelta) -> None:
    """Move all that has happened, or will, that much into the past."""
    moments = {
        "mails": ("created_at", "changed_at", "due_at", "sent_at"),
        "registrations": ("created_at", "changed_at", "address_since", "next_try_at", "expires_at"),
        "mail_attempts": ("tried_at",),
        "code_tries": ("since",),
    }
    async with pool.transaction() as conn:
        for table, columns in moments.items():
            moved = ", ".join(f"{column} = {column} - %(by)s" for column in columns)
            await conn.execute(f"UPDATE {table} SET {moved}".encode(), {"by": time})
