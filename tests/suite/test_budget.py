from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.programs import clean_environ
from tests.suite.budget import LONG, TOO_LONG, find_too_long

ROOT = Path(__file__).parents[2]
QUICK = {f"tests/test_it.py::test_{number}": 0.1 for number in range(4_000)}  # 400 s in all


def test_a_test_that_takes_more_than_its_share_of_a_whole_run_is_found() -> None:
    assert find_too_long({**QUICK, "one": 20.0}) == []
    assert find_too_long({**QUICK, "one": 22.0}) == ["one"]
    assert find_too_long({**QUICK, next(iter(LONG)): 22.0}) == []


def test_shares_of_a_part_of_the_tests_mean_nothing() -> None:
    assert find_too_long({"one": 22.0, "other": 0.1}) == []


def test_what_may_take_long_is_there() -> None:
    for test in LONG:
        file, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / file).read_text()


def test_a_green_run_that_is_over_budget_fails(tmp_path: Path) -> None:
    """With an exit code that asks for no second look."""
    (tmp_path / "conftest.py").write_text("from tests.suite import budget\nbudget._WHOLE = 20\n")
    (tmp_path / "test_it.py").write_text(
        "import time, pytest\n"
        "@pytest.mark.parametrize('number', range(20))\n"
        "def test_it(number):\n"
        "    time.sleep(0.3 * (number == 7))\n"
    )
    plugins = ("-p", "no:cacheprovider", "-p", "tests.suite.run", "-p", "tests.suite.budget")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *plugins],
        cwd=tmp_path,
        env=clean_environ({"PYTHONPATH": f"{os.environ.get('PYTHONPATH', '')}:{ROOT}"}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == TOO_LONG, done.stdout
    assert "costliest tests" in done.stdout
    assert "test_it.py::test_it[7] takes more than 5% of the whole run" in done.stdout
