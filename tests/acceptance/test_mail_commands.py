"""What an operator does with mails on the command line."""

from __future__ import annotations

import email
import email.policy
import json
import subprocess
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from click.testing import CliRunner

from regsvc.accounts.admin import mail_search
from regsvc.cli import main
from regsvc.mail.message import render
from regsvc.postgres.pool import Pool
from regsvc.rabbitmq import open_dead_letters
from tests.accounts.attempts import send, sign_up, state_of
from tests.amqp import RawChannel, open_channel
from tests.rabbitmq.conftest import DEAD, consume, publish_good, take
from tests.services import SECRET, Service, run_test_service
from tests.suite.commands import run_command

Done = subprocess.CompletedProcess[bytes]


async def regsvc(*arguments: str, code: int = 0, **environ: str) -> Done:
    """Run a command to its end, with the least that an operator has to set."""
    named = {f"REGSVC_{name.upper()}": value for name, value in environ.items()}
    done = await run_command("mail", *arguments, environ={"REGSVC_SECRET_KEY": SECRET, **named})
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


def events(done: Done) -> list[dict[str, Any]]:
    """Return what a command logged."""
    lines = done.stderr.decode().splitlines()
    return [json.loads(line) for line in lines if line.startswith("{")]


async def execute(pool: Pool, statement: str) -> None:
    async with pool.connection() as conn:
        await conn.execute(statement.encode())


async def mail_state(pool: Pool, mail_id: UUID) -> str:
    async with pool.connection() as conn:
        return (await mail_search.get_mail(conn, mail_id)).state


DEAD_NOW = "UPDATE mails SET state = 'dead', due_at = NULL, sent_at = NULL, reason = 'timeout'"


# -- finding and looking


async def test_mails_are_listed_for_people_and_for_machines(database: str, pool: Pool) -> None:
    ann, bob = await sign_up(pool), await sign_up(pool, "bob@example.com")
    await send(pool, ann.mail_id)
    done = await regsvc("list", database_url=database)
    first, second = done.stdout.decode().splitlines()
    assert first.split()[0] == str(bob.mail_id)
    assert second.split()[0] == str(ann.mail_id)
    assert second.split()[2:] == ["sent", "1", "signup", "ann@example.com"]
    (event,) = events(done)
    assert (event["event"], event["actor"], event["count"]) == ("mails listed", "cli", 2)
    assert len(event["request_id"]) == 32

    options = ("--json", "--state", "sent", "--kind", "signup", "--address", "Ann@Example.com")
    page = json.loads((await regsvc("list", *options, database_url=database)).stdout)
    assert [mail["id"] for mail in page["mails"]] == [str(ann.mail_id)]
    assert page["next_cursor"] is None


async def test_a_long_list_goes_on_where_it_ended(database: str, pool: Pool) -> None:
    mails = [(await sign_up(pool)).mail_id for _ in range(3)]
    first = json.loads((await regsvc("list", "--json", "--limit", "2", database_url=database)).stdout)
    rest = json.loads(
        (await regsvc("list", "--json", "--cursor", first["next_cursor"], database_url=database)).stdout
    )
    assert [mail["id"] for mail in (*first["mails"], *rest["mails"])] == [str(each) for each in mails[::-1]]


async def test_a_mail_is_shown_with_what_was_tried(database: str, pool: Pool) -> None:
    new = await sign_up(pool)
    await send(pool, new.mail_id)
    await execute(
        pool,
        f"""
        INSERT INTO mail_attempts (mail_id, tried_at, attempt, outcome, stage, reason, reply)
        VALUES ('{new.mail_id}', now() - interval '1 hour', 1, 'delayed', 'rcpt', 'mailbox_busy', E'450 \\x1b[2Jbusy')
        """,
    )
    said = (await regsvc("show", str(new.mail_id), database_url=database)).stdout.decode()
    assert "ann@example.com" in said
    assert r"rcpt  mailbox_busy  450 \x1b[2Jbusy" in said
    shown = json.loads((await regsvc("show", "--json", str(new.mail_id), database_url=database)).stdout)
    assert [attempt["outcome"] for attempt in shown["tries"]] == ["delayed", "sent"]
    done = await regsvc("show", str(uuid4()), code=1, database_url=database)
    assert done.stderr.decode().endswith("There is no such message.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--state", "lost"),
        ("list", "--kind", "invoice"),
        ("list", "--address", "ann"),
        ("list", "--cursor", "x"),
        ("list", "--limit", "0"),
        ("show", "x"),
        ("replay",),
        ("replay", "--dead", "00000000-0000-0000-0000-000000000000"),
        ("cancel",),
        ("poison", "drop"),
        ("poison", "requeue", "--all", "x"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, ["mail", *arguments])
    assert (done.exit_code, done.stdout) == (1, "")


