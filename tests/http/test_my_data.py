"""Taking one's data along, and having it erased."""

from __future__ import annotations

import re
import socket
import tracemalloc
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
import trio

from regsvc.flows.rate_limits import ACCOUNT, EXPORT
from regsvc.flows.service import EXPORTS
from regsvc.postgres.pool import Pool
from tests.databases import run_sql
from tests.services import PASSWORD, Service, run_test_service

ME = "/api/v1/me"
PERSONAL = re.compile(r"ann@example|127\.0\.0|python", re.IGNORECASE)


async def delete_me(service: Service, headers: dict[str, str], password: str = PASSWORD) -> tuple[int, str]:
    answer = await service.client.request("DELETE", ME, json={"password": password}, headers=headers)
    return answer.status_code, answer.json()["code"] if answer.content else ""


async def dump(pool: Pool) -> dict[str, str]:
    """Return all that is in the database, by table."""
    found = {}
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT relname FROM pg_stat_user_tables")
        for (table,) in await cursor.fetchall():
            rows = await conn.execute(
                f"SELECT coalesce(string_agg(t::text, E'\\n'), '') FROM {table} t".encode()
            )
            found[table] = str((await rows.fetchone() or [""])[0])
    return found


async def move(service: Service, headers: dict[str, str], address: str) -> None:
    """Move an account to another address."""
    answer = await service.post("/me/email", {"email": address, "password": PASSWORD}, headers)
    assert answer.status_code == 202, answer.text
    token = (await service.wait_mail(address)).token_for("email-change")
    assert (await service.post("/me/email/confirm", {"token": token}, headers)).status_code == 200


async def execute(pool: Pool, statement: str) -> None:
    async with pool.connection() as conn:
        await conn.execute(statement.encode())


async def test_after_the_deletion_nothing_in_the_database_says_who_that_was(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    await service.sign_up()  # "you already have an account"
    await service.wait_mail(number=2)
    await service.post("/confirm-email/resend", {"email": "ann@example.com"})
    await service.post("/login", {"email": "ann@example.com", "password": "wrong password"})
    headers = await service.log_in()
    await service.client.patch(ME, json={"name": "Python Ann@example"}, headers=headers)
    # As if all of it were over: what still waits for the address lives on to its end. A mail that has arrived may not
    # have been recorded yet.
    await execute(
        pool,
        "UPDATE registrations SET state = 'expired', password_hash = NULL WHERE state IN ('sending', 'sent')",
    )
    await execute(
        pool,
        "UPDATE mails SET state = 'dead', due_at = NULL, lease = NULL, sent_at = NULL, reason = 'timeout', "
        "reply = '550 <ann@example.com>' WHERE kind = 'resend'",
    )
    await execute(
        pool,
        "INSERT INTO mail_attempts (mail_id, attempt, outcome, reason, reply) "
        "SELECT id, 1, 'bounced', 'x', '550 ann@example.com' FROM mails",
    )
    assert {table for table, rows in (await dump(pool)).items() if PERSONAL.search(rows)} >= {
        "users",
        "registrations",
        "mails",
        "mail_attempts",
        "sessions",
        "audit_events",
    }
    assert await delete_me(service, headers) == (204, "")
    left = await dump(pool)
    assert {table: rows for table, rows in left.items() if PERSONAL.search(rows)} == {}
    assert left["users"] == left["sessions"] == left["refresh_tokens"] == ""
    assert "account_deleted" in left["audit_events"]
    assert "dead" not in left["mails"]


async def test_addresses_that_the_account_had_before_are_erased_with_it(service: Service, pool: Pool) -> None:
    await service.confirm()
    headers = await service.log_in()
    await move(service, headers, "ann@example.org")
    await move(service, headers, "ann@example.net")
    # Somebody else has the first address by now, and keeps what is theirs.
    await service.sign_up(password="somebody else's own")
    mail = await service.wait_mail(number=4)
    assert (await service.post("/confirm-email", {"token": mail.token})).status_code == 200
    assert await delete_me(service, headers) == (204, "")
    left = await dump(pool)
    assert not re.search(r"ann@example\.(org|net)", str(left))
    assert left["registrations"].count("ann@example.com") == 2  # one row, as written and as compared
    assert (await service.post("/confirm-email", {"token": mail.token})).status_code == 200


async def test_who_is_deleted_is_logged_out_everywhere_and_may_sign_up_again(service: Service) -> None:
    await service.confirm()
    tokens = (await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})).json()
    assert await delete_me(service, await service.log_in()) == (204, "")
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    assert (await service.client.get(ME, headers=bearer)).status_code == 401
    refreshed = await service.post("/token/refresh", {"refresh_token": tokens["refresh_token"]})
    assert (refreshed.status_code, refreshed.json()["code"]) == (401, "refresh_token_invalid")
    answer = await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})
    assert (answer.status_code, answer.json()["code"]) == (401, "invalid_credentials")
    await service.sign_up()
    mail = await service.wait_mail(number=2)
    assert (await service.post("/confirm-email", {"token": mail.token})).status_code == 200
    await service.log_in()


