"""Lines over training steps, drawn as inline SVG."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby

from pipelines.charts import short, ticks
from pipelines.markup import figure

_WIDTH, _HEIGHT = 400, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 48, 10, 18, 40
_MOST_DOTS = 40
COLOURS = 4

Point = tuple[float, float | None]
"""Step and value; None where the value is no number, and the line is broken."""


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    points: Sequence[Point]

    @property
    def known(self) -> list[tuple[float, float]]:
        return [(x, y) for x, y in self.points if y is not None]


@dataclass(frozen=True, slots=True)
class Plot:
    """`level`: a value to compare with, drawn across, and its name; `marks`: steps at which an alarm was
    raised; `kept`: the step of the model that was kept."""

    title: str
    how: str
    series: Sequence[Series]
    level: tuple[float, str] | None = None
    marks: Sequence[float] = ()
    kept: float | None = None


def drawn(plot: Plot, steps: float) -> str:
    """A figure over steps 0 to `steps`; nothing where no series has a value."""
    series = [one for one in plot.series if one.known]
    if not series:
        return ""
    names = [escape(one.name) for one in series] if len(series) > 1 else []
    return figure(escape(plot.title), _svg(plot, series, max(steps, 1)), escape(plot.how), names)


def _svg(plot: Plot, series: Sequence[Series], steps: float) -> str:
    frame = _Frame(*_range(plot, series), steps)
    parts = [frame.grid(), *(frame.mark(step) for step in plot.marks)]
    if plot.level is not None and plot.level[0] < frame.high:
        parts.append(frame.across(*plot.level))
    if plot.kept is not None:
        parts.append(frame.kept(plot.kept))
    parts += [frame.line(one, place) for place, one in enumerate(series)]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(_described(plot, series))}">'
        f"<title>{escape(plot.title)}</title>{''.join(parts)}</svg>"
    )


def _range(plot: Plot, series: Sequence[Series]) -> tuple[float, float]:
    """All values and a level that is near, with a little room; a flat line lies in the middle."""
    values = [y for one in series for _, y in one.known]
    values += [plot.level[0]] if plot.level and 2 * max(values) > plot.level[0] else []
    low, high = min(values), max(values)
    room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
    return (0.0 if 0 <= low <= room else low - room), high + room


def _described(plot: Plot, series: Sequence[Series]) -> str:
    told = (f"{one.name} from {short(one.known[0][1])} to {short(one.known[-1][1])}" for one in series)
    marks = ", ".join(f"{step:.0f}" for step in plot.marks)
    return f"{plot.title}: {'; '.join(told)}" + (f"; alarm at step {marks}" if marks else "")


@dataclass(frozen=True, slots=True)
class _Frame:
    """The scales of one chart: places are in SVG units, y downwards."""

    low: float
    high: float
    steps: float

    def x(self, step: float) -> float:
        return _LEFT + step / self.steps * (_WIDTH - _LEFT - _RIGHT)

    def y(self, value: float) -> float:
        return _HEIGHT - _BOTTOM - (value - self.low) / (self.high - self.low) * (_HEIGHT - _TOP - _BOTTOM)

    def grid(self) -> str:
        right, floor = _WIDTH - _RIGHT, _HEIGHT - _BOTTOM
        rows = "".join(
            f'<path class="grid" d="M{_LEFT} {self.y(value):.1f}H{right}"/>'
            f'<text x="{_LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{short(value)}</text>'
            for value in ticks(self.low, self.high, 4)
        )
        columns = "".join(
            f'<text x="{self.x(step):.1f}" y="{floor + 16}" text-anchor="{_anchor(step, self.steps)}">'
            f"{short(step)}</text>"
            for step in ticks(0, self.steps, 5, whole=True)
        )
        middle = (_LEFT + right) / 2
        label = f'<text class="label" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">step</text>'
        return rows + columns + label

    def line(self, series: Series, place: int) -> str:
        """A path for each run of values, and dots with their numbers where there are few."""
        colour = place % COLOURS
        runs = (list(run) for known, run in groupby(series.points, lambda at: at[1] is not None) if known)
        paths = "".join(f'<path class="curve{colour}" d="M{self._path(run)}"/>' for run in runs)
        known = series.known
        shown = known if len(known) <= _MOST_DOTS else known[-1:]
        return paths + "".join(
            f'<circle class="bar{colour}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="2.5">'
            f"<title>{escape(series.name)}, step {short(x)}: {short(y)}</title></circle>"
            for x, y in shown
        )

    def _path(self, run: Sequence[Point]) -> str:
        return "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in run if y is not None)

    def across(self, value: float, label: str) -> str:
        y = self.y(value)
        return (
            f'<path class="line" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text class="label halo" x="{_LEFT + 4}" y="{y - 5:.1f}">{escape(label)}</text>'
        )

    def mark(self, step: float) -> str:
        x, tip = self.x(step), f"<title>alarm at step {short(step)}</title>"
        corners = f"{x - 5:.1f},{_TOP - 14} {x + 5:.1f},{_TOP - 14} {x:.1f},{_TOP - 5}"
        return (
            f'<path class="line" d="M{x:.1f} {_TOP - 4}V{_HEIGHT - _BOTTOM}"/>'
            f'<polygon class="mark" points="{corners}">{tip}</polygon>'
        )

    def kept(self, step: float) -> str:
        x, floor = self.x(step), _HEIGHT - _BOTTOM
        tip = f"<title>the model of step {short(step)} was kept</title>"
        corners = f"{x - 4:.1f},{floor + 1} {x + 4:.1f},{floor + 1} {x:.1f},{floor - 6}"
        return f'<polygon class="kept" points="{corners}">{tip}</polygon>'


def _anchor(step: float, steps: float) -> str:
    return "end" if step > 0.97 * steps else "middle"
