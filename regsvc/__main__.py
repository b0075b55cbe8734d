"""`python -m regsvc` and the `regsvc` command."""

from __future__ import annotations

from regsvc import cli
from regsvc.logs.streams import mend_streams

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    mend_streams()
    cli.main()


if __name__ == "__main__":
    main()
