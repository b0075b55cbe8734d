"""What every statement of the product reads, by the place in its source that executes it."""

from __future__ import annotations

import ast
import json
import sys
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import psycopg
import pytest

import regsvc
from regsvc.postgres.connection import Connection
from regsvc.postgres.query import Query

ROOT = Path(regsvc.__file__).parent
_SENDERS = {"execute", "executemany"}


def list_places() -> dict[tuple[str, int], str]:
    """Return every call in the product's source that sends a statement.

    Returns:
        Its file and each of its lines; and its name: file, function, and number within that.
    """
    places: dict[tuple[str, int], str] = {}
    for path in sorted(ROOT.rglob("*.py")):
        file = path.relative_to(ROOT).as_posix()
        seen: defaultdict[str, int] = defaultdict(int)

        def visit(node: ast.AST, function: str, file: str = file, seen: Any = seen) -> None:
            if isinstance(node, ast.AsyncFunctionDef | ast.FunctionDef):
                function = node.name
            if (
                isinstance(node, ast.Call)
                and isinstance(node.func, ast.Attribute)
                and node.func.attr in _SENDERS
            ):
                seen[function] += 1
                for line in range(node.lineno, (node.end_lineno or node.lineno) + 1):
                    places[file, line] = f"{file}:{function}#{seen[function]}"
            for child in ast.iter_child_nodes(node):
                visit(child, function)

        visit(ast.parse(path.read_bytes()), "")
    return places


class Recorder:
    """The most that each place read in one go, in blocks of 8 kB."""

    def __init__(self) -> None:
        self.blocks: dict[str, int] = {}
        self.plans: dict[str, str] = {}
        self._places = list_places()
        self._said: WeakKeyDictionary[psycopg.AsyncConnection[Any], list[str]] = WeakKeyDictionary()
        self._sent: dict[str, str] = {}

    def begin(self, connection: psycopg.AsyncConnection[Any]) -> None:
        """Collect what the server says of the statement that this connection is about to send."""
        if connection in self._said:
            self._note(connection, None)
            return
        said = self._said[connection] = []
        connection.add_notice_handler(lambda notice: said.append(notice.message_primary or ""))

    def end(self, connection: psycopg.AsyncConnection[Any], place: str | None, sent: bytes | None) -> None:
        """Note what it said of the statement that was sent."""
        if place is not None and sent is not None:
            self._sent[sent.decode()] = place
        self._note(connection, place)

    def finish(self) -> None:
        """Note what was said since."""
        for connection in list(self._said):
            self._note(connection, None)

    def _note(self, connection: psycopg.AsyncConnection[Any], place: str | None) -> None:
        """Add up plans by the place whose statement they are of.

        A query in a transaction is explained when its portal is closed, which the next statement does. What triggers
        and functions do belongs to the statement that is being sent.
        """
        said = self._said[connection]
        plans: defaultdict[str, list[str]] = defaultdict(list)
        for text in [text[text.index("{") :] for text in said if "plan:" in text]:
            owner = self._sent.get(json.loads(text)["Query Text"], place)
            if owner is not None:
                plans[owner].append(text)
        said.clear()
        for owner, texts in plans.items():
            read = sum(
                plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
                for plan in (json.loads(text)["Plan"] for text in texts)
            )
            if read >= self.blocks.get(owner, -1):
                self.blocks[owner], self.plans[owner] = read, "\n".join(texts)

    def find_place(self) -> str | None:
        """Return the place in the product whose call is being made, innermost first."""
        frame = sys._getframe(2)
        while frame is not None:
            path = Path(frame.f_code.co_filename)
            if path.is_relative_to(ROOT):
                found = self._places.get((path.relative_to(ROOT).as_posix(), frame.f_lineno))
                if found is not None:
                    return found
            frame = frame.f_back  # type: ignore[assignment]
        return None


@contextmanager
def record(monkeypatch: pytest.MonkeyPatch) -> Iterator[Recorder]:
    """Listen to every statement as long as the block lasts; nothing is sent that would not be."""
    recorder = Recorder()
    send = psycopg.AsyncCursor.execute

    async def execute(cursor: psycopg.AsyncCursor[Any], *args: Any, **kwargs: Any) -> Any:
        place = recorder.find_place()
        recorder.begin(cursor.connection)
        try:
            return await send(cursor, *args, **kwargs)
        finally:
            recorder.end(cursor.connection, place, cursor._query.query if cursor._query else None)

    send_query = Query.execute

    async def execute_query(query: Query, connection: Connection, *values: bytes) -> Any:
        place = recorder.find_place()
        recorder.begin(connection)
        try:
            return await send_query(query, connection, *values)
        finally:
            recorder.end(connection, place, query._sql)

    with monkeypatch.context() as patched:
        patched.setattr(psycopg.AsyncCursor, "execute", execute)
        patched.setattr(Query, "execute", execute_query)
        yield recorder
        recorder.finish()
