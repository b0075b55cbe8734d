"""Users in a table of one's own: CSV with the names of the columns in the first line."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from regsvc.commands.imports.rows import Found, Row, UnreadableFileError

_NEEDED = {"email", "name", "password_hash"}


def read_table(file: Path) -> Iterator[Found]:
    """Yield the users of a table.

    Raises:
        UnreadableFileError: it is not CSV.
        UnicodeDecodeError: it is not UTF-8.
    """
    with file.open(encoding="utf-8-sig", newline="") as text:
        try:
            table = csv.DictReader(text, strict=True, restkey="", restval=None)
            columns = table.fieldnames or []
            if len(set(columns)) != len(columns) or not _NEEDED <= set(columns) <= set(Row.model_fields):
                wanted = f"{', '.join(sorted(_NEEDED))}, and optionally created_at and locale"
                yield Found("line 1", {}, problem=f"the columns must be {wanted}")
                return
            for values in table:
                place = f"line {table.line_num}"
                if "" in values or None in values.values():
                    yield Found(place, {}, problem="its number of columns differs from line 1")
                    continue
                given = {name: value for name, value in values.items() if value}
                # A line of one's own table without a hash is a mistake, not a user without a password.
                yield Found(place, {"password_hash": "", **given})
        except csv.Error as error:
            raise UnreadableFileError(f"is not CSV: {error}") from None
