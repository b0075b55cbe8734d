"""`regsvc serve` does not start with what belongs on a laptop, unless told that this is one."""

from __future__ import annotations

from pathlib import Path

import trio

from regsvc.config.insecurities import LAPTOP_SECRET_KEY
from tests.programs import run_program, serve_environ

LAPTOP = {
    "secret_key": LAPTOP_SECRET_KEY,
    "amqp_url": "amqps://guest:guest@rabbitmq.invalid/?no_verify_ssl=1",
    "smtp_url": "smtp://someone:canary-smtp-11@mail.invalid",
    "public_url": "http://accounts.example.org",
}
PROBLEMS = (
    "REGSVC_DATABASE_URL has a well-known password",
    "REGSVC_DATABASE_URL may connect unencrypted",
    "REGSVC_SECRET_KEY is the example key",
    "REGSVC_RATE_LIMITS is off",
    "REGSVC_AMQP_URL logs in as guest with the default password",
    "REGSVC_AMQP_URL has no_verify_ssl",
    "REGSVC_SMTP_URL sends its password unencrypted",
    "REGSVC_PUBLIC_URL is http",
)
DATABASE = "postgresql://admin:changeme@db.invalid/users_db"


async def test_all_of_it_is_named_at_once_and_no_value_shown(tmp_path: Path) -> None:
    environ = serve_environ(DATABASE, tmp_path, allow_insecure="off", **LAPTOP)
    async with run_program("serve", folder=tmp_path, environ=environ, ready=False) as program:
        with trio.fail_after(30):
            assert await program.process.wait() == 78
    for problem in PROBLEMS:
        assert problem in program.log()
    for value in (LAPTOP_SECRET_KEY, "canary-smtp-11", "guest:guest", "admin:changeme"):
        assert value not in program.log()


async def test_on_a_laptop_it_starts_and_says_so_line_by_line(tmp_path: Path) -> None:
    """The database cannot be reached either, which is no reason not to start."""
    environ = serve_environ(DATABASE, tmp_path, allow_insecure="on", **LAPTOP)
    async with run_program("serve", folder=tmp_path, environ=environ, ready=False) as program:
        await program.wait_log("http listening")
        said = [event["setting"] for event in program.events("insecure")]
        assert {event["level"] for event in program.events("insecure")} == {"warning"}
        assert await program.stop() == 0
    for problem in PROBLEMS:
        assert any(line.startswith(problem) for line in said), said
    for value in (LAPTOP_SECRET_KEY, "canary-smtp-11", "guest:guest", "admin:changeme"):
        assert value not in program.log()