async def test_without_settings_it_says_which_and_without_a_database_that(database: str) -> None:
    assert b"REGSVC_DATABASE_URL is missing" in (await regsvc("list", code=78)).stderr
    away = "postgresql://someone:topsecret@127.0.0.1:1/nothing"
    done = await regsvc("list", code=1, database_url=away)
    assert b"topsecret" not in done.stderr
    done = await regsvc("poison", "list", code=78, database_url=database)
    assert b"REGSVC_AMQP_URL is not set" in done.stderr


# -- acting


async def test_a_replayed_mail_goes_out(database: str, pool: Pool, tmp_path: Path) -> None:
    new = await sign_up(pool)
    await execute(pool, DEAD_NOW)
    done = await regsvc("replay", str(new.mail_id), database_url=database)
    assert done.stdout.decode() == f"{new.mail_id}  mail replayed\n"
    (event,) = events(done)
    assert (event["event"], event["actor"], event["mail"]) == ("mail replayed", "cli", str(new.mail_id))
    assert event["request_id"]
    async with run_test_service(database, tmp_path) as service:
        await service.wait_mail()


async def test_what_cannot_be_replayed_does_not_keep_the_others_from_it(database: str, pool: Pool) -> None:
    over, dead, unknown = (await sign_up(pool)).id, (await sign_up(pool)).mail_id, uuid4()
    await execute(pool, DEAD_NOW)
    await execute(
        pool, f"UPDATE registrations SET state = 'expired', password_hash = NULL WHERE id = '{over}'"
    )
    async with pool.connection() as conn:
        found = (await mail_search.list_mails(conn, mail_search.Filters(), after=None, limit=9)).rows
    (over_mail,) = [mail.id for mail in found if mail.registration == over]
    named = [str(over_mail), str(unknown), str(dead)]
    results = json.loads((await regsvc("replay", "--json", *named, code=1, database_url=database)).stdout)
    assert [result["id"] for result in results] == named
    assert [result.get("code", "done") for result in results] == [
        "registration_over",
        "mail_not_found",
        "done",
    ]
    assert await mail_state(pool, dead) == "queued"


async def test_all_the_dead_are_replayed_at_once(database: str, pool: Pool) -> None:
    for n in range(3):
        await sign_up(pool, f"u{n}@example.com")
    await execute(pool, DEAD_NOW)
    assert (await regsvc("replay", "--dead", database_url=database)).stdout == b"3 replayed\n"
    done = await regsvc("replay", "--dead", "--json", database_url=database)
    assert json.loads(done.stdout) == {"replayed": 0}


async def test_a_cancelled_mail_shows_its_registration_as_bounced(database: str, pool: Pool) -> None:
    new = await sign_up(pool)
    done = await regsvc("cancel", str(new.mail_id), database_url=database)
    assert done.stdout.decode() == f"{new.mail_id}  mail cancelled\n"
    assert await state_of(pool, new.id) == "bounced"
    done = await regsvc("cancel", str(new.mail_id), code=1, database_url=database)
    assert f"{new.mail_id}  This message cannot be cancelled".encode() in done.stderr


async def test_what_the_command_line_shows_is_what_the_api_shows(
    database: str, service: Service, pool: Pool
) -> None:
    await service.confirm()
    await execute(pool, "UPDATE users SET role = 'admin'")
    admin = await service.log_in()
    page = (await service.client.get("/api/v1/admin/mails", headers=admin)).json()
    assert json.loads((await regsvc("list", "--json", database_url=database)).stdout) == page
    mail_id = page["mails"][0]["id"]
    shown = (await service.client.get(f"/api/v1/admin/mails/{mail_id}", headers=admin)).json()
    assert json.loads((await regsvc("show", "--json", mail_id, database_url=database)).stdout) == shown


