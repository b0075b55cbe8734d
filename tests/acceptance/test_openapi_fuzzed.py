"""Schemathesis makes requests of the service's own description: every answer is a described one."""

from __future__ import annotations

import sys
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from tests.databases import run_sql
from tests.programs import clean_environ, run_program, serve_environ, talk_to

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "ignored_auth",
)
# A call that ends the session that all of the others are made with.
ENDING = r"^/api/v1/logout"
EXAMPLES = 12  # for each call, beside those for every single rule of its schemas


@pytest.mark.timeout(300)
@pytest.mark.parametrize("role", ["user", "admin"])
async def test_no_request_is_answered_with_500_or_what_is_not_described(
    database: str, tmp_path: Path, role: str
) -> None:
    environ = serve_environ(database, tmp_path)
    async with (
        run_program("serve", folder=tmp_path, environ=environ, cheap=True) as program,
        talk_to(program, tmp_path) as service,
    ):
        address = f"{uuid4()}@example.com"
        await service.confirm(address)
        run_sql(database, f"UPDATE users SET role = '{role}'")
        bearer = (await service.log_in(address))["Authorization"]
        done = await trio.run_process(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{program.url}/openapi.json"),
                *(
                    "--url",
                    program.url,
                    "--header",
                    f"Authorization: {bearer}",
                    "--exclude-path-regex",
                    ENDING,
                ),
                *("--checks", ",".join(CHECKS), "--phases", "examples,coverage,fuzzing"),
                *("--max-examples", str(EXAMPLES), "--seed", "1", "--continue-on-failure", "--no-color"),
            ],
            capture_stdout=True,
            check=False,
            cwd=tmp_path,
            env=clean_environ({}),
        )
        assert done.returncode == 0, done.stdout.decode()
        program.check_log()
