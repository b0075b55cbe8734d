from __future__ import annotations

import re

from regsvc.postgres.connection import Connection
from tests.programs import SharedProgram
from tests.services import Service


async def test_programs_that_tests_share_hash_at_the_least_cost(
    shared_service: Service, shared_program: SharedProgram
) -> None:
    await shared_service.sign_up("hashed@example.com")
    database = shared_program.environ["REGSVC_DATABASE_URL"]
    async with await Connection.connect(database, application_name="regsvc test") as conn:
        cursor = await conn.execute(
            "SELECT password_hash FROM registrations WHERE email = 'hashed@example.com'"
        )
        [[stored]] = await cursor.fetchall()
    assert re.search(r"\$2b\$04\$", stored)
