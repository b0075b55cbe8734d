"""Templates as octets with slots: rendered once for a shape of values, then filled for each message.

What a template says depends on a value only by whether it is there: of our own templates that is so, and a test holds
it. An operator's template may do anything with a value, so those are rendered for each message.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from jinja2 import Template
from markupsafe import escape

from regsvc.mail.message.frame import LONGEST, encode_html, fold

if TYPE_CHECKING:
    from collections.abc import Sequence

Values: TypeAlias = Mapping[str, Any]

_MARK: Final = re.compile("\0([0-9]+)\0")
_LINK: Final = re.compile(r"""\b(?:href|src)=["']""")
_LINKED_SLOT: Final = re.compile('\\bhref="(\0[0-9]+\0)"')
_URL: Final = re.compile(r"https?://")
_MOST_SHAPES: Final = 64  # kept for each kind of message and language; there are about four


class _Blank:
    """Stands for a text while a template is rendered: it can be shown, or asked whether it is there."""

    def __init__(self, number: int) -> None:
        self._mark = f"\0{number}\0"

    def __str__(self) -> str:
        return self._mark

    __html__ = __str__


@dataclass(frozen=True, slots=True)
class _Text:
    """A text with `%s` for each slot, and the numbers of the values that go there."""

    template: str
    numbers: tuple[int, ...]

    @classmethod
    def cut(cls, rendered: str) -> _Text:
        """Make it from a rendered template."""
        parts = _MARK.split(rendered)
        return cls(
            "%s".join(part.replace("%", "%%") for part in parts[::2]),
            tuple(int(mark) for mark in parts[1::2]),
        )

    def fill(self, values: Sequence[str]) -> str:
        """Return the whole text."""
        return self.template % tuple(values[number] for number in self.numbers)


@dataclass(frozen=True, slots=True)
class _Html:
    """HTML as octets with `%b` for each slot, and what decides whether a line with slots has to be folded."""

    template: bytes
    numbers: tuple[int, ...]
    lines: tuple[tuple[int, tuple[int, ...]], ...]  # octets besides the slots, and the values in them

    @classmethod
    def cut(cls, rendered: str) -> _Html:
        """Make it from a rendered template."""
        whole: list[bytes] = []
        lines: list[tuple[int, tuple[int, ...]]] = []
        for line in rendered.encode("ascii", "xmlcharrefreplace").split(b"\n"):
            parts = _MARK.split(line.decode("ascii"))
            if len(parts) == 1:
                whole.append(fold(line).replace(b"%", b"%%"))
                continue
            whole.append(b"%b".join(part.encode("ascii").replace(b"%", b"%%") for part in parts[::2]))
            lines.append((sum(map(len, parts[::2])), tuple(int(mark) for mark in parts[1::2])))
        numbers = tuple(number for _, inside in lines for number in inside)
        return cls(b"\r\n".join(whole), numbers, tuple(lines))

    def fill(self, values: Sequence[str]) -> bytes:
        """Return the whole HTML, with values escaped, and lines of legal length."""
        octets = [
            str(escape(value)).replace("\n", "\r\n").encode("ascii", "xmlcharrefreplace") for value in values
        ]
        filled = self.template % tuple(octets[number] for number in self.numbers)
        for length, inside in self.lines:
            if length + sum(len(octets[number]) for number in inside) > LONGEST:
                return b"\r\n".join(fold(line) for line in filled.split(b"\r\n"))
        return filled


class Body:
    """Text and HTML of one kind of message in one language.

    Args:
        text, html: the templates.
        context: the values of every message.
        slotted: whether they ask no more of a text than whether it is there.
        home: address of the service, for a text that has one link too few.
    """

    def __init__(
        self, text: Template, html: Template, context: Values, *, slotted: bool, home: str = ""
    ) -> None:
        self._home = home
        self._text = text
        self._html = html
        self._context = context
        self._slotted = slotted
        self._cut: dict[tuple[object, ...], tuple[_Text, _Html]] = {}

    def write(self, values: Values) -> tuple[str, bytes]:
        """Return the text, and the HTML as the octets of a part, for one message's values."""
        if not self._slotted:
            return self.render(values)
        # Numbers, and texts that are not there, are part of the shape: a template may count by them.
        shape = tuple(True if value and type(value) is str else value for value in values.values())
        cut = self._cut.get(shape)
        if cut is None:
            if len(self._cut) >= _MOST_SHAPES:
                self._cut.clear()
            blanks = [_Blank(number) if known is True else known for number, known in enumerate(shape)]
            named = dict(zip(values, blanks, strict=True))
            text, html = self._render(named)
            cut = self._cut[shape] = _Text.cut(text), _Html.cut(html)
        filling = ["" if value is None else str(value) for value in values.values()]
        return cut[0].fill(filling), cut[1].fill(filling)

    def render(self, values: Values) -> tuple[str, bytes]:
        """Return the same by rendering both templates."""
        text, html = self._render(values)
        return text, encode_html(html)

    def _render(self, values: Values) -> tuple[str, str]:
        text, html = (
            template.render(self._context, mail=values, home="") for template in (self._text, self._html)
        )
        # Filters of spam count the links of both parts, and hold an odd number against a message (rspamd's rule
        # URI_COUNT_ODD: a link may be once in the text and twice in the HTML).
        if self._home and count_links(text, html) % 2:
            text = self._text.render(self._context, mail=values, home=self._home)
        return text, html


def count_links(text: str, html: str) -> int:
    """Return the number of links in both parts, images included."""
    slots = set(_LINKED_SLOT.findall(html))
    return len(_LINK.findall(html)) + len(_URL.findall(text)) + sum(text.count(slot) for slot in slots)
