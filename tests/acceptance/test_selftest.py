"""`regsvc selftest enumeration` against the real program."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from tests.databases import run_sql
from tests.programs import SharedProgram, clean_environ, run_program, serve_environ

# docs/security.md has what 300 bring. These find what a missing hash or statement shows, or any other answer.
SAMPLES = 12
NEW = {
    "code to log in",
    "wrong code to log in",
    "passkey sign-up, and a login with it",
    "advice",
    "page: sign-up",
    "page: login, wrong password",
    "page: forgot",
    "page: wrong code to log in",
}


async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "regsvc", "selftest", "enumeration", *arguments]
    done = await trio.run_process(
        command, capture_stdout=True, capture_stderr=True, check=False, env=clean_environ({})
    )
    return subprocess.CompletedProcess(command, done.returncode, done.stdout.decode(), done.stderr.decode())


@pytest.mark.timeout(600)
async def test_nobody_learns_who_has_an_account(database: str, tmp_path: Path) -> None:
    """A machine that is too busy may leave something unclear; nothing may be distinguishable."""
    # Not the session's program, whose hashes cost next to nothing.
    async with run_program("serve", folder=tmp_path, environ=serve_environ(database, tmp_path)) as program:
        done = await run(
            program.url, "--maildir", str(tmp_path / "mail"), "--samples", str(SAMPLES), "--json"
        )
    assert done.stdout, done.stderr
    found = {each["call"]: each for each in json.loads(done.stdout)}
    guarded = "login, wrong password, second factor"
    expected = {"register", guarded, "resend", "change of a sign-up's address", "after a sign-up: code", *NEW}
    assert expected < set(found)
    assert all(each["comparisons"] for each in found.values() if each["call"] != "after a sign-up: code")
    for name in (name for name in found if name.startswith(("register", "login"))):
        # They hash a password. One hash less would show in the shortest series, and on the busiest machine.
        for compared in found[name]["comparisons"]:
            low, high = sorted(compared["medians_ms"])
            assert high < 2 * low, found[name]
    told = [each for each in found.values() if each["verdict"] == "distinguishable"]
    assert told == []
    assert done.returncode == (1 if any(each["verdict"] == "unclear" for each in found.values()) else 0)


async def test_where_sign_ups_need_an_invitation_the_other_calls_are_measured(
    database: str, tmp_path: Path
) -> None:
    environ = serve_environ(database, tmp_path, signup="invite", terms="1=https://example.org/terms")
    created = await trio.run_process(
        [sys.executable, "-m", "regsvc", "users", "create-admin", "ann@example.com"],
        stdin=b"correct horse battery\n",
        env=clean_environ(environ),
        capture_stdout=True,
    )
    assert b"ann@example.com" in created.stdout
    known = ("--email", "ann@example.com", "--password", "correct horse battery")
    async with run_program("serve", folder=tmp_path, environ=environ) as program:
        done = await run(program.url, *known, "--samples", str(SAMPLES), "--only", "re", "--json")
    found = {each["call"]: each["verdict"] for each in json.loads(done.stdout)}
    assert set(found) == {"register", "resend"}
    assert "distinguishable" not in found.values(), done.stdout


@pytest.mark.timeout(300)
async def test_reports_and_suppression_tell_nothing_of_accounts(database: str, tmp_path: Path) -> None:
    """Delays, bounces and complaints show the same with and without an account, as soon."""
    token = "a bearer token of the tests"
    run_sql(
        database,
        # Receivers report deliveries, and bounces within 0.2 s.
        "INSERT INTO receiver_families (family, mails, reported, delays, bounce_delays) "
        "VALUES ('all', 100, 100, '{0.2}', '{0.2}')",
    )
    environ = serve_environ(database, tmp_path, feedback_message=token)
    async with run_program("serve", folder=tmp_path, environ=environ) as program:
        mailbox = str(tmp_path / "mail")
        wanted = ("--samples", str(SAMPLES), "--feedback-token", token, "--only", "forgot", "--json")
        done = await run(program.url, "--maildir", mailbox, *wanted)
    assert done.stdout, done.stderr
    found = {each["call"]: each for each in json.loads(done.stdout)}
    assert set(found) == {
        "forgot",
        "page: forgot",
        "report: delayed",
        "address bounced: sign-up",
        "address bounced: resend",
        "address complained: sign-up",
        "address complained: resend",
    }
    assert all(each["comparisons"] for each in found.values())
    assert [each for each in found.values() if each["verdict"] == "distinguishable"] == []


async def test_a_service_with_limits_is_not_measured_and_says_why(database: str, tmp_path: Path) -> None:
    environ = serve_environ(database, tmp_path, rate_limits="on")
    async with run_program("serve", folder=tmp_path, environ=environ) as program:
        done = await run(program.url, "--maildir", str(tmp_path / "mail"), "--samples", "11")
    assert done.returncode == 1
    assert "REGSVC_RATE_LIMITS=off" in done.stderr
    assert "Traceback" not in done.stderr


async def test_without_an_account_or_a_mailbox_it_says_what_it_needs(shared_program: SharedProgram) -> None:
    done = await run(shared_program.url)
    assert (done.returncode, "--maildir" in done.stderr) == (78, True)
    done = await run(shared_program.url, "--email", "ann@example.com")
    assert (done.returncode, "--password" in done.stderr) == (1, True)
