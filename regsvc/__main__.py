"""`python -m regsvc` and the `regsvc` command."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from regsvc.processes import garbage

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    with garbage.spared(), _without("rich", "greenlet"):
        # Here, and not above: what surrounds the import is what makes it fast.
        from regsvc import cli  # noqa: PLC0415
        from regsvc.logs.streams import mend_streams  # noqa: PLC0415
    mend_streams()
    cli.main()


@contextmanager
def _without(*libraries: str) -> Iterator[None]:
    """Hide libraries, where they are installed, from modules that are imported inside the block.

    structlog imports rich for its console renderer, which ours replaces, and greenlet for contexts of its own:
    4 MB and 30 ms for nothing.
    """
    hidden = [library for library in libraries if library not in sys.modules]
    for library in hidden:
        sys.modules[library] = None  # type: ignore[assignment]  # what importlib takes for "there is none"
    try:
        yield
    finally:
        for library in hidden:
            del sys.modules[library]


if __name__ == "__main__":
    main()
