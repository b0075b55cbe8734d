"""Where a conninfo leads, found out without libpq, which would hold up the whole process meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from regsvc.config.loading import load
from regsvc.postgres.addresses import find_attempts

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    """An environment with a file of services."""
    file = tmp_path / "pg_service.conf"
    file.write_text(
        "# ours\n[other]\nhost=192.0.2.1\n\n[regsvc]\n# host=192.0.2.2\nhost=localhost\nport=1234\n"
        "user = ann\npassword=correct-horse\n"
    )
    return {"PGSERVICEFILE": str(file)}


def read(environ: dict[str, str], conninfo: str) -> str:
    """Return what a conninfo of the settings stands for."""
    return load(environ | {"REGSVC_DATABASE_URL": conninfo}, mode="migrate").database_url.get_secret_value()


async def test_the_host_of_a_service_is_resolved_by_us(environ: dict[str, str]) -> None:
    attempts = await find_attempts(read(environ, "service=regsvc"))
    assert attempts
    for attempt in attempts:
        assert (attempt["host"], attempt["port"], attempt["user"]) == ("localhost", "1234", "ann")
        assert attempt["hostaddr"] in {"127.0.0.1", "::1"}


async def test_what_is_said_beside_the_service_wins(environ: dict[str, str]) -> None:
    conninfo = read(environ | {"PGSERVICE": "regsvc"}, "postgresql:///users?host=127.0.0.1")
    (attempt,) = await find_attempts(conninfo)
    assert (attempt["hostaddr"], attempt["port"], attempt["dbname"]) == ("127.0.0.1", "1234", "users")


def test_the_password_of_a_service_is_masked_like_any_other(environ: dict[str, str]) -> None:
    settings = load(environ | {"REGSVC_DATABASE_URL": "service=regsvc"}, mode="migrate")
    assert "correct-horse" in settings.secret_values()


def test_a_service_that_is_not_there_is_left_to_libpq(environ: dict[str, str]) -> None:
    assert read(environ, "service=nowhere") == "service=nowhere"


@pytest.mark.parametrize(
    ("conninfo", "wanted"),
    [
        ("host=127.0.0.1,127.0.0.2", "read-write"),
        ("host=127.0.0.1,127.0.0.2 target_session_attrs=any", "any"),
        ("host=127.0.0.1", None),
    ],
)
async def test_of_several_hosts_the_one_that_takes_writes_is_wanted(
    conninfo: str, wanted: str | None
) -> None:
    assert {attempt.get("target_session_attrs") for attempt in await find_attempts(conninfo)} == {wanted}
