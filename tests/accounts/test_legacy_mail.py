"""Mails that another system asks for: read, kept, sent, forgotten."""

from __future__ import annotations

import json
from dataclasses import replace
from uuid import UUID

import psycopg
import pytest

from regsvc.accounts.admin import mail_actions
from regsvc.accounts.audit.record import By
from regsvc.accounts.mails import legacy
from regsvc.accounts.mails.legacy import LegacyLetter, LegacyRequest, read_request
from regsvc.accounts.registrations import mail_status, registration
from regsvc.accounts.registrations.registration import RegistrationOverError
from regsvc.errors import MalformedMessageError
from regsvc.mail.queue import bookings, jobs
from regsvc.mail.queue.bookings import Ended, Sent
from regsvc.mail.queue.jobs import Job
from regsvc.postgres.listening import wait_notifications
from regsvc.postgres.pool import Pool
from regsvc.security.seals import UnsealError
from regsvc.security.tokens import Secrets
from tests.accounts.attempts import SECRETS, sign_up

OPERATOR = By("operator")

TOKEN = "b71e0ad2-Az.09_~"
ROTATED = Secrets(b"the secret after that, 32 bytes!", previous=SECRETS.current)


def make_body(**changes: object) -> bytes:
    return json.dumps({"email": "Ann@example.com", "confirmation_token": TOKEN, **changes}).encode()


def make_request(message_id: str | None = "1", **changes: object) -> LegacyRequest:
    return read_request(make_body(**changes), message_id)


async def add(pool: Pool, *requests: LegacyRequest, secrets: Secrets = SECRETS) -> list[UUID]:
    async with pool.transaction() as conn:
        return await legacy.add_legacy_mails(conn, secrets, requests)


async def take(pool: Pool, mail_id: UUID) -> tuple[Job, LegacyLetter]:
    """Claim a mail the way whoever sends does."""
    async with pool.transaction() as conn:
        (job,) = await jobs.claim_mails(conn, [mail_id])
        await mail_status.choose_attempts(conn, [mail_id])
        (letter,) = await legacy.begin_sending_legacy(conn, [mail_id])
        assert await mail_status.begin_sending(conn, [mail_id]) == []
    return job, letter


async def end(pool: Pool, mail_id: UUID, state: bookings.Ending) -> None:
    job, _ = await take(pool, mail_id)
    async with pool.transaction() as conn:
        ended = await bookings.book_ended(conn, [Ended(job, state, "because")])
        await mail_status.show_bounced(conn, ended)


async def send(pool: Pool, mail_id: UUID) -> None:
    job, letter = await take(pool, mail_id)
    async with pool.transaction() as conn:
        sent = await bookings.book_sent(conn, [(Sent(job, "250 ok"), letter.sent_as)])
        await mail_status.show_sent(conn, sent)
        assert sent == [mail_id]


async def row(pool: Pool, columns: str) -> tuple[object, ...]:
    async with pool.connection() as conn:
        cursor = await conn.execute(f"SELECT {columns} FROM mails")
        return tuple(await cursor.fetchone() or ())


async def execute(pool: Pool, statement: str) -> None:
    async with pool.connection() as conn:
        await conn.execute(statement.encode())


# -- reading


def test_a_message_asks_for_a_mail_with_a_token_and_may_say_more() -> None:
    request = make_request(name="Ann", sent_at=17)
    assert (request.address.email, request.address.key) == ("Ann@example.com", "ann@example.com")
    assert request.token == TOKEN
    assert TOKEN not in repr(request)


LONG = "t" * 512


@pytest.mark.parametrize("token", ["t", LONG, "0123456789abcdef", "AZaz09._~-"])
def test_a_token_is_of_what_may_stand_in_a_url(token: str) -> None:
    assert make_request(confirmation_token=token).token == token


def test_the_longest_that_is_right_is_not_oversized() -> None:
    address = "a" * 64 + "@" + ".".join(["b" * 61] * 3) + ".de"
    body = (
        json.dumps({"email": address, "confirmation_token": LONG})
        .replace("a", "\\u0061")
        .replace("t", "\\u0074")
    )
    body = body.replace("em\\u0061il", "email").replace(
        "confirm\\u0061\\u0074ion_\\u0074oken", "confirmation_token"
    )
    assert read_request(body.encode(), None).token == LONG


