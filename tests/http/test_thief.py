"""An account whose thief did everything there is to do is its owner's again, alone, after the panic link."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regsvc.accounts.identities.identity import add_identity
from regsvc.postgres.pool import Pool
from regsvc.security.identities.proven_identity import ProvenIdentity
from tests.http.factor_calls import code_of
from tests.http.test_email_change import execute, logs_in
from tests.services import PASSWORD, Service, run_test_service

ANN, THIEF = "ann@example.com", "thief@evil.example"
AT_HOME, AWAY = {"X-Forwarded-For": "203.0.113.7"}, {"X-Forwarded-For": "198.51.100.9"}
ADD_PASSKEY = """
    INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, synced, transports, name)
    SELECT gen_random_uuid(), id, '{0}', '', 0, true, '{{}}', '{0}' FROM users
"""


@pytest.fixture
async def service(database: str, tmp_path: Path) -> AsyncIterator[Service]:
    """A service behind a proxy, which says where clients are."""
    async with run_test_service(database, tmp_path, {"REGSVC_TRUSTED_PROXIES": "127.0.0.1/32"}) as service:
        yield service


async def log_in(service: Service, place: dict[str, str], **body: str) -> dict[str, str]:
    given = {"email": ANN, "password": PASSWORD} | body
    answer = await service.post("/login", given, place)
    assert answer.status_code == 200, answer.text
    return {"Authorization": f"Bearer {answer.json()['access_token']}"} | place


async def steal(service: Service, pool: Pool) -> None:
    """Log in with a password that became known, add every way in that there is, and move the account."""
    bearer = await log_in(service, AWAY)
    await execute(pool, ADD_PASSKEY.format("thief"))
    async with pool.transaction() as conn:
        cursor = await conn.execute("SELECT id FROM users")
        (user_id,) = await cursor.fetchone() or ()
        proven = ProvenIdentity("google", "https://accounts.google.com", "thief", THIEF, "verified", "Thief")
        await add_identity(conn, user_id, proven)
    await service.prove(bearer)
    begun = await service.post("/me/email", {"email": THIEF, "password": PASSWORD}, bearer)
    assert begun.status_code == 202, begun.text
    link = await service.wait_link("email-change", THIEF)
    moved = await service.post("/me/email/confirm", {"token": link, "password": PASSWORD}, bearer)
    assert moved.status_code == 200, moved.text
    secret = (await service.post("/me/totp", {}, bearer)).json()["secret"]
    for steps in (-1, 0):  # a step may end between
        answer = await service.post("/me/totp/confirm", {"code": code_of(secret, steps)}, bearer)
        if answer.status_code == 200:
            break
    assert answer.status_code == 200, answer.text


async def test_a_stolen_account_is_its_owners_again_alone(service: Service, pool: Pool) -> None:
    await service.confirm()
    await log_in(service, AT_HOME)
    await execute(pool, ADD_PASSKEY.format("own"))
    await steal(service, pool)
    assert await execute(pool, "SELECT email FROM users") == [(THIEF,)]
    counted = "SELECT (SELECT count(*) FROM {}), (SELECT count(*) FROM {}), (SELECT count(*) FROM {})"
    tables = ("totp_authenticators", "recovery_keys", "identities")
    before = await execute(pool, counted.format(*tables))
    assert all(before[0])

    notices = [mail for mail in service.mails(ANN) if mail.message["Subject"].startswith("New login")]
    answer = await service.post("/me/panic", {"token": notices[0].token_for("panic")}, AT_HOME)
    assert answer.status_code == 200, answer.text

    assert await execute(pool, "SELECT email FROM users") == [(ANN,)]
    assert await execute(pool, counted.format(*tables)) == [(0, 0, 0)]
    assert await execute(pool, "SELECT name FROM passkeys") == [("own",)]
    assert await execute(pool, "SELECT count(*) FROM sessions WHERE ended_at IS NULL") == [(0,)]
    for address in (ANN, THIEF):
        assert not await logs_in(service, address)
    # What the thief was mailed, before and now, opens nothing.
    for mail in service.mails(THIEF):
        for page, path in (
            ("email-undo", "/me/email/undo"),
            ("panic", "/me/panic"),
            ("reset", "/password/reset"),
        ):
            if f"/{page}#t=" in mail.text:
                body = {"token": mail.token_for(page)} | ({"password": PASSWORD} if page == "reset" else {})
                assert (await service.post(path, body)).status_code in {400, 410}
    reset = await service.wait_link("reset", ANN)
    chosen = await service.post("/password/reset", {"token": reset, "password": "a new password of Ann's"})
    assert chosen.status_code == 204
    await log_in(service, AT_HOME, password="a new password of Ann's")


async def test_undoing_the_move_removes_what_the_thief_added_since(service: Service, pool: Pool) -> None:
    await service.confirm()
    bearer = await log_in(service, AWAY)
    await service.prove(bearer)
    await service.post("/me/email", {"email": THIEF, "password": PASSWORD}, bearer)
    undo = await service.wait_link("email-undo", ANN)
    secret = (await service.post("/me/totp", {}, bearer)).json()["secret"]
    await service.post("/me/totp/confirm", {"code": code_of(secret)}, bearer)
    assert (await service.post("/me/email/undo", {"token": undo})).status_code == 200
    assert await execute(pool, "SELECT count(*) FROM totp_authenticators") == [(0,)]
    reset = await service.wait_link("reset", ANN)
    await service.post("/password/reset", {"token": reset, "password": "a new password of Ann's"})
    await log_in(service, AT_HOME, password="a new password of Ann's")
