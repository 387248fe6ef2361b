"""Self-contained HTML pages: one style for light, dark and phones. Charts for them are in svg_charts.py.

Everything a page shows is inside the one file: no font, script, style or image is loaded from elsewhere. Each function
returns a string of HTML and escapes the texts given to it; only parameters called ``body`` take HTML.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

STYLE = Path(__file__).with_suffix(".css").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def page(title: str, body: str, subtitle: str = "", navigation: Sequence[tuple[str, str]] = ()) -> str:
    """A whole document; ``navigation`` is a list of (section id, label)."""
    links = "".join(f'<a href="#{escape(anchor)}">{escape(label)}</a>' for anchor, label in navigation)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style></head>\n<body><main>\n<header><h1>{escape(title)}</h1>"
        + (f'<p class="soft">{escape(subtitle)}</p>' if subtitle else "")
        + (f"<nav>{links}</nav>" if links else "")
        + f"</header>\n{body}\n</main><script>{SCRIPT}</script></body></html>\n"
    )


def section(title: str, body: str, anchor: str) -> str:
    """A heading and the text under it; ``anchor`` is the id that links name."""
    return f'<section id="{escape(anchor)}"><h2>{escape(title)}</h2>\n{body}</section>\n'


def paragraph(text: str, soft: bool = False) -> str:
    """One paragraph of plain text; flags (--name) in it are set as code, which is not broken across lines."""
    marked = re.sub(r"(?<![\w-])(--[a-z_]+)", r"<code>\1</code>", escape(text))
    return f"<p{' class=soft' if soft else ''}>{marked}</p>\n"


def callout(text: str | Sequence[str], kind: str = "", lead: str = "") -> str:
    """A highlighted box; ``kind`` is "", "good", "warn" or "bad"; several texts become several paragraphs.

    ``lead``: a few words in bold above the text.
    """
    texts = [text] if isinstance(text, str) else text
    head = f"<p><b>{escape(lead)}</b></p>" if lead else ""
    return f'<div class="callout {escape(kind)}">{head}{"".join(paragraph(part) for part in texts)}</div>\n'


def chips(facts: Iterable[tuple[str, str]]) -> str:
    """Small boxes with a label and a value: the headline numbers of a page."""
    boxes = "".join(f"<div><span>{escape(label)}</span><b>{escape(value)}</b></div>" for label, value in facts)
    return f'<div class="chips">{boxes}</div>\n'


def details(summary: str, body: str, opened: bool = False) -> str:
    """A block that opens and closes at a click on ``summary``."""
    return f"<details{' open' if opened else ''}><summary>{escape(summary)}</summary>{body}</details>\n"


def code(text: str) -> str:
    """A block of source text."""
    return f"<pre>{escape(text)}</pre>"


def grid(*figures: str) -> str:
    """Figures side by side where there is room, below each other on a phone."""
    return f'<div class="grid">{"".join(figures)}</div>\n'


def table(
    headers: Sequence[str], rows: Iterable[Sequence[object]], numeric: Iterable[int] | None = None, html: bool = False
) -> str:
    """A table that scrolls sideways on a narrow screen.

    Numbers are formatted and aligned right. ``numeric``: the columns to align right, where their cells are texts.
    ``html=True``: the cells of the body are HTML already.
    """
    rows = [list(row) for row in rows]
    right = (
        set(numeric)
        if numeric is not None
        else {
            column
            for column in range(len(headers))
            if rows and all(isinstance(row[column], (int, float)) or row[column] is None for row in rows)
        }
    )
    wide = {column for column in range(len(headers)) if any(len(str(row[column])) > 30 for row in rows)}

    def cell(value: object, column: int, tag: str) -> str:
        if value is None:
            text = "–"
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            text = format_number(value)
        else:
            text = str(value) if html and tag == "td" else escape(str(value))
        kind = " class=n" if column in right else " class=wide" if column in wide else ""
        return f"<{tag}{kind}>{text}</{tag}>"

    head = "".join(cell(name, column, "th") for column, name in enumerate(headers))
    body = "".join("<tr>" + "".join(cell(v, c, "td") for c, v in enumerate(row)) + "</tr>\n" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table></div>\n'


def format_number(value: float | None, digits: int = 4) -> str:
    """A number with its significant digits, no trailing zeros and separated thousands; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int) or (math.isfinite(value) and value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    if not math.isfinite(value):
        return "not finite"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.{digits}g}"


def interval(metric: Mapping[str, Any] | None, digits: int = 3) -> str:
    """``{"value", "low", "high"}`` as "0.612 (0.580 to 0.641)", or the reason why there is no value."""
    if not metric or metric.get("value") is None:
        return f"not computed: {metric['reason']}" if metric and metric.get("reason") else "–"
    text = f"{metric['value']:.{digits}f}"
    if metric.get("low") is not None and metric.get("high") is not None:
        text += f" ({metric['low']:.{digits}f} to {metric['high']:.{digits}f})"
    return text


def format_seconds(seconds: float) -> str:
    """Seconds as "42 s", "3 min 20 s", "2 h 5 min"."""
    if seconds < 10:
        return f"{seconds:.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"
