"""Rates with their intervals under each other, drawn as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from pipelines.charts import short, ticks
from pipelines.markup import number, plain

_WIDTH, _ROW, _TOP, _BOTTOM, _SIDE = 400, 40, 8, 22, 8
_LONGEST = 38


@dataclass(frozen=True, slots=True)
class Rate:
    """In percent. `ends`: of the interval; None: there is none."""

    name: str
    value: float
    ends: Sequence[float] | None = None

    @property
    def in_words(self) -> str:
        if self.ends is None:
            return f"{number(self.value, 1)}%"
        low, high = (number(end, 1) for end in self.ends)
        return f"{number(self.value, 1)}% ({low} to {high})"


def forest(title: str, rates: Sequence[Rate], level: float = 50.0) -> str:
    """A line for each rate: its name, the numbers, a dot with its interval. `level`: no gain."""
    values = [level, *(value for rate in rates for value in (rate.value, *(rate.ends or ())))]
    low, high = 5 * math.floor(min(values) / 5 - 0.2), 5 * math.ceil(max(values) / 5 + 0.2)
    height = _TOP + _ROW * len(rates) + _BOTTOM

    def x(value: float) -> float:
        return _SIDE + (value - low) / (high - low) * (_WIDTH - 2 * _SIDE)

    shown = [tick for tick in ticks(low, high, 5) if low < tick < high]
    parts = [
        f'<text x="{x(tick):.1f}" y="{height - 6}" text-anchor="middle">{short(tick)}%</text>'
        for tick in shown
    ]
    for place, rate in enumerate(rates):
        top = _TOP + _ROW * place
        parts += [f'<path class="grid" d="M{x(tick):.1f} {top + 18}v14"/>' for tick in shown]
        parts.append(
            f'<path class="line" d="M{x(level):.1f} {top + 19}v14"/>'
            f'<text class="label" x="0" y="{top + 13}">{escape(_clip(rate.name))}</text>'
            f'<text class="label" x="{_WIDTH}" y="{top + 13}" text-anchor="end">{rate.in_words}</text>'
        )
        if rate.ends is not None:
            start, end = map(x, rate.ends)
            parts.append(f'<path class="bold" d="M{start:.1f} {top + 25}H{end:.1f}"/>')
        parts.append(f'<circle class="bar0" cx="{x(rate.value):.1f}" cy="{top + 25}" r="4.5"/>')
    told = "; ".join(f"{plain(rate.name)} {rate.in_words}" for rate in rates)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="{escape(f"{title}: {told}")}">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _clip(name: str) -> str:
    name = plain(name)
    return name if len(name) <= _LONGEST else f"{name[: _LONGEST - 1]}…"
