"""The TypedDict that pydantic and quart-schema read: the backport before Python 3.12, Python's own since then."""

from __future__ import annotations

import sys

if sys.version_info >= (3, 12):
    from typing import TypedDict
else:
    from typing_extensions import TypedDict

__all__ = ["TypedDict"]