@pytest.mark.parametrize(
    ("why", "body"),
    [
        ("oversized", make_body(more="x" * 4096)),
        ("oversized", b"x" * 5_000_000),
        ("not JSON", b""),
        ("not JSON", b"\xff\xfe\x00"),
        ("not JSON", b"[" * 4096),
        ("not JSON", make_body() + b"x"),
        ("wrong fields", b"[]"),
        ("wrong fields", b'"email"'),
        ("wrong fields", b'{"email": "ann@example.com"}'),
        ("wrong fields", make_body(email=None)),
        ("wrong fields", make_body(email=["ann@example.com"])),
        ("wrong fields", make_body(confirmation_token=17)),
        ("wrong address", make_body(email="")),
        ("wrong address", make_body(email="ann")),
        ("wrong address", make_body(email="Ann <ann@example.com>")),
        ("wrong address", make_body(email="ann@example.com\r\nBcc: bob@example.com")),
        ("wrong address", make_body(email="ann@example.com\0")),
        ("wrong address", make_body(email="\ud800@example.com")),
        ("wrong token", make_body(confirmation_token="")),
        ("wrong token", make_body(confirmation_token=LONG + "t")),
        ("wrong token", make_body(confirmation_token="a b")),
        ("wrong token", make_body(confirmation_token="token\n")),
        ("wrong token", make_body(confirmation_token="a/b+c=")),
        ("wrong token", make_body(confirmation_token="t\u00f6ken")),
        ("wrong token", make_body(confirmation_token="\u0661")),
    ],
)
def test_what_is_wrong_with_a_message_is_said_in_words_that_tell_nothing_of_it(why: str, body: bytes) -> None:
    with pytest.raises(MalformedMessageError) as raised:
        read_request(body, "1")
    assert str(raised.value) == why


# -- keeping


async def test_a_mail_is_due_at_once_and_says_whom_and_with_what_token(pool: Pool) -> None:
    (mail_id,) = await add(pool, make_request())
    job, letter = await take(pool, mail_id)
    assert (job.id, job.registration_id, job.attempts) == (mail_id, None, 1)
    assert (letter.email, letter.email_key) == ("Ann@example.com", "ann@example.com")
    assert letter.open_token(SECRETS) == TOKEN
    assert (mail_id.version, mail_id.variant) == (8, "specified in RFC 4122")


async def test_a_message_that_comes_again_is_no_second_mail(pool: Pool) -> None:
    """It is known by its id, and by all that it says where it has none."""
    assert len(await add(pool, make_request("1"), make_request("2"), make_request("1"))) == 2
    assert await add(pool, make_request("1"), make_request("2", email="bob@example.com")) == []
    assert len(await add(pool, make_request(None), make_request(None), make_request(""))) == 1
    assert len(await add(pool, make_request(None, email="bob@example.com"))) == 1
    assert await add(pool, make_request(None), make_request("1")) == []


async def test_an_id_that_reads_like_a_body_is_another_message(pool: Pool) -> None:
    assert len(await add(pool, make_request(None), make_request(make_body().decode()))) == 2


async def test_a_message_is_known_after_its_mail_was_sent(pool: Pool) -> None:
    (mail_id,) = await add(pool, make_request())
    await send(pool, mail_id)
    assert await add(pool, make_request()) == []
    assert await row(pool, "state, sent_as") == ("sent", "foreign_confirm")


async def test_after_a_change_of_the_secret_messages_are_known_and_tokens_opened(pool: Pool) -> None:
    (mail_id,) = await add(pool, make_request())
    assert await add(pool, make_request(), secrets=ROTATED) == []
    _, letter = await take(pool, mail_id)
    assert letter.open_token(ROTATED) == TOKEN


async def test_a_token_is_sealed_in_the_database_and_opens_in_its_own_row_alone(pool: Pool) -> None:
    (first,) = await add(pool, make_request())
    (second,) = await add(pool, make_request("2", confirmation_token="other"))
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT m::text FROM mails m")
        rows = str(await cursor.fetchall())
    assert TOKEN not in rows
    assert TOKEN.encode().hex() not in rows
    _, letter = await take(pool, first)
    with pytest.raises(UnsealError):
        replace(letter, mail_id=second).open_token(SECRETS)
    with pytest.raises(UnsealError):
        letter.open_token(Secrets(b"some other secret, 32 bytes long"))


