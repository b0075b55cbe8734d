"""Who may know whom, read from the imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tokenize
from functools import cache
from importlib import import_module
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
    {"serving"},
    {"parts"},
    {"http", "consumer"},
    {"flows"},
    {"schemas"},
    {"accounts"},
    {"mail", "security", "webhooks"},
    {"jobs"},
    {"postgres", "rabbitmq", "dns"},
    {"processes"},
    {"config"},
    {"logs"},
    {"tracing"},
    {"errors", "live", "metrics", "supervisor", "waiting"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}

FORBIDDEN_NAMES = {"utils", "helpers", "common", "core", "models", "services"}

WEB_FRAMEWORKS = {"quart", "quart_trio", "quart_schema", "hypercorn", "werkzeug", "wsproto", "h11"}

MOST_FILES = 14  # of a room
MOST_LINES = 300
MEDIAN_LINES = 120

MODULES = sorted(ROOT.rglob("*.py"))


def name_of(module: Path) -> str:
    return ".".join(("regsvc", *module.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")


def room_of(name: str) -> str | None:
    """The first part of a module's name behind `regsvc`, or None for the package itself."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else None


@cache
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
        ("aiormq", "rabbitmq"),
        ("trio_websocket", "watch"),
    ],
)
def test_some_libraries_are_known_in_one_room_alone(library: str, room: str) -> None:
    assert {room_of(name_of(module)) for module in MODULES if library in outside(module)} <= {room}


def test_the_web_framework_is_known_under_http_alone() -> None:
    assert {room_of(name_of(module)) for module in MODULES if outside(module) & WEB_FRAMEWORKS} <= {"http"}


def importers(prefix: str) -> set[str]:
    """Every module outside a package that imports something of it."""
    return {
        name_of(module)
        for module in MODULES
        if not is_within(name_of(module), prefix)
        and any(is_within(name, prefix) for name in imports_of(module))
    }


def is_within(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(f"{prefix}.")


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("regsvc.http.api", ("regsvc.http.app",)),
        ("regsvc.http.pages", ("regsvc.http.app",)),
        ("regsvc.http.admin", ("regsvc.http.app", "regsvc.http.pages.console")),
        (
            "regsvc.http.server",
            (
                "regsvc.http.openapi",
                "regsvc.http.request_log",
                "regsvc.http.waiting_room",
                "regsvc.roles",
                "regsvc.serving",
            ),
        ),
        (
            "regsvc.accounts.admin",
            (
                "regsvc.flows",
                "regsvc.http.admin",
                "regsvc.http.pages.console",
                "regsvc.http.response.problems",
                "regsvc.schemas",
                "regsvc.commands",
            ),
        ),
    ],
)
def test_a_package_is_imported_by_few(package: str, allowed: tuple[str, ...]) -> None:
    assert not {name for name in importers(package) if not any(is_within(name, room) for room in allowed)}


def test_what_a_person_does_knows_no_way_in() -> None:
    """Flows and schemas run from pages, API, console and command line: they know none of them."""
    for module in MODULES:
        if room_of(name_of(module)) in {"flows", "schemas"}:
            assert not rooms_imported(module) & {"http", "commands"}, name_of(module)
            assert not outside(module) & WEB_FRAMEWORKS, name_of(module)


def test_commands_know_no_http() -> None:
    assert not {name for name in importers("regsvc.http") if room_of(name) == "commands"}


def test_hypercorn_is_known_in_the_server_alone() -> None:
    assert all(
        is_within(name_of(module), "regsvc.http.server")
        for module in MODULES
        if "hypercorn" in outside(module)
    )


