"""Programs of other projects that the tests run, built from their source by Go. `make tools` builds all of them.

Helm takes minutes to compile, so what was built is kept for every checkout of this user.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final


@dataclass(frozen=True)
class GoProgram:
    """A program and the version that is built.

    Args:
        name: of the program.
        package: what Go builds.
        version: of the module.
    """

    name: str
    package: str
    version: str

    @property
    def kept(self) -> Path:
        """Where it is once it was built."""
        return find_cache() / f"{self.name}-{self.version}"

    def find(self) -> str | None:
        """Return its path: what REGSVC_TEST_NAME names, what was built, or what is installed."""
        given = os.environ.get(f"REGSVC_TEST_{self.name.upper()}")
        return given or (str(self.kept) if self.kept.exists() else shutil.which(self.name))

    def build(self) -> None:
        """Build it if that was not done before, behind everything else that the machine does.

        Raises:
            CalledProcessError: Go cannot.
        """
        cache = find_cache()
        cache.mkdir(parents=True, exist_ok=True)
        with (cache / f"{self.name}.lock").open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if self.kept.exists():
                return
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                go("install", "-trimpath", "-ldflags=-s -w", f"{self.package}@{self.version}", GOBIN=folder)
                (Path(folder) / self.name).rename(self.kept)


HELM: Final = GoProgram("helm", "helm.sh/helm/v3/cmd/helm", "v3.18.6")
KUBECONFORM: Final = GoProgram("kubeconform", "github.com/yannh/kubeconform/cmd/kubeconform", "v0.7.0")
PROGRAMS: Final = (KUBECONFORM, HELM)


def find_cache() -> Path:
    """Return the folder of this user in which built programs are kept."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "regsvc-tests"


def go(*arguments: str, **environ: str) -> str:
    """Run Go, with the toolchain that is installed, and return what it prints.

    Raises:
        FileNotFoundError: there is none.
        CalledProcessError: it failed; its errors are shown.
    """
    program = shutil.which("go") or shutil.which(
        "go", path="/usr/local/go/bin"
    )  # where Go's own archive puts it
    if program is None:
        raise FileNotFoundError("no Go here")
    # Mod files of ours or of a workspace have no say in it.
    own = {"GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod", "GOWORK": "off", "CGO_ENABLED": "0"}
    with tempfile.TemporaryDirectory() as nowhere:
        return subprocess.run(
            ["nice", "-n", "19", program, *arguments],
            cwd=nowhere,
            env={**os.environ, **own, **environ},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=3600,
        ).stdout


def main() -> int:
    """Build everything, fetch the schemas, and return the exit code. What cannot be had is said, and is no failure."""
    from tests.tools.kubernetes_schemas import find_schemas  # noqa: PLC0415 - it needs this module

    try:
        for each in PROGRAMS:
            each.build()
            sys.stdout.write(f"{each.kept}\n")
        sys.stdout.write(f"{find_schemas()}\n")
    except (FileNotFoundError, subprocess.SubprocessError) as error:
        sys.stderr.write(
            f"NOT BUILT ({error}): tests that render the Helm chart are skipped, or fail with CI=true\n"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
