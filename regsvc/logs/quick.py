"""JSON lines of the kinds that come by the thousand: what repeats in them is rendered once."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from functools import lru_cache

from regsvc.logs.redaction import Redactor
from regsvc.logs.writer import Writer

_REMEMBERED = 4096  # texts


class QuickLines:
    """Writes lines of level `info` as `regsvc.logs` writes them, without its chain of functions.

    Args:
        writer: takes the lines.
        redactor: masks what must not be read.
    """

    def __init__(self, writer: Writer, redactor: Redactor) -> None:
        self._writer = writer
        self._redactor = redactor
        self._second = (0, "")
        self._show = lru_cache(_REMEMBERED)(self._render)

    def write(self, event: str, fields: Sequence[tuple[str, str | float | None]], request_id: str) -> None:
        """Write a line.

        Args:
            event: the phrase.
            fields: in this order.
            request_id: of the server's own making; comes last.
        """
        now = time.time()
        second = int(now)
        if self._second[0] != second:
            self._second = (second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)))
        shown = "".join(
            [
                self._show(name, value) if isinstance(value, str) else f', "{name}": {json.dumps(value)}'
                for name, value in fields
            ]
        )
        self._writer.write(
            f'{{"timestamp": "{self._second[1]}.{int(now % 1 * 1000):03d}Z", "level": "info"'
            f'{self._show("event", event)}{shown}, "request_id": "{request_id}"}}'
        )

    def _render(self, name: str, value: str) -> str:
        return f", {json.dumps(name)}: {json.dumps(self._redactor.event({name: value})[name])}"