async def test_an_account_is_deleted_with_its_password_alone(service: Service, pool: Pool) -> None:
    await service.confirm()
    headers = await service.log_in()
    assert await delete_me(service, headers, "wrong password") == (403, "wrong_password")
    assert await delete_me(service, {}) == (401, "access_token_invalid")
    answer = await service.client.delete(ME, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "proof_needed")
    assert (await service.client.get(ME, headers=headers)).status_code == 200
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT count(*) FROM audit_events WHERE event = 'password_refused'")
        assert await cursor.fetchone() == (1,)


async def test_whoever_watches_a_sign_up_of_the_address_does_not_see_that_its_account_was_deleted(
    service: Service,
) -> None:
    await service.confirm()
    stranger = await service.sign_up(password="the stranger's own")
    await service.wait_mail(number=2)
    handle = {"Regsvc-Handle": stranger.headers["Regsvc-Handle"]}

    async def watch() -> dict[str, object]:
        shown: dict[str, object] = (
            await service.client.get(stranger.headers["Location"], headers=handle)
        ).json()
        return shown

    headers = await service.log_in()
    with trio.fail_after(10):
        # Its mail is here before that is recorded.
        while (before := await watch())["state"] != "sent":  # noqa: ASYNC110 - a table has no event
            await trio.sleep(0.02)
    assert await delete_me(service, headers) == (204, "")
    assert await watch() == before


async def test_neither_does_a_stranger_who_asks_for_the_mail_of_a_sign_up_that_is_over(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    form = {"name": "Eve", "email": "ann@example.com", "password": "the stranger's own"}
    own = {"Sec-Fetch-Site": "same-origin"}
    assert (await service.client.post("/signup", data=form, headers=own)).status_code == 303
    await service.wait_mail(number=2)
    await execute(pool, "UPDATE registrations SET state = 'expired', password_hash = NULL WHERE name = 'Eve'")

    async def ask() -> tuple[int, str]:
        answer = await service.client.post("/signup/resend", data={"": ""}, headers=own)
        return answer.status_code, answer.text

    before = await ask()
    assert before[0] == 409
    assert await delete_me(service, await service.log_in()) == (204, "")
    assert await ask() == before


async def test_the_last_administrator_stays(service: Service, pool: Pool) -> None:
    await service.confirm()
    await service.confirm("bob@example.com")
    await execute(pool, "UPDATE users SET role = 'admin'")
    await execute(pool, "UPDATE users SET disabled_at = now() WHERE email = 'bob@example.com'")
    headers = await service.log_in()
    assert await delete_me(service, headers) == (409, "last_admin")
    await execute(pool, "UPDATE users SET disabled_at = NULL")
    assert await delete_me(service, headers) == (204, "")


async def test_the_export_has_the_addresses_that_one_moved_between(service: Service) -> None:
    await service.confirm()
    headers = await service.log_in()
    await service.post("/me/email", {"email": "new@example.com", "password": PASSWORD}, headers)
    token = (await service.wait_mail("new@example.com")).token_for("email-change")
    assert (await service.post("/me/email/confirm", {"token": token}, headers)).status_code == 200
    await service.wait_mail(number=3)
    await service.prove(headers)
    exported = (await service.client.get(f"{ME}/export", headers=headers)).json()
    (move,) = exported["moves"]
    assert exported["passkeys"] == []
    assert (move["old_email"], move["new_email"], move["state"]) == (
        "ann@example.com",
        "new@example.com",
        "done",
    )
    assert sorted(mail["kind"] for mail in exported["mails"]) == ["email_change", "notice", "notice"]


async def test_the_export_has_all_and_no_secret(service: Service) -> None:
    await service.confirm()
    await service.confirm("bob@example.com")
    await service.log_in("bob@example.com")
    mail = await service.wait_mail()
    tokens = (await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})).json()
    bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
    await service.prove(bearer)
    answer = await service.client.get(f"{ME}/export", headers=bearer)
    assert answer.headers["Content-Disposition"] == 'attachment; filename="account.json"'
    assert answer.headers["Cache-Control"] == "no-store"
    exported = answer.json()
    assert exported["profile"] == (await service.client.get(ME, headers=bearer)).json()
    assert [each["client"] for each in exported["sessions"]] == ["a Python program"]
    assert [each["state"] for each in exported["registrations"]] == ["confirmed"]
    assert [(each["kind"], each["sent_as"]) for each in exported["mails"]] == [("signup", "confirm")]
    assert [each["event"] for each in exported["events"]][:2] == ["account_exported", "proof_given"]
    for secret in (mail.token, tokens["refresh_token"], tokens["access_token"], "$2b$", "bob@"):
        assert secret not in answer.text


