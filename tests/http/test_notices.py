"""Notices, from the transaction that books them to the mailbox."""

from __future__ import annotations

from regsvc.accounts.audit.record import By
from regsvc.accounts.users.notices import add_notice
from regsvc.postgres.connection import Connection
from tests.services import Service


async def test_a_notice_reaches_the_owner_of_an_account(service: Service) -> None:
    await service.confirm()
    async with await Connection.connect(service.settings.database_url.get_secret_value()) as conn:
        cursor = await conn.execute("SELECT id FROM users")
        (user_id,) = await cursor.fetchone() or ()
        await add_notice(conn, user_id, "refresh_token_reused", By("anonymous", origin="192.0.2.0/24"))
    mail = await service.wait_mail(number=2)
    assert mail.message["Subject"] == "We ended one of your sessions with regsvc"
    assert "Network: 192.0.2.0/24" in mail.text
    assert "Browser: unknown" in mail.text