def test_of_hypercorn_only_public_names_are_used() -> None:
    """A private one may be another in any release."""
    names = {
        (node.module, alias.name)
        for module in MODULES
        for node in ast.walk(ast.parse(module.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom)
        and (node.module or "").partition(".")[0] in {"hypercorn", "wsproto"}
        for alias in node.names
    }
    assert len(names) > 5
    for module_name, name in names:
        assert not any(part.startswith("_") for part in (*str(module_name).split("."), name)), name
        assert hasattr(import_module(str(module_name)), name), name


def test_no_room_is_crowded() -> None:
    for room in {module.parent for module in MODULES}:
        files = [module for module in room.glob("*.py") if module.name != "__init__.py"]
        assert len(files) <= MOST_FILES, room.relative_to(ROOT)


def test_files_are_short() -> None:
    """A file beyond 300 lines is split; the supervisor stays whole, to be lifted out as a library."""
    lengths = {name_of(module): len(module.read_text("utf-8").splitlines()) for module in MODULES}
    assert not {
        name
        for name, lines in lengths.items()
        if lines > MOST_LINES and name not in {"regsvc.supervisor", "regsvc.rabbitmq.link"}
    }
    assert sorted(lengths.values())[len(lengths) // 2] <= MEDIAN_LINES


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

    assert [name_of(module) for module in MODULES if reads_environment(module)] == ["regsvc.config.loading"]


def test_only_dev_reveals_secrets_in_the_log() -> None:
    callers = {
        name_of(module)
        for module in MODULES
        if imports_of(module)
        & {"regsvc.logs.reveal", "regsvc.logs.redaction.reveal", "regsvc.logs.redaction.Revealed"}
    }
    assert callers <= {"regsvc.dev", "regsvc.logs"}


def test_no_file_or_folder_has_a_name_that_says_nothing() -> None:
    assert not {path for path in ROOT.rglob("*") if path.stem in FORBIDDEN_NAMES}


NAMED = re.compile(r"`(?:(regsvc(?:\.\w+)+)(?:\(\))?|((?:[\w.-]+/)*[\w-]+\.py)(?:::(\w+))?)`")
PROJECT = Path(__file__).parents[1]
PROGRAMS = [
    *MODULES,
    *(path for room in ("tests", "bench") for path in sorted((PROJECT / room).rglob("*.py"))),
]
PAGES = [*sorted(PROJECT.glob("*.md")), *sorted((PROJECT / "docs").rglob("*.md"))]


def prose_of(path: Path) -> list[str]:
    """What a file says to its readers: a page is all prose, a program its strings and comments."""
    if path.suffix == ".md":
        return [path.read_text("utf-8")]
    with path.open("rb") as file:
        return [
            token.string
            for token in tokenize.tokenize(file.readline)
            if token.type in {tokenize.COMMENT, tokenize.STRING}
        ]


def defines(path: Path, name: str) -> bool:
    return re.search(rf"\b{name}\b", path.read_text("utf-8")) is not None


def has_module(dotted: str) -> bool:
    """Whether a dotted name is a module, or something in one."""
    parts = dotted.split(".")[1:]
    place = ROOT
    for number, part in enumerate(parts):
        if (place / part).is_dir():
            place /= part
        elif (module := place / f"{part}.py").is_file():
            return all(defines(module, rest) for rest in parts[number + 1 :])
        else:
            return defines(place / "__init__.py", part)
    return True


def within_project(path: Path) -> str:
    """A file's path within the project, also where the program is tested as it was installed elsewhere."""
    return path.relative_to(ROOT.parent if path.is_relative_to(ROOT) else PROJECT).as_posix()


def has_file(path: str, function: str | None) -> bool:
    """Whether a path is a program's, from the project's folder or from one further down."""
    return any(
        f"/{within_project(program)}".endswith(f"/{path}")
        and (function is None or defines(program, function))
        for program in PROGRAMS
    )


@pytest.mark.parametrize("room", ["regsvc", "tests", "bench", "pages"])
def test_every_module_and_program_that_prose_names_exists(room: str) -> None:
    """Apart from those named in capitals, which stand for any."""
    files = (
        PAGES
        if room == "pages"
        else [path for path in PROGRAMS if within_project(path).startswith(f"{room}/")]
    )
    gone = {
        (within_project(path), found[0])
        for path in files
        for prose in prose_of(path)
        for found in NAMED.finditer(prose)
        if not re.search(r"\b[A-Z]{3,}\b", found[0])
        and not (has_module(found[1]) if found[1] else has_file(found[2], found[3]))
    }
    assert not gone


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
        timeout=100,
    )
    assert run.stderr == ""
    assert run.stdout.strip() == "[] 1"
