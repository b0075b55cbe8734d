"""A mail server that objects to us pauses sending and burns no mail; when it is well again, all are sent."""

from __future__ import annotations

from pathlib import Path

import trio

from regsvc.postgres.pool import Pool
from tests.proxies import open_proxy
from tests.services import Service, run_test_service
from tests.smtp_servers import ScriptedServer
from tests.suite.ports import take_port


async def hasten_probe(pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute("UPDATE mail_breaker SET probe_at = now()")


async def hasten_mails(pool: Pool) -> None:
    async with pool.connection() as conn:
        await conn.execute("UPDATE mails SET due_at = now() WHERE state = 'delayed'")


async def wait_status(service: Service, status: str) -> dict[str, object]:
    with trio.fail_after(20):
        while True:
            body: dict[str, object] = (await service.client.get("/readyz")).json()
            if body["status"] == status:
                return body
            await trio.sleep(0.05)


async def state_of(service: Service, location: str, handle: str) -> dict[str, object]:
    answer = await service.client.get(location, headers={"Regsvc-Handle": handle})
    shown: dict[str, object] = answer.json()
    return shown


async def test_a_refused_sender_pauses_sending_until_a_probe_succeeds(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    script = {"MAIL": "550 5.7.1 not you"}
    async with (
        ScriptedServer(script).running() as server,
        run_test_service(database, tmp_path, {"REGSVC_SMTP_URL": server.url}) as service,
    ):
        answers = [await service.sign_up(f"u{n}@example.com") for n in range(3)]
        body = await wait_status(service, "degraded")
        assert body["mail_breaker"]["reason"] == "policy_refused"  # type: ignore[index]
        metrics = (await service.client.get("/metrics")).text
        assert "regsvc_mail_breaker_open 1.0" in metrics
        # What comes now is held, and says why.
        late = await service.sign_up("late@example.com")
        with trio.fail_after(20):
            while True:
                shown = await state_of(service, late.headers["Location"], late.headers["Regsvc-Handle"])
                if shown["state"] == "delayed":
                    break
                await trio.sleep(0.05)
        assert shown["reason"] == "policy_refused"
        tried = server.said("MAIL")
        # A probe that fails leaves it open.
        await hasten_probe(pool)
        with trio.fail_after(20):
            await server.wait(lambda: server.said("MAIL") == tried + 1)
        script.clear()
        await hasten_probe(pool)
        await server.wait_mails(1)
        await wait_status(service, "ok")
        await hasten_mails(pool)
        mails = await server.wait_mails(4)
        assert {mail.recipient for mail in mails} == {f"u{n}@example.com" for n in range(3)} | {
            "late@example.com"
        }
        assert len(answers) + 1 == len(mails)


async def test_a_lone_mail_is_sent_when_its_server_is_back_and_not_at_its_next_try_an_hour_later(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    async with ScriptedServer().running() as server, open_proxy(("127.0.0.1", server.port)) as way:
        await way.refuse()
        environ = {"REGSVC_SMTP_URL": f"smtp://127.0.0.1:{way.port}"}
        async with run_test_service(database, tmp_path, environ) as service:
            signed_up = await service.sign_up()
            location, handle = signed_up.headers["Location"], signed_up.headers["Regsvc-Handle"]
            with trio.fail_after(20):
                while (await state_of(service, location, handle))["state"] != "delayed":  # noqa: ASYNC110 - the API is asked
                    await trio.sleep(0.05)
            async with pool.connection() as conn:
                await conn.execute("UPDATE mails SET due_at = now() + interval '1 hour'")
            assert (await service.client.get("/readyz")).json()["status"] == "ok"  # one failure is no alarm
            await way.listen()
            await hasten_probe(pool)
            await server.wait_mails(1)


async def test_a_server_that_is_away_costs_a_lone_mail_no_more_attempts_than_its_schedule(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    port = take_port()
    async with run_test_service(
        database, tmp_path, {"REGSVC_SMTP_URL": f"smtp://127.0.0.1:{port}"}
    ) as service:
        signed_up = await service.sign_up()

        async def failures() -> tuple[int, int]:
            async with pool.connection() as conn:
                cursor = await conn.execute(
                    "SELECT failures, (SELECT max(attempts) FROM mails) FROM mail_breaker"
                )
                row = await cursor.fetchone()
                assert row is not None
                return row[0], row[1]

        async def wait_failures(number: int) -> None:
            with trio.fail_after(30):
                while (await failures())[0] < number:  # noqa: ASYNC110 - a table has no event
                    await trio.sleep(0.05)

        await wait_failures(1)
        # The last two of ten in a row are probes that find nobody there: the breaker opens, the mail was tried once.
        async with pool.connection() as conn:
            await conn.execute("UPDATE mails SET due_at = now() + interval '1 hour'")
            await conn.execute("UPDATE mail_breaker SET failures = 8")
        for number in (9, 10):
            await hasten_probe(pool)
            await wait_failures(number)
        assert (await failures())[1] == 1
        await wait_status(service, "degraded")
        async with ScriptedServer(port=port).running() as server:
            await hasten_probe(pool)
            (mail,) = await server.wait_mails(1)
        assert mail.recipient == "ann@example.com"
        shown = await state_of(service, signed_up.headers["Location"], signed_up.headers["Regsvc-Handle"])
        assert shown["attempts"] == 2