async def test_a_sign_up_here_of_the_same_address_has_nothing_to_do_with_it(pool: Pool) -> None:
    """The token is another system's: it must not become a mail of this registration, nor be lost for its mail."""
    new = await sign_up(pool, "ann@example.com")
    (mail_id,) = await add(pool, make_request())
    await send(pool, mail_id)
    async with pool.connection() as conn:
        found = await registration.get_registration(conn, new.id)
    assert found is not None
    assert (found.state, found.seq) == ("queued", 1)


async def test_whoever_sends_hears_of_it(pool: Pool) -> None:
    async with pool.connection(limit=10) as conn:
        await conn.execute("LISTEN mail_due")
        await add(pool, make_request())
        assert [notify.channel for notify in await wait_notifications(conn)] == ["mail_due"]


# -- forgetting


@pytest.mark.parametrize("state", ["bounced", "cancelled"])
async def test_a_token_is_forgotten_when_its_mail_has_ended(pool: Pool, state: bookings.Ending) -> None:
    (mail_id,) = await add(pool, make_request())
    await end(pool, mail_id, state)
    assert await row(pool, "state, foreign_token") == (state, None)
    with pytest.raises(RegistrationOverError):
        async with pool.transaction() as conn:
            await mail_actions.replay_mail(conn, mail_id, OPERATOR)


async def test_a_token_is_forgotten_when_its_mail_was_sent(pool: Pool) -> None:
    (mail_id,) = await add(pool, make_request())
    await send(pool, mail_id)
    assert await row(pool, "state, foreign_token") == ("sent", None)
    with pytest.raises(RegistrationOverError):
        async with pool.transaction() as conn:
            await mail_actions.replay_mail(conn, mail_id, OPERATOR)


async def test_a_token_is_forgotten_when_an_operator_cancels_its_mail(pool: Pool) -> None:
    (mail_id,) = await add(pool, make_request())
    async with pool.transaction() as conn:
        await mail_actions.cancel_mail(conn, mail_id, OPERATOR)
    assert await row(pool, "state, foreign_token") == ("cancelled", None)


async def test_a_mail_that_was_given_up_can_be_replayed(pool: Pool) -> None:
    (mail_id,) = await add(pool, make_request())
    await end(pool, mail_id, "dead")
    async with pool.transaction() as conn:
        assert await mail_actions.replay_dead(conn, 10, OPERATOR) == 1
    _, letter = await take(pool, mail_id)
    assert letter.open_token(SECRETS) == TOKEN


async def test_a_token_without_need_and_a_need_without_token_are_not_stored(pool: Pool) -> None:
    await sign_up(pool)
    with pytest.raises(psycopg.errors.CheckViolation):
        await execute(pool, "UPDATE mails SET foreign_token = ''")
    await execute(pool, "DELETE FROM mails")
    await add(pool, make_request())
    for change in ("foreign_token = NULL", "state = 'sent', sent_at = now(), due_at = NULL", "email = NULL"):
        with pytest.raises(psycopg.errors.CheckViolation):
            await execute(pool, f"UPDATE mails SET {change}")


async def test_a_mail_of_no_registration_is_deleted_30_days_after_it_ended(pool: Pool) -> None:
    await sign_up(pool)
    await execute(
        pool, "UPDATE mails SET state = 'bounced', due_at = NULL, reason = 'x', changed_at = '2020-01-01'"
    )
    (open_,), (ended,) = await add(pool, make_request("1")), await add(pool, make_request("2"))
    await end(pool, ended, "dead")

    async def purge() -> int:
        async with pool.connection() as conn:
            return await legacy.purge_nobodys_mails(conn, 100)

    by_id = f"WHERE id IN ('{open_}', '{ended}')"
    await execute(pool, f"UPDATE mails SET changed_at = now() - interval '29 days 23 hours' {by_id}")
    assert await purge() == 0
    await execute(pool, f"UPDATE mails SET changed_at = now() - interval '30 days' {by_id}")
    assert await purge() == 1
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT count(*) FROM mails")
        assert await cursor.fetchone() == (2,)
    assert len(await add(pool, make_request("2"))) == 1
