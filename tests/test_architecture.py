"""Who may know whom, read from the imports."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import regsvc

ROOT = Path(regsvc.__file__).parent

# From the top down. A room imports from those below it and from itself, never from beside or above.
FLOORS = (
    {"__main__"},
    {"cli"},
    {"commands"},
    {"dev", "checks"},
    {"program", "watch", "selftest"},
    {"roles"},
    {"http", "consumer"},
    {"flows"},
    {"schemas"},
    {"accounts"},
    {"mail", "security"},
    {"postgres", "rabbitmq"},
    {"config"},
    {"logs"},
    {"redaction"},
    {"errors", "live", "metrics", "supervisor", "waiting"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

FORBIDDEN_NAMES = {"utils", "helpers", "common", "core", "models", "services"}

MODULES = sorted(ROOT.rglob("*.py"))


def name_of(module: Path) -> str:
    return ".".join(("regsvc", *module.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def room_of(name: str) -> str | None:
    """The first part of a module's name behind `regsvc`, or None for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else None


def imports_of(module: Path) -> set[str]:
    """Every module that a file imports, wherever in the file, the names of submodules included."""
    package = name_of(module) if module.name == "__init__.py" else name_of(module).rpartition(".")[0]
    found: set[str] = set()
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(
                    filter(None, (*package.split(".")[: len(package.split(".")) - node.level + 1], base))
                )
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def rooms_imported(module: Path) -> set[str]:
    known = {room_of(name_of(path)) for path in MODULES}
    return {
        room
        for name in imports_of(module)
        if name.split(".")[0] == "regsvc" and (room := room_of(name)) is not None and room in known
    }


@pytest.mark.parametrize("module", MODULES, ids=name_of)
def test_imports_go_only_downward(module: Path) -> None:
    room = room_of(name_of(module))
    if room is None:
        assert not rooms_imported(module), "the package itself imports nothing"
        return
    assert room in FLOOR, f"{room} has no floor yet: give it one in FLOORS"
    upward = {other for other in rooms_imported(module) - {room} if FLOOR[other] <= FLOOR[room]}
    assert not upward


def outside(module: Path) -> set[str]:
    """The top-level names of what a file imports from elsewhere."""
    return {name.split(".")[0] for name in imports_of(module)} - {"regsvc"}


@pytest.mark.parametrize(
    ("library", "room"),
    [
        ("asyncio", "rabbitmq"),
        ("trio_asyncio", "rabbitmq"),
        ("aiormq", "rabbitmq"),
        ("trio_websocket", "watch"),
    ],
)
def test_some_libraries_are_known_in_one_room_alone(library: str, room: str) -> None:
    assert {room_of(name_of(module)) for module in MODULES if library in outside(module)} <= {room}


def test_the_web_framework_is_known_under_http_alone() -> None:
    frameworks = {"quart", "quart_trio", "quart_schema", "hypercorn", "werkzeug", "wsproto", "h11"}
    assert {room_of(name_of(module)) for module in MODULES if outside(module) & frameworks} <= {"http"}


def test_the_supervisor_knows_trio_and_the_standard_library_alone() -> None:
    assert outside(ROOT / "supervisor.py") <= sys.stdlib_module_names | {"trio"}
    assert not rooms_imported(ROOT / "supervisor.py")


def test_the_live_hub_knows_no_other_room() -> None:
    assert not rooms_imported(ROOT / "live.py")


def test_the_environment_is_read_in_settings_alone() -> None:
    def reads_environment(module: Path) -> bool:
        return any(
            (isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"})
            or (isinstance(node, ast.alias) and node.name in {"environ", "environb", "getenv", "getenvb"})
            for node in ast.walk(ast.parse(module.read_bytes()))
        )

    assert [name_of(module) for module in MODULES if reads_environment(module)] == ["regsvc.config.settings"]


def test_only_dev_reveals_secrets_in_the_log() -> None:
    callers = {
        name_of(module)
        for module in MODULES
        if imports_of(module) & {"regsvc.logs.reveal", "regsvc.redaction.reveal", "regsvc.redaction.Revealed"}
    }
    assert callers <= {"regsvc.dev", "regsvc.logs"}


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    assert not {path for path in ROOT.rglob("*") if path.stem in FORBIDDEN_NAMES}


WATCH_IMPORTS = """
import importlib, sys, threading
effects, known = [], sys.stdlib_module_names - {"__main__"}
watched = {"socket.__new__", "socket.connect", "socket.bind", "subprocess.Popen", "os.posix_spawn", "os.fork",
           "os.mkdir", "os.putenv"}
def hook(event, args):
    if event in watched or event == "open" and (args[2] or 0) & 3:
        frame = sys._getframe(1)
        while frame is not None and frame.f_globals.get("__name__", "").split(".")[0] in known:
            frame = frame.f_back  # on to whom the standard library works for
        if frame is not None and frame.f_globals.get("__name__", "").startswith("regsvc"):
            effects.append((event, args[:1]))
sys.addaudithook(hook)
for name in sys.argv[1:]:
    importlib.import_module(name)
print(effects, threading.active_count())
"""


def test_importing_anything_starts_nothing() -> None:
    """No thread, no process, no socket, no file written: an import has no effect."""
    names = [name_of(module) for module in MODULES if module.name != "__main__.py"]
    run = subprocess.run(
        [sys.executable, "-B", "-c", WATCH_IMPORTS, *names],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert run.stderr == ""
    assert run.stdout.strip() == "[] 1"
