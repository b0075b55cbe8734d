"""Figures that people would rather look at than read: bars, as a template draws them in SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 100.0, 40.0  # of the drawing, in units of its own
_ROOM = 2.0  # above the highest bar
_GAP = 0.12  # of a bar's place, on either side


@dataclass(frozen=True)
class Bar:
    """One bar, and the part of it that is filled otherwise.

    Args:
        label: what it stands for.
        value: how many.
        part: how many of those are the part.
        left: where its place begins.
        place: how wide that is.
        scale: height of one.
    """

    label: str
    value: int
    part: int
    left: float
    place: float
    scale: float

    @property
    def x(self) -> float:
        """Where the bar begins."""
        return round(self.left + self.place * _GAP, 2)

    @property
    def width(self) -> float:
        """How wide it is."""
        return round(self.place * (1 - 2 * _GAP), 2)

    @property
    def height(self) -> float:
        """How high it is."""
        return round(self.value * self.scale, 2)

    @property
    def part_height(self) -> float:
        """How high its part is."""
        return round(self.part * self.scale, 2)


def make_bars(items: Sequence[tuple[str, int, int]]) -> list[Bar]:
    """Return the bars of labels, values and parts, side by side, the highest as high as there is room."""
    most = max((value for _, value, _ in items), default=0) or 1
    place = WIDTH / max(len(items), 1)
    scale = (HEIGHT - _ROOM) / most
    return [
        Bar(label, value, part, round(number * place, 2), place, scale)
        for number, (label, value, part) in enumerate(items)
    ]
