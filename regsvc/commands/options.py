"""Options that several commands take: JSON, and the pages of a list."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from regsvc.accounts.cursor import MAX_PAGE, Page, Position
from regsvc.commands.runner import print_json
from regsvc.schemas.fields import PAGE
from regsvc.schemas.rows import show_page

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Command = TypeVar("Command", bound=Callable[..., Any])
Row = TypeVar("Row", bound="DataclassInstance")

as_json = click.option("--json", "machine", is_flag=True, help="Print JSON, as in the API.")


class Cursor(click.ParamType[Position]):
    """The position after a page, as the page printed it."""

    name = "cursor"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Position:
        """Return the position.

        Raises:
            click.BadParameter: the text is no cursor.
        """
        if isinstance(value, Position):
            return value
        try:
            return Position.decode(value)
        except ValueError as error:
            self.fail(f"{error}.".capitalize(), param, ctx)


def pages(command: Command) -> Command:
    """Add the options of a list in pages: `limit` rows, `after` a position, and `machine` for JSON."""
    limit = click.option("--limit", type=click.IntRange(1, MAX_PAGE), default=PAGE, show_default=True)
    after = click.option(
        "--cursor", "after", type=Cursor(), help="Continue a list from the cursor printed at its end."
    )
    return limit(after(as_json(command)))


def print_page(page: Page[Row], key: str, print_line: Callable[[Row], None], *, machine: bool) -> None:
    """Print a page, one line a row, or as the API shows it under a key."""
    if machine:
        print_json(show_page(page, key))
        return
    for row in page.rows:
        print_line(row)
    if page.next_cursor is not None:
        click.echo(f"More: --cursor {page.next_cursor}", err=True)