async def export(service: Service, headers: dict[str, str]) -> httpx.Response:
    return await service.client.get(f"{ME}/export", headers=headers)


async def count_events(pool: Pool, event: str) -> int:
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT count(*) FROM audit_events WHERE event = %s", [event])
        return int((await cursor.fetchone() or (0,))[0])


async def test_a_long_list_is_exported_whole_and_in_order(service: Service, pool: Pool) -> None:
    await service.confirm()
    headers = await service.log_in()
    await execute(
        pool,
        "INSERT INTO mails (id, kind, state, due_at, email_key, sent_at, created_at, reason)"
        " SELECT gen_random_uuid(), 'forgot', 'cancelled', NULL, 'ann@example.com', NULL,"
        "        now() - n * interval '1 minute', n::text FROM generate_series(1, 1000) n",
    )
    await service.prove(headers)
    exported = (await export(service, headers)).json()
    times = [mail["created_at"] for mail in exported["mails"]]
    assert len(times) == 1001
    assert times == sorted(times, reverse=True)
    assert len({mail["id"] for mail in exported["mails"]}) == 1001


async def test_a_head_request_writes_nothing(service: Service, pool: Pool) -> None:
    await service.confirm()
    headers = await service.log_in()
    await service.prove(headers)
    head = await service.client.head(f"{ME}/export", headers=headers)
    assert (head.status_code, head.headers["Content-Type"]) == (200, "application/json")
    assert await count_events(pool, "account_exported") == 0
    assert (await export(service, headers)).status_code == 200
    assert await count_events(pool, "account_exported") == 1


async def test_an_export_that_cannot_be_ended_does_not_look_as_if_it_were(
    service: Service, pool: Pool
) -> None:
    await service.confirm()
    headers = await service.log_in()
    await service.prove(headers)
    await execute(pool, "ALTER TABLE address_moves RENAME TO lost")
    with pytest.raises(httpx.RemoteProtocolError):
        await export(service, headers)
    await execute(pool, "ALTER TABLE lost RENAME TO address_moves")
    assert (await export(service, headers)).json()["moves"] == []  # its place is free again