# -- previewing


async def test_every_kind_is_previewed_without_any_setting(tmp_path: Path) -> None:
    whole = json.loads((await regsvc("preview", "--json")).stdout)
    templates = Path(render.__file__).with_name("templates")
    kinds = {path.stem for path in templates.glob("*.txt") if not path.stem.startswith("layout")}
    languages = {path.stem for path in templates.glob("*.toml")}
    assert {(it["kind"], it["language"]) for it in whole} == {(k, lang) for k in kinds for lang in languages}
    for it in whole:
        message = email.message_from_bytes(it["source"].encode(), policy=email.policy.default)
        assert message["Subject"] == it["subject"]
        assert it["html"].startswith("<!DOCTYPE html>")
        assert it["text"].count("http") == it["text"].count("http://localhost:8080/")
    said = (await regsvc("preview")).stdout.decode()
    assert said.count("\n--- ") == len(whole) - 1


async def test_a_preview_has_ones_own_brand_and_templates(tmp_path: Path) -> None:
    (tmp_path / "de.toml").write_text('[confirm]\nsubject = "Bestätigen für {brand}"\n', "utf-8")
    preview = partial(
        regsvc, "preview", brand_name="Acme", templates=str(tmp_path), public_url="https://acme.example"
    )
    one = ("--kind", "confirm", "--language", "de")
    source = (await preview(*one, "--as", "source")).stdout
    assert source.startswith(b"Date: ")
    assert b"\nFrom: Acme <" in source
    assert b"https://acme.example/confirm#t=" in source
    html = (await preview(*one, "--as", "html")).stdout.decode()
    assert html.startswith("<!DOCTYPE html>")
    assert "Acme" in html
    (it,) = json.loads((await preview(*one, "--json")).stdout)
    assert it["subject"] == "Bestätigen für Acme"
    done = await regsvc("preview", "--kind", "invoice", code=1)
    assert b"Kinds are confirm, " in done.stderr
    assert b" each in de, en, " in done.stderr


# -- poison


@pytest.fixture
async def raw(amqp_url: str) -> AsyncIterator[RawChannel]:
    """A channel past regsvc."""
    async with open_channel(amqp_url) as channel:
        yield channel


async def test_poison_is_listed_dropped_and_requeued(database: str, amqp_url: str, raw: RawChannel) -> None:
    async def poison(*arguments: str, code: int = 0) -> Done:
        return await regsvc("poison", *arguments, code=code, database_url=database, amqp_url=amqp_url)

    assert (await poison("list")).stdout == b""
    mail_id = uuid4()
    await raw.publish(DEAD, b"not a mail", message_id="1")
    await raw.publish(DEAD, b"not a mail either", message_id="2")
    await publish_good(raw, mail_id)
    async with consume(amqp_url) as consumer:
        await (await anext(consumer)).reject()

    lines = (await poison("list")).stdout.decode().splitlines()
    assert len(lines) == 3
    assert lines[0].endswith("not a mail")
    letters = json.loads((await poison("list", "--json")).stdout)
    assert [letter["trouble"] for letter in letters] == ["wrong type", "wrong type", None]
    assert letters[2]["mail_id"] == str(mail_id)

    assert b"There is no message xyz" in (await poison("drop", "xyz", letters[0]["id"], code=1)).stderr
    done = await poison("drop", letters[0]["id"])
    assert done.stdout == b"1 dropped\n"
    (event,) = events(done)
    assert (event["event"], event["actor"], event["messages"]) == (
        "poison dropped",
        "cli",
        [letters[0]["id"]],
    )

    done = await poison("requeue", "--all")
    assert done.stdout == b"1 requeued\n"
    assert f"{letters[1]['id']} stays: wrong type".encode() in done.stderr
    async with consume(amqp_url) as consumer:
        assert await take(consumer, 1) == [mail_id]
    assert json.loads((await poison("drop", "--all", "--json")).stdout) == {
        "done": [letters[1]["id"]],
        "left": [],
    }
    async with open_dead_letters(amqp_url) as left:
        assert await left.take(10) == []
