"""Charts as SVG, written by hand: they need no package, grow with the page, and are read in light and in dark.

Colours and fonts are classes, so that a page's own style sheet draws them; `standalone` adds one for a file.
Places along the axis are in per cent of the width: on a phone a chart is narrower, and its words are not smaller.
Knows numbers and labels, nothing of data sets or models.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

ROW = 24  # pixels of height that a row takes
STYLE = """
svg { font: 12px system-ui, sans-serif; color-scheme: light dark; }
text { fill: #33363b; } .soft { fill: #6a6f77; } .grid { stroke: #8884; } .zero { stroke: #888; }
.s0 { fill: #2f6f9f; stroke: #2f6f9f; } .s1 { fill: #c2512f; stroke: #c2512f; } .chance { stroke: #888; }
.range { stroke-opacity: .35; } .win { fill: #3a8a5f; stroke: #3a8a5f; } .loss { fill: #b5483f; stroke: #b5483f; }
.tie { fill: #888; stroke: #888; } .bar { fill-opacity: .3; stroke: none; } .line { fill: none; }
.area { fill-opacity: .15; stroke: none; }
@media (prefers-color-scheme: dark) { svg { background: #17191d; } text { fill: #d8dade; } .soft { fill: #9aa0a8; }
.s0 { fill: #6fb1e0; stroke: #6fb1e0; } .s1 { fill: #f0926f; stroke: #f0926f; } }
"""


@dataclass(frozen=True)
class Mark:
    """One value with its interval. look: class in the style sheet ("s0", "s1", "win", "tie", "loss")."""

    value: float
    interval: tuple[float, float] | None = None
    look: str = "s0"
    says: str = ""
    """What is said when one points at it."""


@dataclass(frozen=True)
class Row:
    """A label and its marks on one axis. chance: the value that guessing would have. n: items behind the marks."""

    label: str
    marks: Sequence[Mark]
    chance: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Axis:
    """From low to high, with ticks in between."""

    low: float
    high: float
    ticks: tuple[float, ...]
    share: bool = True

    def place(self, value: float) -> float:
        """Per cent of the width, kept inside it."""
        return 100 * min(1.0, max(0.0, (value - self.low) / (self.high - self.low)))

    def tick(self, value: float) -> str:
        return f"{100 * value:.3g} %".replace("-", "−") if self.share else f"{value:.3g}".replace("-", "−")


def axis_for(rows: Sequence[Row], share: bool = True, whole: bool = False, around: bool = False) -> Axis:
    """From nought to a round number above everything; `whole`: to 100 %; `around`: as far below nought as above."""
    values = [v for row in rows for mark in row.marks for v in (mark.value, *(mark.interval or ())) if math.isfinite(v)]
    end = 1.0 if whole else _round_up(max((abs(value) for value in values), default=1.0) or 1.0)
    end = min(1.0, end) if share else end
    if around or min(values, default=0.0) < 0:
        return Axis(-end, end, (-end, -end / 2, 0.0, end / 2, end), share)
    return Axis(0.0, end, (0.0, end / 4, end / 2, 3 * end / 4, end), share)


def _round_up(value: float) -> float:
    """The next of 1, 2, 5, 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 10) if step * power >= value * 0.999)


# ---- one value a row -------------------------------------------------------------------------------------------------


def track(row: Row, axis: Axis, bars: bool = False) -> str:
    """The marks of one row, `ROW` high: a dot on its interval each, or a bar from nought."""
    parts = [_line("zero" if tick == 0 else "grid", axis.place(tick), "0", "100%") for tick in axis.ticks]
    if row.chance is not None:
        parts.append(_line("chance", axis.place(row.chance), "15%", "85%", ' stroke-dasharray="2 2"'))
    for index, mark in enumerate(row.marks):
        y = ROW * (index + 1) / (len(row.marks) + 1)
        parts.append(_bar(mark, axis, y) if bars else _dot(mark, axis, y))
    return "".join(parts)


def ticks(axis: Axis) -> str:
    """The numbers below or above the rows."""
    parts = []
    for tick in axis.ticks:
        anchor = {axis.ticks[0]: "start", axis.ticks[-1]: "end"}.get(tick, "middle")
        parts.append(
            f'<text class="soft" x="{axis.place(tick):.2f}%" y="14" text-anchor="{anchor}">{axis.tick(tick)}</text>'
        )
    return "".join(parts)


def _line(look: str, place: float, top: str, bottom: str, more: str = "") -> str:
    return f'<line class="{look}" x1="{place:.2f}%" x2="{place:.2f}%" y1="{top}" y2="{bottom}"{more}/>'


def _range(mark: Mark, axis: Axis, y: float) -> str:
    if mark.interval is None:
        return ""
    low, high = (axis.place(end) for end in mark.interval)
    width = 'stroke-width="5" stroke-linecap="round"'
    return f'<line class="{mark.look} range" x1="{low:.2f}%" x2="{high:.2f}%" y1="{y:g}" y2="{y:g}" {width}/>'


def _dot(mark: Mark, axis: Axis, y: float) -> str:
    if not math.isfinite(mark.value):
        return ""
    dot = f'<circle class="{mark.look}" cx="{axis.place(mark.value):.2f}%" cy="{y:g}" r="3.5"/>'
    return f"<g><title>{escape(mark.says)}</title>{_range(mark, axis, y)}{dot}</g>"


def _bar(mark: Mark, axis: Axis, y: float) -> str:
    if not math.isfinite(mark.value):
        return ""
    left, right = sorted((axis.place(0.0), axis.place(mark.value)))
    bar = f'<rect class="{mark.look} bar" x="{left:.2f}%" width="{right - left:.2f}%" y="{y - 7:g}" height="14"/>'
    return f"<g><title>{escape(mark.says)}</title>{bar}{_dot(mark, axis, y)}</g>"


def rows_chart(rows: Sequence[Row], axis: Axis, legend: Sequence[tuple[str, str]] = (), bars: bool = False) -> str:
    """A whole chart for a file: labels at the left, marks at the right, (look, word) of each series above."""
    top, width = 26, 780
    height = top + ROW * len(rows) + 22
    inner = f'x="220" width="{width - 250}" overflow="visible"'
    parts = [
        f'<circle class="{look}" cx="{226 + 110 * i}" cy="12" r="4"/>'
        f'<text x="{236 + 110 * i}" y="16">{escape(name)}</text>'
        for i, (look, name) in enumerate(legend)
    ]
    for i, row in enumerate(rows):
        y = top + ROW * i
        parts.append(f'<text x="206" y="{y + ROW / 2 + 4:g}" text-anchor="end">{escape(row.label)}</text>')
        parts.append(f'<svg {inner} y="{y}" height="{ROW}">{track(row, axis, bars)}</svg>')
    parts.append(f'<svg {inner} y="{height - 22}" height="22">{ticks(axis)}</svg>')
    return f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">{"".join(parts)}</svg>'


# ---- two axes --------------------------------------------------------------------------------------------------------

LEFT, TOP, WIDE, HIGH = 44, 12, 280, 220  # of the frame inside a chart of two axes


@dataclass(frozen=True)
class Line:
    """A named curve: (x, y) points, each with an interval or None. Neither x nor y is scaled yet: both are in 0..1."""

    name: str
    points: Sequence[tuple[float, float]]
    intervals: Sequence[tuple[float, float] | None] = ()
    look: str = "s0"
    level: bool = False
    """A level to compare with, drawn across the whole width."""


@dataclass(frozen=True)
class Bin:
    """Pictures whose answers were given with a confidence from `low` to `high`: how sure, how often right, how many."""

    low: float
    high: float
    confidence: float
    accuracy: float
    interval: tuple[float, float]
    n: int


def reliability(bins: Sequence[Bin], look: str = "s0") -> str:
    """Stated confidence against how often it was right, with intervals. Below the diagonal the model is too sure of
    itself. The grey bars show how many pictures each bin holds."""
    most = max((one.n for one in bins), default=1)
    parts = [_frame([(v, f"{v * 100:g}") for v in (0, 0.25, 0.5, 0.75, 1)], "stated confidence, %", "right, %")]
    for one in bins:
        tall, wide = 0.25 * one.n / most, one.high - one.low
        edges = f'x="{_x(one.low)}" width="{WIDE * wide - 1:.1f}" y="{_y(tall)}" height="{HIGH * tall:.1f}"'
        parts.append(f'<rect class="tie bar" {edges}/>')
    parts.append(f'<line class="zero" x1="{_x(0)}" y1="{_y(0)}" x2="{_x(1)}" y2="{_y(1)}" stroke-dasharray="4 3"/>')
    for one in bins:
        says = f"said {one.confidence:.0%}, right {one.accuracy:.0%}, {one.n:,} pictures"
        x, (low, high) = _x(one.confidence), one.interval
        whisker = f'<line class="{look} range" x1="{x}" x2="{x}" y1="{_y(low)}" y2="{_y(high)}" stroke-width="4"/>'
        dot = f'<circle class="{look}" cx="{x}" cy="{_y(one.accuracy)}" r="4"/>'
        parts.append(f"<g><title>{escape(says)}</title>{whisker}{dot}</g>")
    return _square(parts)


def curves(lines: Sequence[Line], places: Sequence[tuple[float, str]], below: str, beside: str) -> str:
    """Curves with their intervals as bands, both axes in 0..1; places: where the horizontal axis has which word."""
    parts = [_frame(places, below, beside)]
    for line in lines:
        points = [(x, y) for x, y in line.points if math.isfinite(y)]
        if line.level:
            points = [(0.0, points[0][1]), (1.0, points[0][1])] if points else []
        band = [(x, i) for (x, _), i in zip(line.points, line.intervals, strict=False) if i is not None]
        if len(band) > 1 and not line.level:
            edge = [(x, i[1]) for x, i in band] + [(x, i[0]) for x, i in reversed(band)]
            parts.append(f'<polygon class="{line.look} area" points="{_joined(edge)}"/>')
        dashes = ' stroke-dasharray="5 4"' if line.level else ""
        parts.append(f'<polyline class="{line.look} line" stroke-width="2" points="{_joined(points)}"{dashes}/>')
        for x, y in [] if line.level else points:
            says = escape(f"{line.name}: {y:.1%}")
            parts.append(f'<g><title>{says}</title><circle class="{line.look}" cx="{_x(x)}" cy="{_y(y)}" r="3.5"/></g>')
        if points:
            parts.append(_name_of_line(line, points))
    return _square(parts)


def _name_of_line(line: Line, points: Sequence[tuple[float, float]]) -> str:
    """A level's name stands above its right end, a curve's below its middle, where the levels leave room."""
    x, y = points[-1] if line.level else points[len(points) // 2]
    where = f'x="{_x(x)}" y="{float(_y(y)) + (-7 if line.level else 19):.1f}"'
    return f'<text {where} text-anchor="{"end" if line.level else "middle"}">{escape(line.name)}</text>'


def _x(share: float) -> str:
    return f"{LEFT + WIDE * share:.1f}"


def _y(share: float) -> str:
    return f"{TOP + HIGH * (1 - share):.1f}"


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{_x(x)},{_y(y)}" for x, y in points)


def trend(values: Sequence[tuple[int, float]], below: str, level: float | None = None) -> str:
    """One value over many steps, (step, value), the axes as far as the values go; level: one to compare with."""
    found = [(step, value) for step, value in values if math.isfinite(value)]
    heights = [value for _, value in found] + ([] if level is None else [level])
    if not found:
        return ""
    low, high, last = min(heights), max(heights), max(found[-1][0], 1)
    room = (high - low) or abs(high) or 1.0
    parts = [
        _frame(
            [(share, f"{share * last:,.0f}") for share in (0, 0.5, 1)],
            below,
            "",
            _numbers(low, room),
        )
    ]
    if level is not None:
        y = _y((level - low) / room)
        parts.append(f'<line class="chance" x1="{_x(0)}" x2="{_x(1)}" y1="{y}" y2="{y}" stroke-dasharray="5 4"/>')
    points = _joined([(step / last, (value - low) / room) for step, value in found])
    parts.append(f'<polyline class="s0 line" stroke-width="1.5" points="{points}"/>')
    return _square(parts)


def _numbers(low: float, room: float) -> list[tuple[float, str]]:
    """What stands at heights: as many digits as tell them from one another, and never too long for the margin."""
    heights = [(share, low + share * room) for share in (0, 0.25, 0.5, 0.75, 1)]
    if all(abs(height) < 0.01 for _, height in heights):
        return [(share, f"{height:.0e}".replace("e-0", "e-")) for share, height in heights]
    digits = next((d for d in (2, 3, 4) if len({f"{height:.{d}g}" for _, height in heights}) == len(heights)), 5)
    return [(share, f"{height:.{digits}g}") for share, height in heights]


PER_CENT = [(share, f"{100 * share:g}") for share in (0, 0.25, 0.5, 0.75, 1)]


def _frame(
    places: Sequence[tuple[float, str]], below: str, beside: str, heights: Sequence[tuple[float, str]] = PER_CENT
) -> str:
    """Grid, numbers and the words at both axes; the vertical one is 0 to 100 % if not told otherwise."""
    parts = []
    for share, number in heights:
        y = _y(share)
        parts.append(f'<line class="grid" x1="{_x(0)}" x2="{_x(1)}" y1="{y}" y2="{y}"/>')
        parts.append(f'<text class="soft" x="{LEFT - 6}" y="{float(y) + 4:g}" text-anchor="end">{number}</text>')
    for place, word in places:
        x = f'x="{_x(place)}" y="{TOP + HIGH + 18}" text-anchor="middle"'
        parts.append(f'<text class="soft" {x}>{escape(word)}</text>')
    parts.append(f'<text class="soft" x="{_x(0.5)}" y="{TOP + HIGH + 36}" text-anchor="middle">{escape(below)}</text>')
    middle = TOP + HIGH / 2
    turned = f'x="12" y="{middle:g}" text-anchor="middle" transform="rotate(-90 12 {middle:g})"'
    parts.append(f'<text class="soft" {turned}>{escape(beside)}</text>')
    return "".join(parts)


def _square(parts: Sequence[str]) -> str:
    wide, high = LEFT + WIDE + 20, TOP + HIGH + 44
    return f'<svg viewBox="0 0 {wide} {high}" width="{wide}" height="{high}" role="img">{"".join(parts)}</svg>'


def standalone(svg: str) -> bytes:
    """A chart as a file of its own, with its style sheet."""
    opening, rest = svg.split(">", 1)
    text = f'{opening} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}</style>{rest}'
    return text.encode("utf-8", "replace")
