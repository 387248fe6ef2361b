"""Charts as inline SVG for the pages of html_page.py, whose style gives the colours; readable on a phone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from utils.pages.html_page import format_number, paragraph

COLOURS = 8
WIDTH, HEIGHT = 420, 250
LEFT = 50
RIGHT = 14
TOP = 10
BOTTOM = 38


@dataclass
class Series:
    """One curve; ``low`` and ``high`` draw a band around it; ``colour``: 0 to 7, by default its place."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    colour: int | None = None
    marks: bool = False


def _finite(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None and math.isfinite(value)]


def _shown(*values: float | None) -> bool:
    return all(value is not None and math.isfinite(value) for value in values)


def downsample(series: Series, buckets: int = 160) -> Series:
    """At most ``buckets`` points: the mean of each bucket, with its smallest and largest value as the band."""
    kept = [(float(x), float(y)) for x, y in zip(series.x, series.y, strict=True) if _shown(x, y)]
    if len(kept) <= buckets or series.low is not None:
        return series
    edges = [round(i * len(kept) / buckets) for i in range(buckets + 1)]
    groups = [kept[a:b] for a, b in pairwise(edges)]
    ys = [[y for _, y in group] for group in groups]
    return Series(
        series.name,
        [sum(x for x, _ in g) / len(g) for g in groups],
        [sum(y) / len(y) for y in ys],
        [min(y) for y in ys],
        [max(y) for y in ys],
        series.colour,
        series.marks,
    )


