"""Histograms: counted from a stream, drawn as inline SVG."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 400, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 40, 8, 22, 40
_FEWEST_BINS = 8


class Tally:
    """Counts of one or more series over shared bins [k·width, (k+1)·width). The range need not be
    known: bins are merged two by two whenever there would be more than `most`."""

    def __init__(self, width: float, series: int = 1, most: int = 24) -> None:
        self.width, self.most = width, most
        self.bins: list[Counter[int]] = [Counter() for _ in range(series)]
        self.low = self.high = 0

    @property
    def n(self) -> int:
        return sum(bins.total() for bins in self.bins)

    def add(self, value: float, series: int = 0) -> None:
        # The small number keeps 0.75 / 0.025 from falling into the bin below.
        place = math.floor(value / self.width + 1e-9)
        self.low, self.high = (min(self.low, place), max(self.high, place)) if self.n else (place, place)
        self.bins[series][place] += 1
        while self.high - self.low >= self.most:
            self.merge()

    def merge(self) -> None:
        """Makes one bin of every two."""
        self.width *= 2
        self.low, self.high = self.low // 2, self.high // 2
        for series, bins in enumerate(self.bins):
            merged: Counter[int] = Counter()
            for place, count in bins.items():
                merged[place // 2] += count
            self.bins[series] = merged


@dataclass(frozen=True, slots=True)
class Chart:
    """How a tally is shown. `names`: of the series. `range`: of the x axis, else as wide as the data.
    `line`: x of a threshold. `beside`: two series stand beside each other instead of on top."""

    title: str
    x_label: str
    names: Sequence[str] = ("",)
    range: tuple[float, float] | None = None
    line: tuple[float, str] | None = None
    beside: bool = False


def histogram(tally: Tally, chart: Chart) -> str:
    """An SVG whose colours are the page's classes `bar0`, `bar1`, `grid`, `line`; nothing for no data."""
    if not tally.n:
        return '<p class="none">Nothing to show: this run has none.</p>'
    frame = _Frame(tally, chart)
    parts = [*frame.grid(), *frame.bars(), *frame.threshold(), *frame.x_axis()]
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(frame.described())}">'
        f"<title>{escape(chart.title)}</title>{''.join(parts)}</svg>"
    )


class _Frame:
    """The scales of one chart: places are in SVG units, y downwards."""

    def __init__(self, tally: Tally, chart: Chart) -> None:
        self.tally, self.chart = tally, chart
        self.low, self.high = chart.range or _range(tally, chart.line)
        while self.high - self.low > 2 * tally.most * tally.width:  # The threshold is far from the data.
            tally.merge()
        places = range(tally.low, tally.high + 1)
        counts = [[bins[place] for bins in tally.bins] for place in places]
        self.top = max(max(row) if chart.beside else sum(row) for row in counts)

    def x(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def y(self, count: float) -> float:
        return _HEIGHT - _BOTTOM - count / self.top * (_HEIGHT - _TOP - _BOTTOM)

    def bars(self) -> Iterator[str]:
        width = self.tally.width
        for place in range(self.tally.low, self.tally.high + 1):
            counts = [bins[place] for bins in self.tally.bins]
            left, right = self.x(place * width), self.x((place + 1) * width)
            what = ", ".join(
                f"{n:,} {name}".strip() for n, name in zip(counts, self.chart.names, strict=True)
            )
            tip = f"<title>{short(place * width)} to {short((place + 1) * width)}: {escape(what)}</title>"
            yield f"<g>{tip}{''.join(self._stack(counts, left + 0.5, right - 0.5))}</g>"

    def _stack(self, counts: Sequence[int], left: float, right: float) -> Iterator[str]:
        base, wide = 0, (right - left) / (len(counts) if self.chart.beside else 1)
        for series, count in enumerate(counts):
            if count:
                x = left + series * wide if self.chart.beside else left
                tall = self.y(base) - self.y(base + count)
                place = f'x="{x:.1f}" y="{self.y(base + count):.1f}" width="{wide:.1f}" height="{tall:.1f}"'
                yield f'<rect class="bar{series}" {place}/>'
            base += 0 if self.chart.beside else count

    def grid(self) -> Iterator[str]:
        for count in ticks(0, self.top, 3, whole=True):
            y = self.y(count)
            yield f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
            yield f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{short(count)}</text>'

    def x_axis(self) -> Iterator[str]:
        floor = _HEIGHT - _BOTTOM
        for value in ticks(self.low, self.high, 5):
            x = f"{self.x(value):.1f}"
            yield f'<text x="{x}" y="{floor + 16}" text-anchor="middle">{short(value)}</text>'
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        label = escape(self.chart.x_label)
        yield f'<text class="label" x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">{label}</text>'

    def threshold(self) -> Iterator[str]:
        if self.chart.line is None:
            return
        value, label = self.chart.line
        x = self.x(value)
        side = ("end", x - 4) if x > _WIDTH / 2 else ("start", x + 4)
        yield f'<path class="line" d="M{x:.1f} {_TOP - 12}V{_HEIGHT - _BOTTOM}"/>'
        text = f'x="{side[1]:.1f}" y="{_TOP - 8}" text-anchor="{side[0]}"'
        yield f'<text class="label" {text}>{escape(label)}</text>'

    def described(self) -> str:
        """The chart in one sentence, for who cannot see it."""
        counts = Counter[int]()
        for bins in self.tally.bins:
            counts.update(bins)
        (place, count), width = counts.most_common(1)[0], self.tally.width
        return (
            f"{self.chart.title}: {self.tally.n:,} values from {short(self.tally.low * width)} to "
            f"{short((self.tally.high + 1) * width)}; most, {count:,}, between {short(place * width)} "
            f"and {short((place + 1) * width)}"
        )


def _range(tally: Tally, line: tuple[float, str] | None) -> tuple[float, float]:
    """The bins and the threshold, and never so few bins that one value fills the chart."""
    low, high = tally.low * tally.width, (tally.high + 1) * tally.width
    if line is not None:
        low, high = min(low, line[0]), max(high, line[0])
    missing = _FEWEST_BINS * tally.width - (high - low)
    if missing > 0:
        high += missing / 2
        low = max(0.0, low - missing / 2) if low >= 0 else low - missing / 2
    return low, high


def ticks(low: float, high: float, about: int, whole: bool = False) -> list[float]:
    """Round numbers (1, 2, 2.5 or 5 times a power of ten) from low to high."""
    rough = max((high - low) / about, 1 if whole else 0)
    power = 10.0 ** math.floor(math.log10(rough))
    steps = (1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10)
    step = power * next(step for step in steps if step * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [step * place for place in range(first, last + 1)]


def short(value: float) -> str:
    """At most four digits, thousands marked; a true minus sign."""
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return text.replace("-", "−")
