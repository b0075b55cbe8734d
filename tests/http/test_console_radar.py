"""The console shows how many people confirm, by mailbox provider, and which provider is out of its own band."""

from __future__ import annotations

import re
from pathlib import Path

from regsvc.postgres.pool import Pool
from tests.services import PASSWORD, run_test_service

OWN = {"Sec-Fetch-Site": "same-origin"}


async def test_the_console_marks_a_provider_whose_users_do_not_confirm(
    database: str, tmp_path: Path, pool: Pool
) -> None:
    async with run_test_service(database, tmp_path) as service:
        await service.confirm("root@example.com")
        async with pool.connection() as conn:
            await conn.execute("UPDATE users SET role = 'admin'")
            await conn.execute(
                "INSERT INTO confirmation_radar"
                " (family, recent, recent_confirmed, before, before_confirmed, median, astray)"
                " VALUES ('google', 40, 8, 400, 320, 42, true), ('yahoo', 40, 31, 300, 240, 65, false)"
            )
        login = {"email": "root@example.com", "password": PASSWORD}
        await service.client.post("/login", data=login, headers=OWN)
        page = (await service.client.get("/admin")).text
    assert "Confirmed within ten minutes of delivery" in page
    bad, good = (
        re.search(rf"<div([^>]*)><dt>{name}(.*?)</dd></div>", page, re.DOTALL) for name in ("Google", "Yahoo")
    )
    assert bad is not None
    assert good is not None
    assert ("bad" in bad[1], "bad" in good[1]) == (True, False)
    assert "20 %" in bad[2]
    assert "usually 80 %" in bad[2]
    assert "78 %" in good[2]
