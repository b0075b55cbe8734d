"""What an operator does about users on the command line."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import bcrypt
import pytest
from click.testing import CliRunner

from regsvc.cli import main
from regsvc.commands.imports.rows import read_rows
from regsvc.commands.imports.table import read_table
from regsvc.postgres.pool import Pool
from regsvc.postgres.schema import read_migrations
from tests.accounts.attempts import sign_up
from tests.accounts.users import add_user
from tests.factors.people import own_app
from tests.services import PASSWORD, SECRET, run_test_service
from tests.suite.commands import run_command

Done = subprocess.CompletedProcess[bytes]

HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()


async def regsvc(database: str, *arguments: str, code: int = 0, stdin: bytes = b"") -> Done:
    """Run a command to its end."""
    environ = {"REGSVC_DATABASE_URL": database, "REGSVC_SECRET_KEY": SECRET, "REGSVC_BCRYPT_COST": "10"}
    done = await run_command("users", *arguments, stdin=stdin, environ=environ)
    assert done.returncode == code, done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    return done


async def as_json(database: str, *arguments: str, **options: Any) -> Any:
    return json.loads((await regsvc(database, *arguments, "--json", **options)).stdout)


async def events(pool: Pool) -> list[tuple[str, str]]:
    async with pool.connection() as conn:
        cursor = await conn.execute("SELECT event, actor FROM audit_events ORDER BY id")
        return [(event, actor) for event, actor in await cursor.fetchall()]


# -- administrators


async def test_the_first_administrator_is_made_and_looks_around(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    made = await as_json(database, "create-admin", "Root@example.com", "--generate")
    typed = await regsvc(database, "create-admin", "two@example.com", stdin=b"a password of my own\n")
    assert b"a password of my own" not in typed.stdout + typed.stderr
    async with run_test_service(database, tmp_path) as service:
        admin = await service.log_in("root@example.com", made["password"])
        await service.log_in("two@example.com", "a password of my own")
        shown = (await service.client.get("/api/v1/users", headers=admin)).json()
        assert {user["role"] for user in shown["users"]} == {"admin"}
        assert await as_json(database, "list") == shown
        assert await as_json(database, "show", made["id"]) in shown["users"]
    assert (await events(pool))[:2] == [("account_created", "operator")] * 2


async def test_an_administrator_needs_a_good_password_and_an_address_of_their_own(
    database: str, pool: Pool
) -> None:
    done = await regsvc(database, "create-admin", "root@example.com", stdin=b"short\n", code=1)
    assert b"at least 8 characters" in done.stderr
    await regsvc(database, "create-admin", "root@example.com", code=1)
    await add_user(pool)
    done = await regsvc(database, "create-admin", "ann@example.com", "--generate", code=1)
    assert b"already has an account" in done.stderr
    assert done.stdout == b""


async def test_users_are_listed_beside_a_newer_schema_that_serves_this_program_and_no_other(
    database: str, pool: Pool
) -> None:
    """As in the middle of an update, with the old program at hand."""
    await add_user(pool)
    own = read_migrations()[-1].number
    async with pool.connection() as conn:
        await conn.execute("ALTER TABLE users ADD COLUMN size integer NOT NULL DEFAULT 0")
        await conn.execute(
            "INSERT INTO schema_migrations (name, checksum, serves) VALUES (%s, 'x', %s)",
            [f"{own + 1:04}_size", own],
        )
    (line,) = (await regsvc(database, "list")).stdout.decode().splitlines()
    assert line.split()[2:] == ["user", "active", "Ann@example.com", "Ann"]
    await regsvc(database, "role", "admin", "ann@example.com")
    async with pool.connection() as conn:
        await conn.execute("UPDATE schema_migrations SET serves = %s WHERE serves = %s", [own + 1, own])
    done = await regsvc(database, "list", code=78)
    assert b"update the program" in done.stderr
    assert done.stdout == b""


async def test_users_are_listed_shown_and_changed(database: str, pool: Pool) -> None:
    await add_user(pool)
    await add_user(pool, "bob@example.com")
    first, second = (await regsvc(database, "list")).stdout.decode().splitlines()
    assert first.split()[2:] == ["user", "active", "bob@example.com", "Ann"]
    assert second.split()[2:] == ["user", "active", "Ann@example.com", "Ann"]
    await regsvc(database, "role", "admin", "ann@example.com", "bob@example.com")
    done = await regsvc(database, "disable", "ann@example.com", "bob@example.com", "x", code=1)
    assert done.stdout.decode() == "ann@example.com  user disabled\n"
    assert b"bob@example.com  This is the only administrator" in done.stderr
    assert b"x  There is no such user." in done.stderr
    results = await as_json(database, "enable", "ann@example.com", "x", code=1)
    assert [result.get("code", "done") for result in results] == ["done", "user_not_found"]
    await regsvc(database, "end-sessions", "ann@example.com")
    await regsvc(database, "delete", "ann@example.com", code=1)  # nobody said yes
    await regsvc(database, "delete", "--yes", "ann@example.com")
    await regsvc(database, "show", "ann@example.com", code=1)
    assert [event for event, _ in await events(pool)] == [
        "role_changed",
        "role_changed",
        "user_disabled",
        "user_enabled",
        "sessions_ended",
        "account_deleted",
    ]


async def test_second_factors_are_reset(database: str, pool: Pool) -> None:
    user_id = await add_user(pool)
    async with pool.transaction() as conn:
        await own_app(conn, user_id)
    (done,) = await as_json(database, "reset-factors", "ann@example.com")
    assert done["done"]
    assert await events(pool) == [("factors_reset", "operator")]
    async with pool.connection() as conn:
        cursor = await conn.execute(
            "SELECT (SELECT count(*) FROM totp_authenticators), (SELECT count(*) FROM recovery_codes),"
            " (SELECT string_agg(about, ' ') FROM mails WHERE user_id = %s)",
            [user_id],
        )
        assert await cursor.fetchone() == (0, 0, "factors_reset")
    await regsvc(database, "reset-factors", "bob@example.com", code=1)


async def test_a_registration_is_confirmed_by_hand(database: str, pool: Pool) -> None:
    new = await sign_up(pool)
    assert (await as_json(database, "confirm", str(new.id)))["email"] == "ann@example.com"
    done = await regsvc(database, "confirm", str(new.id), code=1)
    assert b"This registration is over" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--role", "root"),
        ("list", "--cursor", "x"),
        ("role", "root", "ann@example.com"),
        ("disable",),
        ("confirm", "x"),
        ("create-admin", "root", "--generate"),
        ("import", "/there/is/no/such/file"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_done(arguments: tuple[str, ...]) -> None:
    done = CliRunner().invoke(main, ["users", *arguments])
    assert (done.exit_code, done.stdout) == (1, "")


# -- users of another system


async def test_users_of_another_system_log_in_with_their_passwords(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    await add_user(pool)
    table = tmp_path / "users.csv"
    table.write_text(
        "\ufeffemail,name,password_hash,created_at,locale\r\n"
        f'bob@example.com,"Bob, ""the"" builder",{HASH},2020-02-29T12:00:00Z,\r\n'
        "\r\n"
        f"ANN@example.com,Ann,{HASH},,en\r\n",
        "utf-8",
    )
    dry = await as_json(database, "import", "--dry-run", str(table))
    assert dry == {"imported": 0, "would_import": 1, "known": ["ANN@example.com"]}
    for number in (1, 0):
        done = await regsvc(database, "import", str(table))
        assert done.stdout.startswith(f"{number} were imported".encode())
        assert b"ANN@example.com already has an account" in done.stderr
    assert await events(pool) == [("users_imported", "operator")]
    async with run_test_service(database, tmp_path) as service:
        bob = await service.log_in("bob@example.com")
        profile = (await service.client.get("/api/v1/me", headers=bob)).json()
        assert (profile["name"], profile["created_at"]) == ('Bob, "the" builder', "2020-02-29T12:00:00.000Z")
        async with pool.connection() as conn:
            cursor = await conn.execute("SELECT password_hash FROM users WHERE email = 'bob@example.com'")
            assert str((await cursor.fetchone() or [""])[0]).startswith("$hmac-sha384-bcrypt$")
        answer = await service.post("/login", {"email": "ann@example.com", "password": PASSWORD})
        assert answer.status_code == 401  # her own account stays as it was


HEAD = "email,name,password_hash,created_at,locale"
GOOD = f"ann@example.com,Ann,{HASH},,"


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        ("", "line 1: the columns"),
        ("email,name", "line 1: the columns"),
        ("email,name,password_hash,role", "line 1: the columns"),
        ("email,name,password_hash,name", "line 1: the columns"),
        (f"{HEAD}\n{GOOD},x", "line 2: its number of columns differs"),
        (f"{HEAD}\nann@example.com,Ann", "line 2: its number of columns differs"),
        (f"{HEAD}\n{GOOD}\nann,Ann,{HASH},,", "line 3: email: "),
        (f"{HEAD}\n{GOOD}\nANN@example.com,Ann,{HASH},,", "line 3: email: the address occurs twice"),
        (f'{HEAD}\n"ann@example.com","A\nnn",{HASH},,', "line 3: name: "),
        (f"{HEAD}\nann@example.com,,{HASH},,", "line 2: name: "),
        (f"{HEAD}\nann@example.com,Ann,hunter2,,", "line 2: password_hash: must be a hash"),
        (
            f"{HEAD}\nann@example.com,Ann,{HASH.replace('$04$', '$16$')},,",
            "line 2: password_hash: must be a hash",
        ),
        (f"{HEAD}\nann@example.com,Ann,$hmac-sha384-bcrypt$x{HASH},,", "line 2: password_hash: "),
        (f"{HEAD}\nann@example.com,Ann,{HASH},2020-02-30T12:00:00Z,", "line 2: created_at: must be a time"),
        (f"{HEAD}\nann@example.com,Ann,{HASH},2020-02-29T12:00:00,", "line 2: created_at: must be a time"),
        (f"{HEAD}\nann@example.com,Ann,{HASH},2999-01-01T00:00:00Z,", "line 2: created_at: must be a time"),
        (f"{HEAD}\nann@example.com,Ann,{HASH},,xx", "line 2: locale: must be one of"),
        (f'{HEAD}\n"ann@example.com', "the file is not CSV"),
        (f"{HEAD}\nann@example.com,\udcff", "the file is not UTF-8"),
    ],
)
def test_every_line_that_cannot_be_imported_is_named(tmp_path: Path, lines: str, problem: str) -> None:
    table = tmp_path / "users.csv"
    table.write_bytes(lines.encode("utf-8", "surrogateescape"))
    (found,) = read_rows(read_table(table), ()).problems
    assert found.startswith(problem)


async def test_of_a_table_with_anything_wrong_nothing_is_imported(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    table = tmp_path / "users.csv"
    table.write_text(f"{HEAD}\n{GOOD}\nx,,y,,\n", "utf-8")
    done = await regsvc(database, "import", str(table), code=1)
    said = done.stderr.decode().splitlines()
    assert [line.partition(": ")[2].partition(":")[0] for line in said[:3]] == [
        "email",
        "name",
        "password_hash",
    ]
    assert said[3:] == ["Nothing was imported."]
    assert (await as_json(database, "list"))["users"] == []


async def test_a_line_that_is_wrong_is_named_and_left_out_where_asked(
    database: str, pool: Pool, tmp_path: Path
) -> None:
    """The exit code says that a line was; a file that cannot be read to its end is imported by no means."""
    table = tmp_path / "users.csv"
    others = f"a..b@docomo.ne.jp,Ann,{HASH},,\n mailto:<cid@corp.local>,Cid,{HASH},,\n"
    table.write_text(f"{HEAD}\n{GOOD}\na..b@example.com,Ann,{HASH},,\n{others}", "utf-8")
    broken = tmp_path / "broken.csv"
    broken.write_text(f'{HEAD}\n{GOOD}\n"ann', "utf-8")
    assert (await regsvc(database, "import", "--skip-invalid", str(broken), code=1)).stdout == b""
    done = await regsvc(database, "import", "--skip-invalid", "--json", str(table), code=1)
    told = json.loads(done.stdout)
    assert [line.partition(": ")[0] for line in told.pop("invalid")] == ["line 3", "line 5"]
    assert told == {"imported": 2, "would_import": 2, "known": []}
    listed = await as_json(database, "list")
    assert {user["email"] for user in listed["users"]} == {"ann@example.com", "a..b@docomo.ne.jp"}


@pytest.mark.parametrize("name", ["", " ", "x" * 300, "A\nB", "\x1b[31mA", "A\u202eB"], ids=ascii)
def test_an_administrator_has_a_name_like_everybody(name: str) -> None:
    done = CliRunner().invoke(
        main, ["users", "create-admin", "root@example.com", "--generate", "--name", name]
    )
    assert (done.exit_code, done.stdout) == (1, "")
    assert "name" in done.stderr


async def test_users_are_found_by_any_spelling(database: str, pool: Pool) -> None:
    """By name in its own letters; by address as A-labels, as U-labels, or up to its domain's first dot."""
    await add_user(pool, "Karl@großbank.example", name="Karl Strauß")
    await add_user(pool, "Ünal@example.com", name="İpek")
    for search, email in [
        ("Karl Strauß", "Karl@großbank.example"),
        ("karl@GROẞBANK", "Karl@großbank.example"),
        ("karl@xn--grobank-2va.ex", "Karl@großbank.example"),
        ("KARL", "Karl@großbank.example"),
        ("İpek", "Ünal@example.com"),
        ("Ünal@ex", "Ünal@example.com"),
    ]:
        found = await as_json(database, "list", "--search", search)
        assert [user["email"] for user in found["users"]] == [email], search
    shown = await as_json(database, "show", " karl@xn--grobank-2va.example. ")
    assert shown["email"] == "Karl@großbank.example"
    assert (await as_json(database, "list", "--search", "karl@grossbank"))["users"] == []


async def test_accounts_that_shared_a_key_are_listed(database: str, pool: Pool) -> None:
    user_id = await add_user(pool, "ann@großbank.example")
    new = await sign_up(pool, "ann@grossbank.example")
    async with pool.connection() as conn:
        await conn.execute("UPDATE users SET email_key = 'ann@grossbank.example'")
    (found,) = await as_json(database, "collisions", "--recompute")
    assert (found["user_id"], found["finding"]) == (str(user_id), "shared")
    assert [other["id"] for other in found["others"]] == [str(new.id)]
    lines = (await regsvc(database, "collisions")).stdout.decode().splitlines()
    assert lines[0].split() == ["shared", str(user_id), "ann@großbank.example"]
    assert await as_json(database, "collisions", "--dismiss", str(user_id)) == []


@pytest.mark.parametrize("prefix", ["$2a$", "$2b$", "$2y$"])
async def test_every_writing_of_bcrypt_is_taken(tmp_path: Path, prefix: str) -> None:
    table = tmp_path / "users.csv"
    table.write_text(f"{HEAD}\n{GOOD.replace('$2b$', prefix)}\n", "utf-8")
    read = read_rows(read_table(table), ())
    assert (len(read.users), read.problems) == (1, [])