async def test_exports_and_changes_of_one_user_have_an_end_and_those_of_another_do_not(
    database: str, tmp_path: Path, pool: Pool
) -> None:
    limited = {"REGSVC_RATE_LIMITS": "on", "REGSVC_TRUSTED_PROXIES": "127.0.0.0/8"}
    async with run_test_service(database, tmp_path, limited) as service:
        for name in ("ann", "bob"):
            await service.confirm(f"{name}@example.com")
        ann, bob = [await service.log_in(f"{name}@example.com") for name in ("ann", "bob")]
        await service.prove(ann)
        await service.prove(bob)
        for number in range(EXPORT.quota):
            assert (await export(service, ann)).status_code == 200, number
        # From wherever they come: the limit is the user's.
        refused = await export(service, ann | {"X-Forwarded-For": "198.51.100.7"})
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert int(refused.headers["Retry-After"]) > 0
        assert (await export(service, bob)).status_code == 200

        async def rename(who: dict[str, str], number: int) -> int:
            changed = await service.client.patch(ME, json={"name": f"Name {number}"}, headers=who)
            return changed.status_code

        for number in range(ACCOUNT.quota - 1):  # the proof was one
            assert await rename(ann, number) == 200
        written = await count_events(pool, "profile_changed")
        for path in ("/me", "/sessions/" + str(uuid4())):
            ended = await service.client.request(
                "DELETE", f"/api/v1{path}", json={"password": PASSWORD}, headers=ann
            )
            assert ended.status_code == 429, path
        assert await rename(ann, 0) == 429
        assert await rename(bob, 0) == 200
        assert await count_events(pool, "profile_changed") == written + 1


async def test_no_more_than_a_few_exports_are_written_at_once(service: Service, pool: Pool) -> None:
    """Those that come meanwhile are told to come again, and everything else goes on."""
    await service.confirm()
    headers = await service.log_in()
    async with pool.transaction() as conn, trio.open_nursery() as nursery:
        await service.prove(headers)
        await conn.execute("LOCK TABLE address_moves")  # whoever exports waits here
        answers: list[int] = []

        async def one() -> None:
            with suppress(httpx.RemoteProtocolError):
                async with service.client.stream("GET", f"{ME}/export", headers=headers) as answer:
                    answers.append(answer.status_code)
                    await answer.aread()

        for _ in range(EXPORTS):
            nursery.start_soon(one)
        with trio.fail_after(10):
            while len(answers) < EXPORTS:  # noqa: ASYNC110 - the service is another program to this test
                await trio.sleep(0.01)
        refused = await export(service, headers)
        assert (refused.status_code, refused.json()["code"]) == (503, "overloaded")
        assert (await service.client.get(ME, headers=headers)).status_code == 200
        nursery.cancel_scope.cancel()


async def test_an_export_is_streamed_and_holds_nothing_while_its_reader_is_slow(
    database: str, tmp_path: Path
) -> None:
    """Of a user with 100,000 audit events: little memory, no connection, and no place to hash."""
    one = {"REGSVC_DATABASE_POOL_HTTP": "1", "REGSVC_HASHING_THREADS": "1"}
    async with run_test_service(database, tmp_path, one) as service:
        await service.confirm()
        headers = await service.log_in()
        await service.prove(headers)
        await trio.to_thread.run_sync(
            run_sql,
            database,
            "INSERT INTO audit_events (at, event, actor, actor_id, user_id, details)"
            " SELECT now() - n * interval '1 second', 'logged_in', 'user', u.id, u.id,"
            "        jsonb_build_object('padding', repeat('x', CASE WHEN n <= 10000 THEN 1000 ELSE 0 END))"
            "   FROM users u, generate_series(1, 100000) n",
        )
        host = service.url.removeprefix("http://")
        lines = [f"GET {ME}/export HTTP/1.1", f"Host: {host}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        tracemalloc.start()
        try:
            with trio.socket.socket() as reader:
                reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                await reader.connect(("127.0.0.1", int(host.rpartition(":")[2])))
                await reader.send("\r\n".join([*lines, "", ""]).encode())
                begun = await reader.recv(1000)
                assert begun.startswith(b"HTTP/1.1 200")
                for _ in range(3):
                    assert (await service.client.get(ME, headers=await service.log_in())).status_code == 200
                total, tail = len(begun), begun
                tracemalloc.reset_peak()
                while octets := await reader.recv(1 << 16):
                    total, tail = total + len(octets), (tail + octets)[-1000:]
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert b"]}" in tail, "it came whole"
        assert total > 10_000_000
        assert peak < total / 2, (peak, total)
