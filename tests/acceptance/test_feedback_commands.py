"""What an operator or a mail server does about reports on the command line."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from regsvc.accounts.deliveries import suppression
from regsvc.mail.queue import families
from regsvc.postgres.pool import Pool
from regsvc.security.feedback.return_paths import mint_return_path
from regsvc.security.tokens import Secrets
from tests.accounts.attempts import send, sign_up, state_of
from tests.accounts.mails import execute
from tests.reports import bounce
from tests.services import SECRET
from tests.suite.commands import run_command

PATH = "bounce@b.example.org"
SECRETS = Secrets(SECRET.encode())


async def regsvc(database: str, *arguments: str, stdin: bytes = b"", code: int = 0) -> str:
    """Run a command to its end, and return what it printed."""
    environ = {
        "REGSVC_SECRET_KEY": SECRET,
        "REGSVC_DATABASE_URL": database,
        "REGSVC_MAIL_FROM": "no-reply@example.org",
        "REGSVC_MAIL_RETURN_PATH": PATH,
        "REGSVC_MAIL_URL": "smtp://mx1.example.org smtp://mx2.example.org",
    }
    done = await run_command("mail", *arguments, stdin=stdin, environ=environ)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done.stdout.decode()


async def test_a_bounce_from_a_pipe_moves_the_registration_once(database: str, pool: Pool) -> None:
    """A message that is none of ours, or no report, is no failure: a mail server would only return it."""
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    for message in (
        b"Subject: hello\r\n\r\nhello\r\n",
        bounce(new.mail_id, to=f"bounce+{'a' * 34}@b.example.org"),
    ):
        await regsvc(database, "feedback", stdin=message)
        assert await state_of(pool, new.id) == "sent"
    message = bounce(new.mail_id, to=mint_return_path(SECRETS, PATH, new.mail_id))
    await regsvc(database, "feedback", stdin=message)
    assert await state_of(pool, new.id) == "bounced"
    await regsvc(database, "feedback", stdin=message)
    async with pool.connection() as conn:
        (entry,) = await suppression.list_suppressions(conn, 10)
    assert entry.bounces == 1


async def test_a_message_that_is_too_large_is_refused(database: str, pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    to = mint_return_path(SECRETS, PATH, new.mail_id)
    await regsvc(database, "feedback", stdin=bounce(new.mail_id, to=to, padding=262_144), code=1)
    assert await state_of(pool, new.id) == "sent"


async def test_suppressed_addresses_are_listed_without_the_address_and_lifted(
    database: str, pool: Pool
) -> None:
    """By the address or by the id of the entry; each lifting is audited."""
    for name in ("ann", "bob"):  # one after the other: the list is by time
        async with pool.transaction() as conn:
            await suppression.note_complaint(conn, SECRETS, f"{name}@gmail.com", at=datetime.now(UTC))
    (bob, ann) = json.loads(await regsvc(database, "suppressed", "list", "--json"))
    printed = await regsvc(database, "suppressed", "list")
    assert [line.split()[:2] for line in printed.splitlines()] == [
        [each["id"], "google"] for each in (bob, ann)
    ]
    assert "@" not in printed
    await regsvc(database, "suppressed", "lift", "Ann@GMAIL.com")
    await regsvc(database, "suppressed", "lift", bob["id"])
    assert json.loads(await regsvc(database, "suppressed", "list", "--json")) == []
    for nothing in ("ann@gmail.com", bob["id"], "nonsense"):
        await regsvc(database, "suppressed", "lift", nothing, code=1)
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT actor FROM audit_events WHERE event = 'suppression_lifted'")
        assert await cursor.fetchall() == [("operator",), ("operator",)]


async def test_the_way_of_a_mail_is_told_with_what_keeps_it(database: str, pool: Pool) -> None:
    """The first route that is open; a receiver that throttles, by domain where it belongs to no family."""
    shown = json.loads(await regsvc(database, "route", "ann@example.com", "--json"))
    assert (shown["route"], shown["waits_for"]) == ("mx1.example.org", None)
    await execute(
        pool,
        "INSERT INTO mail_routes (name, open, failures, reason, reply, opened_at) VALUES "
        "('mx1.example.org', true, 3, 'policy_refused', '550 5.7.515 Access denied', now())",
    )
    printed = await regsvc(database, "route", "ann@example.com")
    assert printed.splitlines()[0] == "goes by mx2.example.org, the first route that is open"
    assert "SPF, DKIM and DMARC" in printed
    async with pool.connection() as conn:
        await families.hold_families(conn, ["example.com", "google"])
    for address, family in (("ann@example.com", "example.com"), ("ann@googlemail.com", "google")):
        shown = json.loads(await regsvc(database, "route", address, "--json"))
        assert (shown["waits_for"], shown["family"]) == ("family", family)
    await regsvc(database, "route", "no address", code=1)