def choose_ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers that divide [low, high] into about ``count`` parts."""
    if high <= low:
        return [low]
    raw = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(raw))
    step = next(m * magnitude for m in (1, 2, 5, 10) if m * magnitude >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, math.floor(high / step + 1e-9) + 1)]


def label_ticks(values: Sequence[float]) -> list[str]:
    """The shortest labels that state the value of each tick."""
    labels: list[str] = []
    for digits in range(1, 13):
        labels = [_label_tick(value, digits) for value in values]
        if len(set(labels)) == len(labels) and all(
            math.isclose(float(label.replace("k", "e3")), value, rel_tol=1e-9, abs_tol=1e-300)
            for label, value in zip(labels, values, strict=True)
        ):
            break
    return labels


def _label_tick(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e6 or abs(value) < 1e-3:
        mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
        return f"{float(mantissa):.12g}e{int(exponent)}"
    if abs(value) >= 10_000:
        return f"{value / 1000:.{max(digits, 3)}g}k"
    return f"{value:.{max(digits, 4)}g}"


@dataclass
class _Axes:
    x0: float
    x1: float
    y0: float
    y1: float
    log: bool

    def x(self, value: float) -> float:
        return LEFT + (value - self.x0) / ((self.x1 - self.x0) or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        low, high, at = (math.log10(v) for v in (self.y0, self.y1, value)) if self.log else (self.y0, self.y1, value)
        return HEIGHT - BOTTOM - (at - low) / ((high - low) or 1) * (HEIGHT - BOTTOM - TOP)

    def frame(self, x_label: str) -> str:
        if self.log:
            first, last = math.floor(math.log10(self.y0)), math.ceil(math.log10(self.y1))
            every = max(1, math.ceil((last - first) / 6))
            rows = [10.0**e for e in range(first, last + 1, every) if self.y0 <= 10.0**e * 1.0001 <= self.y1 * 1.001]
            if len(rows) < 2:
                rows = [t for t in choose_ticks(self.y0, self.y1, 4) if t > 0]
        else:
            rows = choose_ticks(self.y0, self.y1)
        parts = []
        for value, label in zip(rows, label_ticks(rows), strict=True):
            at = self.y(value)
            parts.append(
                f'<line class="rule" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
                f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
            )
        columns = choose_ticks(self.x0, self.x1, 5)
        for value, label in zip(columns, label_ticks(columns), strict=True):
            parts.append(
                f'<text x="{self.x(value):.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{label}</text>'
            )
        parts.append(f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 4}" text-anchor="end">{escape(x_label)}</text>')
        return "".join(parts)


def legend(names: Sequence[tuple[str, int]]) -> str:
    """Colour swatches with their names."""
    items = "".join(f'<span><i style="background:var(--c{c % COLOURS})"></i>{escape(name)}</span>' for name, c in names)
    return f'<div class="legend">{items}</div>'


def _svg(caption: str, height: int, parts: Iterable[str]) -> str:
    return f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(caption)}">{"".join(parts)}</svg>'


def _figure(caption: str, note: str, key: str, svg: str, data: str = "") -> str:
    small = f' <span class="soft">{escape(note)}</span>' if note else ""
    attribute = f' data-chart="{escape(data)}"' if data else ""
    return f"<figure{attribute}><figcaption>{escape(caption)}{small}</figcaption>{key}{svg}</figure>\n"


def line_chart(
    caption: str,
    series: Sequence[Series],
    *,
    note: str = "",
    x_label: str = "step",
    log: bool | None = None,
    y_range: tuple[float, float] | None = None,
) -> str:
    """Curves over steps.

    ``log``: logarithmic y; None decides by the data (all positive, spread above a factor of 100).
    Values that are not finite are left out, and the caption says how many.
    """
    lost = sum(len(s.y) - len(_finite(s.y)) for s in series)
    series = [downsample(s) for s in series]
    for index, one in enumerate(series):
        one.colour = index if one.colour is None else one.colour
    if not any(_finite(s.y) for s in series):
        return _figure(caption, note, "", paragraph("No values were recorded.", soft=True))
    axes = _fit_axes(series, log, y_range)
    parts = [axes.frame(x_label), *(_draw_curve(one, axes) for one in series)]
    notes = [note, "logarithmic scale" if axes.log else "", f"{lost} values not finite" if lost else ""]
    key = legend([(s.name, s.colour or 0) for s in series]) if len(series) > 1 else ""
    data = _encode_values(series, axes, x_label)
    return _figure(caption, ", ".join(filter(None, notes)), key, _svg(caption, HEIGHT, parts), data)


def _fit_axes(series: Sequence[Series], log: bool | None, y_range: tuple[float, float] | None) -> _Axes:
    """Axes on which all values have room, with a margin above and below on a linear scale."""
    xs = [v for s in series for v in _finite(s.x)]
    ys = [v for s in series for v in (_finite(s.y) + _finite(s.low or []) + _finite(s.high or []))]
    use_log = min(ys) > 0 and (max(ys) / min(ys) > 100 if log is None else log)
    low, high = y_range or (min(ys), max(ys))
    if y_range is None and not use_log:
        pad = (high - low) * 0.05 or abs(high) * 0.1 or 1.0
        low, high = (0.0 if 0 <= low <= (high - low) else low - pad), high + pad
    elif use_log and low == high:
        low, high = low / 2, high * 2
    return _Axes(min(xs), max(xs), low, high, use_log)


def _draw_curve(one: Series, axes: _Axes) -> str:
    """The band, the line and the marks of a series."""
    colour = f"var(--c{(one.colour or 0) % COLOURS})"
    parts = []
    points = [(axes.x(x), axes.y(y)) for x, y in zip(one.x, one.y, strict=True) if _shown(x, y)]
    bands = zip(one.x, one.low or (), one.high or (), strict=False)  # empty where the series has no band
    banded = [(axes.x(x), axes.y(lo), axes.y(hi)) for x, lo, hi in bands if _shown(x, lo, hi)]
    if len(banded) > 1:
        outline = [f"{x:.1f},{hi:.1f}" for x, _, hi in banded] + [f"{x:.1f},{lo:.1f}" for x, lo, _ in banded[::-1]]
        parts.append(f'<polygon points="{" ".join(outline)}" fill="{colour}" opacity=".16"/>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
    if one.marks or len(points) < 2:
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]
    return "".join(parts)


def _encode_values(series: Sequence[Series], axes: _Axes, x_label: str) -> str:
    """What html_page.js needs to show the values under the pointer, as JSON."""
    chart = {
        "width": WIDTH,
        "left": LEFT,
        "right": WIDTH - RIGHT,
        "top": TOP,
        "bottom": HEIGHT - BOTTOM,
        "x0": axes.x0,
        "x1": axes.x1,
        "label": x_label,
        "series": [
            {
                "name": s.name,
                "c": (s.colour or 0) % COLOURS,
                "x": [round(float(x)) for x, y in zip(s.x, s.y, strict=True) if _shown(x, y)],
                "y": [format_number(float(y)) for y in _finite(s.y)],
            }
            for s in series
        ],
    }
    return json.dumps(chart, separators=(",", ":"))


def bar_chart(
    caption: str,
    bars: Sequence[tuple[str, float | None]],
    *,
    intervals: Sequence[tuple[float, float] | None] = (),
    colours: Sequence[int] = (),
    note: str = "",
    maximum: float | None = None,
    digits: int = 3,
) -> str:
    """Horizontal bars from zero with their values (None: not computed); ``intervals`` draws (low, high) whiskers."""
    whiskers = list(intervals) or [None] * len(bars)
    top = maximum or max([*_finite(value for _, value in bars), *(w[1] for w in whiskers if w), 1e-12])
    row = 44
    begin = 0
    end = WIDTH - 60
    parts = []
    for index, ((label, value), whisker) in enumerate(zip(bars, whiskers, strict=True)):
        y = index * row
        colour = f"var(--c{(colours[index] if colours else 0) % COLOURS})"
        shown = "not computed" if value is None else f"{value:.{digits}f}"
        parts.append(f'<text class="value" x="0" y="{y + 15}">{escape(label)}</text>')
        if value is None:
            parts.append(f'<text x="{begin}" y="{y + 32}">{shown}</text>')
            continue
        length = max(1.0, (end - begin) * min(max(value, 0.0), top) / top)
        after = begin + length
        parts.append(f'<rect x="{begin}" y="{y + 21}" width="{length:.1f}" height="12" rx="2" fill="{colour}"/>')
        if whisker:
            a, b = (begin + (end - begin) * min(max(w, 0.0), top) / top for w in whisker)
            after = max(after, b)
            parts.append(
                f'<path d="M{a:.1f} {y + 27}H{b:.1f}M{a:.1f} {y + 22}v10M{b:.1f} {y + 22}v10" '
                'stroke="var(--ink)" stroke-width="1.5" fill="none"/>'
            )
        parts.append(f'<text class="value" x="{after + 6:.1f}" y="{y + 32}">{shown}</text>')
    return _figure(caption, note, "", _svg(caption, len(bars) * row, parts))


def stacked_bars(
    caption: str,
    rows: Sequence[tuple[str, Sequence[float]]],
    names: Sequence[str],
    *,
    colours: Sequence[int] = (),
    note: str = "",
) -> str:
    """Bars of equal length, each divided among ``names``: the shares of a whole at several moments."""
    colours = list(colours) or list(range(len(names)))
    row, parts = 44, []
    for index, (label, values) in enumerate(rows):
        y = index * row
        x = 0.0
        total = sum(values) or 1.0
        parts.append(f'<text class="value" x="0" y="{y + 15}">{escape(label)}</text>')
        for value, colour in zip(values, colours, strict=True):
            width = WIDTH * value / total
            fill = f"var(--c{colour % COLOURS})"
            parts.append(f'<rect x="{x:.1f}" y="{y + 21}" width="{width:.1f}" height="17" fill="{fill}"/>')
            if width > 34:
                parts.append(
                    f'<text x="{x + width / 2:.1f}" y="{y + 34}" text-anchor="middle" '
                    f'style="fill:var(--ground);font-weight:600">{value / total:.0%}</text>'
                )
            x += width
    key = legend(list(zip(names, colours, strict=True)))
    return _figure(caption, note, key, _svg(caption, len(rows) * row, parts))
