"""Plots as inline SVG: no script, no font and nothing else from elsewhere; colours are the page's own CSS variables.

Every plot is a string that starts with `<svg`; its colours are classes c0, c1, ... for methods, `axis` and `soft`.
"""

from __future__ import annotations

import html
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

from fairpos.metrics import Interval

COLOURS = 6  # classes c0..c5, then again
_W, _H = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 22, 14, 40


@dataclass(frozen=True, slots=True)
class Line:
    """A method's curve."""

    name: str
    points: Sequence[Interval]


@dataclass(frozen=True, slots=True)
class Point:
    """A method's cost and what it buys."""

    name: str
    x: float
    y: Interval


def curve(lines: Sequence[Line], positions: Sequence[int], *, chance: float | None, title: str, x_title: str) -> str:
    """Shares in [0, 1] by position, with their intervals.

    Args:
        lines: One a method, with a point for each position.
        positions: From 0; shown from 1.
        chance: A dotted line there.
        title: For screen readers.
        x_title: Below the axis.
    """
    span = max(1, max(positions) - min(positions))
    parts = [*_open_picture(title), *_shares_axis(), _text_at(_W / 2 + _LEFT / 2, _H - 6, x_title, "middle")]

    def x(position: float) -> float:
        inset = 24
        return _LEFT + inset + (position - min(positions)) / span * (_W - _LEFT - _RIGHT - 2 * inset)

    parts += [_text_at(x(p), _H - _BOTTOM + 16, str(p + 1), "middle") for p in positions]
    if chance is not None:
        y = _share_y(chance)
        parts.append(f'<line class="soft dash" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text_at(_W - _RIGHT, y - 4, "chance", "end", "soft"))
    ends = _spread_heights([_share_y(line.points[-1].estimate) for line in lines])
    for number, line in enumerate(lines):
        shift = (number - (len(lines) - 1) / 2) * 5  # so that intervals lie beside each other
        places = [(x(p) + shift, _share_y(point.estimate)) for p, point in zip(positions, line.points, strict=True)]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
        parts.append(f'<g class="c{number % COLOURS}"><title>{html.escape(line.name)}</title>')
        parts.append(f'<polyline fill="none" points="{path}"/>')
        for (px, py), point in zip(places, line.points, strict=True):
            parts.append(
                f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{_share_y(point.low):.1f}" y2="{_share_y(point.high):.1f}"/>'
            )
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3.5"/>')
        parts.append(_text_at(_W - _RIGHT + 4, ends[number] + 4, str(number + 1), "start", "tag") + "</g>")
    return "".join([*parts, "</svg>"])


def scatter(points: Sequence[Point], *, title: str, x_title: str) -> str:
    """A share in [0, 1] against a cost.

    Args:
        points: One a method.
        title: For screen readers.
        x_title: Below the axis.

    Points are numbered from 1, as in the page's legend.
    """
    top = max(point.x for point in points) * 1.15 or 1.0
    step = _round_step(top)
    parts = [*_open_picture(title), *_shares_axis(), _text_at(_W / 2 + _LEFT / 2, _H - 6, x_title, "middle")]

    def x(value: float) -> float:
        return _LEFT + value / top * (_W - _LEFT - _RIGHT)

    ticks = [tick * step for tick in range(math.floor(top / step) + 1)]
    parts += [_text_at(x(tick), _H - _BOTTOM + 16, f"{tick:g}", "middle") for tick in ticks]
    taken: list[tuple[float, float]] = []
    for number, point in enumerate(points):
        px, py = x(point.x), _share_y(point.y.estimate)
        while any(abs(px - place) < 17 and abs(py - height) < 17 for place, height in taken):
            px += 17  # beside the one that is there
        taken.append((px, py))
        parts.append(
            f'<g class="c{number % COLOURS}"><title>{html.escape(point.name)}</title>'
            f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{_share_y(point.y.low):.1f}" y2="{_share_y(point.y.high):.1f}"/>'
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="8"/>{_text_at(px, py + 4, str(number + 1), "middle", "on")}</g>'
        )
    return "".join([*parts, "</svg>"])


def bars(values: Sequence[Interval], *, even: float, title: str, x_title: str) -> str:
    """Shares by slot with their intervals, scaled to the largest.

    Args:
        values: One a slot.
        even: A dotted line there: the share of every slot if all were alike.
        title: For screen readers.
        x_title: Below the axis.
    """
    top = max(max(value.high for value in values), even) * 1.1 or 1.0
    step = _round_step(top)
    parts = [*_open_picture(title), _text_at(_W / 2 + _LEFT / 2, _H - 6, x_title, "middle")]

    def y(share: float) -> float:
        return _TOP + (1 - share / top) * (_H - _TOP - _BOTTOM)

    for tick in (step * i for i in range(math.floor(top / step) + 1)):
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y(tick):.1f}" y2="{y(tick):.1f}"/>')
        parts.append(_text_at(_LEFT - 7, y(tick) + 4, f"{tick:g}", "end"))
    width = (_W - _LEFT - _RIGHT) / len(values)
    for number, value in enumerate(values):
        centre = _LEFT + (number + 0.5) * width
        parts.append(_text_at(centre, _H - _BOTTOM + 16, str(number + 1), "middle"))
        parts.append(
            f'<g class="c5"><rect x="{centre - width * 0.3:.1f}" y="{y(value.estimate):.1f}" width="{width * 0.6:.1f}" '
            f'height="{y(0) - y(value.estimate):.1f}"/><line class="over" x1="{centre:.1f}" x2="{centre:.1f}" '
            f'y1="{y(value.low):.1f}" y2="{y(value.high):.1f}"/></g>'
        )
    parts.append(f'<line class="soft dash" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y(even):.1f}" y2="{y(even):.1f}"/>')
    return "".join([*parts, "</svg>"])


def _spread_heights(heights: Sequence[float]) -> list[float]:
    """The same heights, moved down where they would be written over each other."""
    moved = list(heights)
    order = sorted(range(len(heights)), key=lambda i: heights[i])
    for above, below in itertools.pairwise(order):
        moved[below] = max(moved[below], moved[above] + 13)
    return moved


def _open_picture(title: str) -> list[str]:
    name = html.escape(title, quote=True)
    return [f'<svg viewBox="0 0 {_W} {_H}" role="img" aria-label="{name}"><title>{name}</title>']


def _shares_axis() -> list[str]:
    parts = []
    for tick in range(6):
        y = _share_y(tick / 5)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_W - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text_at(_LEFT - 7, y + 4, f"{tick / 5:.1f}", "end"))
    return parts


def _share_y(share: float) -> float:
    return _TOP + (1 - min(1.0, max(0.0, share))) * (_H - _TOP - _BOTTOM)


def _text_at(x: float, y: float, text: str, anchor: str, kind: str = "axis") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{html.escape(text)}</text>'


def _round_step(top: float) -> float:
    """A round step that gives at most 6 ticks."""
    power: float = 10.0 ** math.floor(math.log10(top))
    return next(s * power for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0) if top / (s * power) <= 6)
