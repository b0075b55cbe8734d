"""Rows as clients see them: derived from their dataclass, so that each field is named and explained once."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import fields
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints
from uuid import UUID

from pydantic import Field

from regsvc.accounts.cursor import Page
from regsvc.schemas.formats import Id, Timestamp, timestamp
from regsvc.schemas.typed_dict import TypedDict

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")

_ARGUMENT = re.compile(r"^        (\w+): (.+(?:\n {12}.+)*)", re.MULTILINE)


def describe_row(
    row: type[DataclassInstance],
    name: str,
    *,
    only: Sequence[str] = (),
    more: dict[str, Any] | None = None,
) -> type:
    """Return the TypedDict that `show_row` fills, for the API's description.

    Args:
        row: the dataclass; the first line of its docstring and its `Args:` describe the type and its fields.
        name: of the schema.
        only: the fields to show, in this order; all of them by default.
        more: fields that come beside the row's, with their types.
    """
    told = {found[1]: " ".join(found[2].split()) for found in _ARGUMENT.finditer(row.__doc__ or "")}
    hints = get_type_hints(row, include_extras=True)
    shown = {
        field: Annotated[_json_type(hints[field]), Field(description=_sentence(told[field]))]
        if field in told
        else _json_type(hints[field])
        for field in only or [each.name for each in fields(row)]
    }
    make: Any = TypedDict  # its functional form wants a literal, which a derived type cannot give
    made: type = make(name, {**shown, **(more or {})})
    made.__doc__ = (row.__doc__ or "").partition("\n")[0]
    return made


def describe_page(name: str, key: str, row: Any) -> type:
    """Return the TypedDict that `show_page` fills: rows under a key, and the cursor of the next page."""
    cursor = Annotated[str | None, Field(description="The `cursor` of the next page, if there is one.")]
    make: Any = TypedDict
    made: type = make(name, {key: list[row], "next_cursor": cursor})
    made.__doc__ = f"A page of {key}, newest first."
    return made


def show_row(row: DataclassInstance, *, only: Sequence[str] = ()) -> dict[str, Any]:
    """Return a row in JSON's types: ids and times as text.

    Args:
        row: a dataclass.
        only: the fields to show, in this order; all of them by default.
    """
    return {name: _show(getattr(row, name)) for name in only or _names(type(row))}


def show_page(page: Page[Row], key: str) -> dict[str, Any]:
    """Return a page of rows under a key, with the cursor of the next page."""
    return {key: [show_row(row) for row in page.rows], "next_cursor": page.next_cursor}


@cache
def _names(row: type[DataclassInstance]) -> tuple[str, ...]:
    return tuple(each.name for each in fields(row))


def _show(value: object) -> object:
    match value:
        case datetime():
            return timestamp(value)
        case UUID():
            return str(value)
        case _:
            return value


def _json_type(hint: Any) -> Any:
    """Return the type of a field as JSON has it."""
    for python, json in ((datetime, Timestamp), (UUID, Id)):
        if hint == python:
            return json
        if hint == python | None:
            return json | None
    return hint


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:].rstrip(".") + "."
