"""Security notices, and the link in them by which an owner takes the account back."""

from __future__ import annotations

from uuid import UUID

from psycopg.rows import scalar_row

from regsvc.accounts.audit.record import By
from regsvc.accounts.factors.removal import REMOVALS
from regsvc.accounts.users.notices import add_change_notice
from regsvc.postgres.pool import Pool
from tests.http.test_email_change import execute, logs_in, wait_subject
from tests.services import PASSWORD, Service

ANN, THIEF = "ann@example.com", "thief@evil.example"
CHANGED = "A change to how you log in to regsvc"
BY = By("anonymous", origin="192.0.2.0/24", client="Firefox on Linux")
# Tables about a user in which nothing opens an account.
# A login that awaits its second factor ends with the password.
HARMLESS = {
    "address_findings",
    "address_moves",
    "factor_guesses",
    "login_places",
    "mails",
    "pending_logins",
    "sessions",
}


async def tell(pool: Pool) -> None:
    """Book a notice, as the flow does that adds a passkey."""
    async with pool.transaction() as conn:
        cursor = conn.cursor(row_factory=scalar_row)
        await cursor.execute("SELECT id FROM users")
        user_id = await cursor.fetchone()
        assert isinstance(user_id, UUID)
        await add_change_notice(conn, user_id, "passkey_added", BY)


async def notified(service: Service, pool: Pool, *, mails: int = 2) -> str:
    """Return the token of the panic link in a notice to Ann."""
    await tell(pool)
    await service.wait_mail(ANN, number=mails)
    return await service.wait_link("panic", ANN)


async def press(service: Service, token: str) -> tuple[int, str]:
    """Use a panic link; return status and code, or message, of the answer."""
    answer = await service.post("/me/panic", {"token": token})
    body = answer.json()
    return answer.status_code, body.get("code") or body["message"]


async def move(service: Service, bearer: dict[str, str], new: str = THIEF, password: str = PASSWORD) -> None:
    """Move the account to another address."""
    answer = await service.post("/me/email", {"email": new, "password": password}, bearer)
    assert answer.status_code == 202, answer.text
    token = await service.wait_link("email-change", new)
    answer = await service.post("/me/email/confirm", {"token": token, "password": password})
    assert answer.status_code == 200, answer.text


async def test_a_notice_says_what_changed_and_has_the_link(service: Service, pool: Pool) -> None:
    await service.confirm()
    await tell(pool)
    mail = await service.wait_mail(ANN, number=2)
    assert mail.message["Subject"] == CHANGED
    assert "A passkey was added." in mail.text
    assert "Network: 192.0.2.0/24" in mail.text
    assert "within 7 days" in mail.text
    assert mail.token_for("panic")


