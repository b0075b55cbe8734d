"""What `make lint` and the hooks before a commit check."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("ALTER TABLE users ADD COLUMN x text NOT NULL;", "adding-required-field"),
        ("ALTER TABLE users ALTER COLUMN name SET NOT NULL;", "adding-not-nullable-field"),
        ("ALTER TABLE users ALTER COLUMN name TYPE varchar(9);", "changing-column-type"),
        ("ALTER TABLE users ADD CONSTRAINT c CHECK (name <> '');", "constraint-missing-not-valid"),
        ("CREATE INDEX i ON users (name);", "require-concurrent-index-creation"),
        ("ALTER TABLE users RENAME COLUMN name TO called;", "renaming-column"),
        ("ALTER TABLE users DROP COLUMN name;", "ban-drop-column"),
    ],
)
def test_a_migration_that_locks_or_breaks_is_found(tmp_path: Path, statement: str, rule: str) -> None:
    migration = tmp_path / "9999_next.sql"
    migration.write_text(statement)
    assert rule in squawk(migration)


def test_a_migration_that_only_adds_is_let_through(tmp_path: Path) -> None:
    migration = tmp_path / "9999_next.sql"
    migration.write_text(
        "CREATE TABLE shops (id uuid PRIMARY KEY, tries integer NOT NULL);\n"
        "CREATE INDEX shops_tries ON shops (tries);\n"
        "ALTER TABLE users ADD COLUMN shop uuid;\n"
        "ALTER TABLE users ADD COLUMN seen boolean NOT NULL DEFAULT false;\n"
    )
    assert squawk(migration) == ""


def squawk(migration: Path) -> str:
    """Return what is wrong with a migration, by the configuration of the checkout."""
    done = subprocess.run(
        [Path(sys.prefix) / "bin/squawk", "--reporter", "gcc", migration],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode == 0) == (done.stdout == ""), done.stderr
    return done.stdout


def test_the_hooks_before_a_commit_are_local_and_are_what_make_lint_runs() -> None:
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert [each["repo"] for each in repositories] == ["local"]
    hooks = repositories[0]["hooks"]
    assert all(hook["language"] == "system" for hook in hooks)
    lint = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    run = {line.strip("\t@").replace("$(BIN)/", "").split()[0] for line in lint.splitlines()[1:]}
    assert {hook["entry"].removeprefix(".venv/bin/").split()[0] for hook in hooks} == run
