"""What the operator's networks see of the parts."""

from __future__ import annotations

from regsvc.postgres.connection import Connection
from tests.services import Service


async def test_the_mail_servers_reply_is_shown_without_what_is_private_in_it(service: Service) -> None:
    async with await Connection.connect(service.settings.database_url.get_secret_value()) as conn:
        await conn.execute(
            """
            UPDATE mail_breaker
               SET open = true, reason = 'policy_refused', opened_at = now(), probe_at = now() + interval '1 hour',
                   reply = '550 5.7.1 ann@example.com may not send, token=abcdefgh'
            """
        )
    shown = (await service.client.get("/readyz")).json()["mail_breaker"]
    assert shown["reason"] == "policy_refused"
    assert shown["reply"] == "550 5.7.1 a***@example.com may not send, token=***"
