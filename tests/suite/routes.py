"""Routes are compiled once a process, and not for each of the hundreds of tests that run the whole service.

werkzeug compiles two functions a route, as text and by Python's compiler: a third of what starting the service in a
process that has its modules costs. They depend on nothing but the route, and take their converters from it.
"""

from __future__ import annotations

from typing import Any

import pytest
from werkzeug.routing import Rule

_compile: Any = getattr(Rule, "_compile_builder", None)  # werkzeug's own, so it may be gone one day
_compiled: dict[tuple[Any, ...], Any] = {}


def pytest_configure() -> None:
    """Remember what is compiled."""
    if _compile is not None:
        pytest.MonkeyPatch().setattr(Rule, "_compile_builder", _compile_once)


def _compile_once(rule: Any, append_unknown: bool = True) -> Any:  # noqa: FBT001, FBT002 - as werkzeug calls it
    key = (rule.rule, tuple(rule._trace), repr(rule.defaults), append_unknown)
    if key not in _compiled:
        _compiled[key] = _compile(rule, append_unknown)
    return _compiled[key]
