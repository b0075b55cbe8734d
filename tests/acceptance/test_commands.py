"""What an operator types: help, migrate, check, watch."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import trio

from regsvc.postgres.connection import Connection
from tests.databases import name_database, run_sql
from tests.programs import run_program, serve_environ, talk_to
from tests.smtp_servers import ScriptedServer


async def run(folder: Path, environ: dict[str, str], *arguments: str) -> tuple[int, str]:
    """Run a command to its end and return its exit code and all that it said."""
    async with run_program(*arguments, folder=folder, environ=environ, ready=False) as program:
        with trio.fail_after(60):
            return await program.process.wait(), program.log()


async def test_help_names_every_command(tmp_path: Path) -> None:
    code, said = await run(tmp_path, {}, "--help")
    assert code == 0
    for command in ("dev", "serve", "migrate", "check", "watch", "selftest"):
        assert f"\n  {command} " in said


@pytest.mark.parametrize(
    "arguments", [[], ["frob"], ["serve", "--role", "both"], ["watch", "http://localhost"]]
)
async def test_a_command_line_that_is_not_understood_is_1(tmp_path: Path, arguments: list[str]) -> None:
    code, said = await run(tmp_path, {}, *arguments)
    assert (code, "Usage: " in said) == (1, True)


async def test_migrate_needs_the_database_alone_and_may_run_many_times_at_once(
    postgres_server: str, tmp_path: Path
) -> None:
    run_sql(postgres_server, "CREATE DATABASE commands_migrate")
    database = name_database(postgres_server, "commands_migrate")
    outcomes: list[tuple[int, str]] = []

    async def one() -> None:
        outcomes.append(await run(tmp_path, {"REGSVC_DATABASE_URL": database}, "migrate"))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(one)
    assert [code for code, _ in outcomes] == [0] * 4
    assert sum("applied 0001_initial" in said for _, said in outcomes) == 1
    code, said = await run(tmp_path, {"REGSVC_DATABASE_URL": database}, "migrate")
    assert (code, "up to date" in said) == (0, True)
    async with await Connection.connect(database) as conn:
        await conn.execute("SELECT count(*) FROM registrations")


async def test_migrate_without_a_database_is_78_and_with_one_that_is_away_1(tmp_path: Path) -> None:
    code, said = await run(tmp_path, {}, "migrate")
    assert (code, "REGSVC_DATABASE_URL" in said) == (78, True)
    away = {"REGSVC_DATABASE_URL": "postgresql://someone:topsecret@127.0.0.1:1/nothing"}
    code, said = await run(tmp_path, away, "migrate")
    assert (code, "Connection refused" in said) == (1, True)
    assert "topsecret" not in said
    assert "Traceback" not in said


async def test_check_says_ok_line_by_line(database: str, tmp_path: Path, amqp_url: str) -> None:
    async with ScriptedServer().running() as server:
        environ = serve_environ(database, tmp_path, amqp_url=amqp_url, smtp_url=server.url)
        code, said = await run(tmp_path, environ, "check")
    lines = [line.split()[:2] for line in said.splitlines() if not line.startswith("{")]
    assert lines == [["settings", "ok"], ["postgresql", "ok"], ["rabbitmq", "ok"], ["smtp", "ok"]]
    assert code == 0
    assert server.mails == []


async def test_check_names_what_does_not_answer_and_why(tmp_path: Path) -> None:
    environ = serve_environ(
        "postgresql://u:topsecret@127.0.0.1:1/x",
        tmp_path,
        amqp_url="amqp://u:topsecret@127.0.0.1:1/",
        smtp_url="smtp://u:topsecret@127.0.0.1:1",
    )
    code, said = await run(tmp_path, environ, "check")
    assert code == 1
    for name in ("postgresql", "rabbitmq", "smtp"):
        (line,) = [line for line in said.splitlines() if line.startswith(name)]
        assert not line.endswith(" ok")
    assert "topsecret" not in said
    assert "Traceback" not in said


async def test_check_tells_machines_what_to_change_and_what_is_away(database: str, tmp_path: Path) -> None:
    """The exit code is 78 for what an operator has to change, whatever else is away."""
    environ = serve_environ(database, tmp_path, smtp_url="smtp://127.0.0.1:1")
    code, said = await run(tmp_path, environ, "check", "--json")
    reports = {report["name"]: report for report in read_json(said)}
    assert (code, reports["postgresql"]["ok"], reports["smtp"]["ok"]) == (1, True, False)
    assert reports["smtp"]["misconfigured"] == []
    assert len(reports["smtp"]["unavailable"]) == 1
    run_sql(database, "DROP TABLE schema_migrations")
    code, said = await run(tmp_path, environ, "check", "--json")
    reports = {report["name"]: report for report in read_json(said)}
    assert code == 78
    assert "run `regsvc migrate`" in reports["postgresql"]["misconfigured"][0]
    assert len(reports["smtp"]["unavailable"]) == 1
    code, said = await run(tmp_path, environ | {"REGSVC_SECRET_KEY": ""}, "check", "--json")
    (settings,) = read_json(said)
    assert (code, settings["name"], settings["ok"]) == (78, "settings", False)
    assert "REGSVC_SECRET_KEY is missing" in settings["misconfigured"][0]


async def test_check_names_what_is_insecure_and_taken_all_the_same(database: str, tmp_path: Path) -> None:
    environ = serve_environ(database, tmp_path) | {"REGSVC_PUBLIC_URL": "http://www.example.com"}
    code, said = await run(tmp_path, environ | {"REGSVC_ALLOW_INSECURE": "on"}, "check")
    assert code == 0
    assert "settings    ok (" in said
    assert "insecure: REGSVC_PUBLIC_URL is http" in said
    code, said = await run(tmp_path, environ | {"REGSVC_ALLOW_INSECURE": "off"}, "check")
    assert code == 78


def read_json(said: str) -> list[dict[str, Any]]:
    """Return what was printed for machines, without the log."""
    start = said.index("[\n")
    reports: list[dict[str, Any]] = json.JSONDecoder().raw_decode(said[start:])[0]
    return reports


async def test_watch_follows_a_registration_to_its_end(database: str, tmp_path: Path) -> None:
    environ = serve_environ(database, tmp_path)
    async with (
        run_program("serve", folder=tmp_path, environ=environ) as program,
        talk_to(program, tmp_path) as service,
    ):
        signed_up = await service.sign_up()
        url = program.url + signed_up.headers["Location"]
        handle = {"REGSVC_HANDLE": signed_up.headers["Regsvc-Handle"]}
        async with run_program("watch", url, folder=tmp_path, environ=handle, ready=False) as watch:
            await watch.wait_log("sent")
            mail = await service.wait_mail()
            await service.post("/confirm-email", {"token": mail.token})
            with trio.fail_after(20):
                assert await watch.process.wait() == 0
            assert watch.log().splitlines()[-1].endswith("confirmed")
        async with run_program("watch", url, "--handle", "A" * 43, folder=tmp_path, ready=False) as stranger:
            with trio.fail_after(20):
                assert await stranger.process.wait() == 1
            assert "handle" in stranger.log()


async def test_watch_ends_quietly_at_ctrl_c(database: str, tmp_path: Path) -> None:
    environ = serve_environ(database, tmp_path)
    async with (
        run_program("serve", folder=tmp_path, environ=environ) as program,
        talk_to(program, tmp_path) as service,
    ):
        signed_up = await service.sign_up()
        url = program.url + signed_up.headers["Location"]
        handle = {"REGSVC_HANDLE": signed_up.headers["Regsvc-Handle"]}
        async with run_program("watch", url, folder=tmp_path, environ=handle, ready=False) as watch:
            await watch.wait_log("sent")
            assert await watch.stop(signal.SIGINT) != 0
            assert "Traceback" not in watch.log()


@pytest.mark.parametrize("url", ["", "x", "ftp://localhost/api/v1/registrations/x", "http://localhost/"])
async def test_watch_refuses_what_is_no_registration(tmp_path: Path, url: str) -> None:
    code, said = await run(tmp_path, {}, "watch", url, "--handle", "x")
    assert (code, "registration" in said) == (78, True)
