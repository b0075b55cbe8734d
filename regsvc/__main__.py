"""`python -m regsvc` and the `regsvc` command."""

from __future__ import annotations

from regsvc.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