async def test_the_link_ends_sessions_and_password_and_mails_a_reset_once(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    bearer = await service.log_in()
    token = await notified(service, pool)
    assert await press(service, token) == (200, "account taken back")
    assert (await service.client.get("/api/v1/me", headers=bearer)).status_code == 401
    assert not await logs_in(service, ANN)
    assert await press(service, token) == (410, "token_expired")
    reset = await service.wait_link("reset", ANN)
    answer = await service.post("/password/reset", {"token": reset, "password": "a new password of Ann's"})
    assert answer.status_code == 204
    assert await logs_in(service, ANN, "a new password of Ann's")
    (event,) = await execute(pool, "SELECT details FROM audit_events WHERE event = 'account_taken_back'")
    assert event[0] == {"sessions_ended": 1, "factors_removed": 0, "address_restored": False}


async def test_the_link_undoes_every_move_since_the_notice(service: Service, pool: Pool) -> None:
    """A thief moves the account twice; the owner, who has only the notice, gets it back."""
    await service.confirm()
    token = await notified(service, pool)
    bearer = await service.log_in()
    await move(service, bearer)
    await move(service, bearer, "second@evil.example")
    assert await press(service, token) == (200, "account taken back")
    assert await execute(pool, "SELECT email FROM users") == [(ANN,)]
    assert await execute(pool, "SELECT DISTINCT state FROM address_moves") == [("undone",)]
    assert await service.wait_link("reset", ANN)
    for address in (ANN, THIEF, "second@evil.example"):
        assert not await logs_in(service, address)


async def test_what_was_added_since_the_notice_goes_and_what_was_there_stays(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    add = """
        INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, synced, transports, name)
        SELECT gen_random_uuid(), id, '{0}', '', 0, true, '{{}}', '{0}' FROM users"""
    await execute(pool, add.format("mine"))
    token = await notified(service, pool)
    await execute(pool, add.format("thiefs"))
    assert await press(service, token) == (200, "account taken back")
    assert await execute(pool, "SELECT name FROM passkeys") == [("mine",)]


async def test_undoing_a_move_removes_what_was_added_since_it_was_asked_for(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    await service.post("/me/email", {"email": THIEF, "password": PASSWORD}, await service.log_in())
    undo = await service.wait_link("email-undo", ANN)
    await execute(
        pool,
        """
        INSERT INTO passkeys (id, user_id, credential_id, public_key, sign_count, synced, transports, name)
        SELECT gen_random_uuid(), id, 'x', '', 0, true, '{}', 'thief' FROM users""",
    )
    assert (await service.post("/me/email/undo", {"token": undo})).status_code == 200
    assert await execute(pool, "SELECT name FROM passkeys") == []


async def test_a_notice_to_the_thief_gives_the_account_to_nobody(service: Service, pool: Pool) -> None:
    await service.confirm()
    ours = await notified(service, pool)
    await move(service, await service.log_in())
    await tell(pool)
    theirs = await service.wait_link("panic", THIEF)
    assert await press(service, ours) == (200, "account taken back")
    assert await press(service, theirs) == (410, "token_expired")
    assert await execute(pool, "SELECT email FROM users") == [(ANN,)]


async def test_an_account_whose_new_address_chose_a_password_is_told_first(
    service: Service, pool: Pool
) -> None:
    """As with the undo of an email change: the account may hold another person's data by then."""
    await service.confirm()
    token = await notified(service, pool)
    await move(service, await service.log_in())
    await reset_at_thiefs(service, "the new owner's own")
    answers = [await service.post("/me/panic", {"token": token}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    assert await logs_in(service, THIEF, "the new owner's own")
    await wait_subject(service, THIEF, "The email change of your regsvc account will be undone")
    await execute(pool, "UPDATE address_moves SET undo_asked_at = undo_asked_at - interval '24 hours'")
    await execute(
        pool, "UPDATE mails SET created_at = created_at - interval '8 days' WHERE kind = 'security'"
    )
    await execute(pool, "UPDATE address_moves SET done_at = done_at - interval '7 days'")
    assert await press(service, token) == (200, "account taken back")
    assert not await logs_in(service, THIEF, "the new owner's own")


async def reset_at_thiefs(service: Service, password: str) -> None:
    known = len(service.mails(THIEF))
    assert (await service.post("/password/forgot", {"email": THIEF})).status_code == 202
    token = (await service.wait_mail(THIEF, number=known + 1)).token_for("reset")
    assert (await service.post("/password/reset", {"token": token, "password": password})).status_code == 204


async def test_a_link_of_eight_days_ago_and_an_invented_one_do_nothing(service: Service, pool: Pool) -> None:
    await service.confirm()
    token = await notified(service, pool)
    await execute(
        pool, "UPDATE mails SET created_at = created_at - interval '7 days' WHERE kind = 'security'"
    )
    assert await press(service, token) == (410, "token_expired")
    assert await press(service, "x" * 65) == (400, "token_invalid")
    assert await press(service, token[:30] + ("A" if token[30] != "A" else "B") + token[31:]) == (
        400,
        "token_invalid",
    )
    assert await logs_in(service, ANN)


async def test_everything_that_opens_an_account_is_removed_by_the_link(pool: Pool) -> None:
    """A new table about users is either harmless, or has an entry in the list of removals."""
    found = await execute(
        pool,
        """
        SELECT DISTINCT c.conrelid::regclass::text FROM pg_constraint c
         WHERE c.contype = 'f' AND c.confrelid = 'users'::regclass
        """,
    )
    removed = {table for removal in REMOVALS for table in removal.tables}
    assert {str(table) for (table,) in found} == HARMLESS | removed
