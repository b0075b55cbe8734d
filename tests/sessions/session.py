"""Reads sessions, plays them in a shell, and compares."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_MARK = "--- the command above ended with "


@dataclass
class Step:
    """A command and what it prints, the exit code in brackets included if it is not 0."""

    command: str
    expected: list[str] = field(default_factory=list)

    def fits(self, said: Sequence[str]) -> bool:
        """Return whether that is what the command prints."""
        lines = [r"(?:.*\n)*" if line == "…" else _pattern(line) for line in self.expected]
        return re.fullmatch("".join(lines), "".join(f"{line}\n" for line in said)) is not None


def read_session(text: str) -> list[Step]:
    """Return the steps of a session."""
    steps: list[Step] = []
    for line in text.splitlines():
        match line[:2]:
            case "# ":
                continue
            case "$ ":
                steps.append(Step(line[2:]))
            case "> ":
                steps[-1].command += "\n" + line[2:]
            case _ if line:
                steps[-1].expected.append(line)
    return steps


def play(steps: Sequence[Step], folder: Path, environ: Mapping[str, str]) -> list[list[str]]:
    """Run the commands of a session in a folder, and return what each of them printed; fewer if one hangs."""
    # The shell's own input is the script, which no command may read.
    script = "".join(f"{{ {step.command}\n}} </dev/null\nprintf '\\n{_MARK}%s\\n' $?\n" for step in steps)
    with (folder / "session.log").open("w+b") as log:
        with subprocess.Popen(
            ["sh"], cwd=folder, env=environ, stdin=subprocess.PIPE, stdout=log, stderr=log
        ) as shell:
            try:
                shell.communicate(script.encode(), timeout=60)
            except subprocess.TimeoutExpired:
                shell.kill()
        log.seek(0)
        output = log.read().decode()
    *parts, _ = re.split(rf"^{_MARK}(\d+)\n", output, flags=re.MULTILINE)
    said = []
    for text, code in zip(parts[::2], parts[1::2], strict=True):
        lines = [line for line in text.splitlines() if line]
        said.append(lines if code == "0" else [*lines, f"[{code}]"])
    return said


def _pattern(line: str) -> str:
    return ".*".join(map(re.escape, line.split("…"))) + "\n"
