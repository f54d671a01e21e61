"""How does a benchmark draw its curves? As small SVG files that a page of the repository can show; no plotting library."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000", "#999999")  # Okabe and Ito
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 620, 380, 70, 150, 40, 50
INK, GRID = "#444444", "#dddddd"

Points = Sequence[tuple[float, float]]


def write_lines(
    path: Path,
    title: str,
    lines: Mapping[str, Points],
    *,
    x: str,
    y: str,
    log_x: bool = True,
    log_y: bool = True,
) -> None:
    """Draw one line with marks for each name, and write it to ``path``.

    Args:
        path: of the SVG file.
        title: above the plot.
        lines: name → (x, y) by ascending x, all above 0 on a logarithmic axis; one point is a mark.
        x: what the horizontal axis shows.
        y: what the vertical axis shows.
        log_x: whether the horizontal axis is logarithmic.
        log_y: whether the vertical axis is.
    """
    points = [point for line in lines.values() for point in line]
    across = _Axis([p[0] for p in points], log_x, LEFT, WIDTH - RIGHT)
    up = _Axis([p[1] for p in points], log_y, HEIGHT - BOTTOM, TOP)
    parts = [_text(LEFT, 20, title, size=14), _text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x, anchor="middle")]
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(f'<g transform="rotate(-90 16 {middle})">{_text(16, middle, y, anchor="middle")}</g>')
    for value, place in across.ticks():
        parts.append(_line(place, TOP, place, HEIGHT - BOTTOM, GRID))
        parts.append(_text(place, HEIGHT - BOTTOM + 16, _short(value), anchor="middle"))
    for value, place in up.ticks():
        parts.append(_line(LEFT, place, WIDTH - RIGHT, place, GRID))
        parts.append(_text(LEFT - 6, place + 4, _short(value), anchor="end"))
    for i, (name, line) in enumerate(lines.items()):
        parts += _series(name, [(across.place(a), up.place(b)) for a, b in line], COLOURS[i % len(COLOURS)], i)
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">'
    body = "\n".join([head, f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>', *parts, "</svg>", ""])
    path.write_text(body, encoding="utf-8")


class _Axis:
    """From values to places on the page."""

    def __init__(self, values: Sequence[float], log: bool, first: float, last: float) -> None:
        low, high = min(values), max(values)
        if not log:  # a little air, so that no mark lies on the frame
            air = (high - low or abs(high) or 1.0) * 0.08
            low, high = low - air, high + air
        elif low == high:
            low, high = low / 2, high * 2
        self._log = log
        self._low, self._high = low, high
        self._first, self._last = first, last

    def place(self, value: float) -> float:
        low, high, at = self._low, self._high, value
        if self._log:
            low, high, at = math.log(low), math.log(high), math.log(value)
        return self._first + (self._last - self._first) * (at - low) / (high - low)

    def ticks(self) -> list[tuple[float, float]]:
        """Round values in range, with their places."""
        if self._log:
            exponents = range(math.floor(math.log10(self._low)), math.ceil(math.log10(self._high)) + 1)
            values = [digit * 10.0**e for e in exponents for digit in (1, 2, 5)]
        else:
            step = 10.0 ** math.floor(math.log10(self._high - self._low))
            step *= 0.2 if (self._high - self._low) / step < 2 else 0.5 if (self._high - self._low) / step < 5 else 1
            values = [i * step for i in range(math.ceil(self._low / step), math.floor(self._high / step) + 1)]
        return [(value, self.place(value)) for value in values if self._low <= value <= self._high]


def _series(name: str, places: list[tuple[float, float]], colour: str, number: int) -> list[str]:
    corners = " ".join(f"{a:.1f},{b:.1f}" for a, b in places)
    marks = [f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5" fill="{colour}"/>' for a, b in places]
    legend = TOP + 14 + 18 * number
    return [
        f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *marks,
        f'<circle cx="{WIDTH - RIGHT + 14}" cy="{legend - 4}" r="3.5" fill="{colour}"/>',
        _text(WIDTH - RIGHT + 22, legend, name),
    ]


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", size: int = 12) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{INK}">{escape(text)}</text>'


def _short(value: float) -> str:
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{letter}"
    return f"{value:.4g}"
