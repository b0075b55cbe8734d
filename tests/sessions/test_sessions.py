from __future__ import annotations

import re
import shutil
import sys
from pathlib import Path

import pytest

from tests.programs import SharedProgram, clean_environ
from tests.sessions.session import Step, play, read_session
from tests.suite.packages import do_without

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
README_URL = "http://localhost:8080"


@pytest.mark.parametrize("path", sorted(HERE.glob("*.txt")), ids=lambda path: path.stem)
def test_a_session_goes_as_it_is_written(path: Path, dev_program: SharedProgram, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        do_without("no curl here")
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for name in ("regsvc", "python"):
        (programs / name).symlink_to(Path(sys.prefix) / "bin" / name)
    (tmp_path / ".regsvc").symlink_to(dev_program.folder)
    steps = read_session(path.read_text().replace(README_URL, dev_program.url))
    assert steps
    # curl shows how far it is where it does not write to a terminal.
    (tmp_path / ".curlrc").write_text("silent\nshow-error\n")
    said = play(steps, tmp_path, clean_environ({"HOME": str(tmp_path)}))
    for step, lines in zip(steps, said, strict=False):
        assert step.fits(lines), f"$ {step.command}\n" + "\n".join(lines)
    assert len(said) == len(steps), f"this does not end: {steps[len(said)].command}"


def test_the_commands_of_the_readme_are_a_session() -> None:
    """But for what runs it, tests it and puts it into containers."""
    blocks = re.findall(r"^```\n(.*?)^```$", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    commands = [block.strip() for block in blocks if block.startswith(("curl", "REGSVC_"))]
    assert len(commands) >= 3
    played = [step.command for step in read_session((HERE / "readme.txt").read_text())]
    for command in commands:
        pattern = r"\S+".join(map(re.escape, command.split("…")))
        assert any(re.fullmatch(pattern, step) for step in played), command


def test_a_step_is_compared_line_by_line_and_with_its_exit_code(tmp_path: Path) -> None:
    (step,) = read_session("$ printf 'one\\ntwo 2\\nthree\\n'; false\none\ntwo …\n…\n[1]\n")
    assert play([step], tmp_path, clean_environ({})) == [["one", "two 2", "three", "[1]"]]
    assert step.fits(["one", "two 2", "three", "[1]"])
    assert not step.fits(["one", "two 2", "three"])
    assert not step.fits(["one", "2", "[1]"])
    assert Step("true").fits([])
    assert not Step("true").fits(["something"])
