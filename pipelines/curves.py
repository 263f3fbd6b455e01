"""Points and lines over two shares, drawn as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pipelines.markup import percent

_WIDTH, _HEIGHT = 400, 270
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 30, 40
_STEPS = (0.02, 0.05, 0.1, 0.2)
_MOST_TICKS = 6

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Axes:
    """Both axes hold shares and end at 1; they begin at `left` and `low`. `marks`: places along the x axis
    and the words that stand there in place of shares. Every method gives a piece of SVG whose colours are the
    page's classes, for `drawn`."""

    title: str
    x_label: str
    y_label: str
    left: float = 0.0
    low: float = 0.0
    marks: Sequence[tuple[float, str]] = ()

    def drawn(self, described: str, *parts: str) -> str:
        """The chart. `described`: what it shows, for who cannot see it."""
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        return (
            f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(described)}">'
            f"<title>{escape(self.title)}</title>{self._grid()}{''.join(parts)}"
            f'<text class="label" x="0" y="12">{escape(self.y_label)}</text>'
            f'<text class="label" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">'
            f"{escape(self.x_label)}</text></svg>"
        )

    def line(self, points: Sequence[Point], series: int = 0) -> str:
        path = "L".join(f"{self._x(x):.1f} {self._y(y):.1f}" for x, y in points)
        return f'<path class="curve{series}" d="M{path}"/>'

    def dot(self, point: Point, tip: str, series: int = 0) -> str:
        x, y = self._x(point[0]), self._y(point[1])
        at = f'cx="{x:.1f}" cy="{y:.1f}" r="4"'
        return f'<circle class="bar{series}" {at}><title>{escape(tip)}</title></circle>'

    def whisker(self, x: float, ends: Point) -> str:
        """A vertical interval; what lies under the axis is cut off."""
        low, high = (self._y(max(self.low, end)) for end in ends)
        return f'<path class="whisker" d="M{self._x(x):.1f} {low:.1f}V{high:.1f}"/>'

    def diagonal(self) -> str:
        start = max(self.left, self.low)
        at = f"M{self._x(start):.1f} {self._y(start):.1f}L{self._x(1):.1f} {self._y(1):.1f}"
        return f'<path class="diagonal" d="{at}"/>'

    def across(self, y: float, label: str) -> str:
        """A threshold on the y axis; its label stands above the plane, where no curve is."""
        right = _WIDTH - _RIGHT
        return (
            f'<path class="line" d="M{_LEFT} {self._y(y):.1f}H{right}"/>'
            f'<text class="label" x="{right}" y="12" text-anchor="end">{escape(label)}</text>'
        )

    def up(self, x: float, label: str) -> str:
        """A threshold on the x axis."""
        at = self._x(x)
        side, place = ("end", at - 4) if at > _WIDTH / 2 else ("start", at + 4)
        return (
            f'<path class="line" d="M{at:.1f} {_TOP - 8}V{_HEIGHT - _BOTTOM}"/>'
            f'<text class="label halo" x="{place:.1f}" y="{_HEIGHT - _BOTTOM - 6}" text-anchor="{side}">'
            f"{escape(label)}</text>"
        )

    def _grid(self) -> str:
        floor = _HEIGHT - _BOTTOM
        rows = "".join(
            f'<path class="grid" d="M{_LEFT} {self._y(y):.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 6}" y="{self._y(y) + 4:.1f}" text-anchor="end">{percent(y)}</text>'
            for y in _ticks(self.low)
        )
        columns = "".join(
            f'<text x="{self._x(x):.1f}" y="{floor + 16}" text-anchor="{"end" if x == 1 else "middle"}">'
            f"{escape(label)}</text>"
            for x, label in self.marks or [(x, percent(x)) for x in _ticks(self.left)]
        )
        return rows + columns

    def _x(self, value: float) -> float:
        return _LEFT + (value - self.left) / (1 - self.left) * (_WIDTH - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        return _TOP + (1 - value) / (1 - self.low) * (_HEIGHT - _TOP - _BOTTOM)


def below(values: Sequence[float], most: float) -> float:
    """Where an axis may begin: a round share at or below all values, and at most `most`."""
    return max(0.0, math.floor(10 * min([most, *values]) + 1e-9) / 10)


def interval(value: float, ends: Point, widest: float) -> str:
    """A value and its interval about zero, as a small picture for a table that says the same in numbers."""
    middle, low, high = (50 + 46 * place / widest for place in (value, *ends))
    return (
        '<svg class="interval" viewBox="0 0 100 10" aria-hidden="true"><path class="grid" d="M50 0V10"/>'
        f'<path class="whisker" d="M{low:.1f} 5H{high:.1f}"/>'
        f'<circle class="bar0" cx="{middle:.1f}" cy="5" r="2.5"/></svg>'
    )


def _ticks(low: float) -> list[float]:
    """Round shares from low to 1."""
    step = next(step for step in _STEPS if (1 - low) / step <= _MOST_TICKS - 1 + 1e-9)
    count = math.floor((1 - low) / step + 1e-9)
    return [round(1 - place * step, 2) for place in range(count, -1, -1)]
