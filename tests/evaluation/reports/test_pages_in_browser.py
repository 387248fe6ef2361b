"""The HTML pages in a real browser: nothing sticks out at the width of a phone or of a desk, light or dark, no errors.

Chromium loads a page of its own that holds the document in a frame of the wanted width and looks around in it; what it
finds is read from its dump. Where there is no chromium (Debian: apt-get install chromium) the tests say so.
"""

from __future__ import annotations

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from evaluation.reports.pages import make_html_report
from evaluation.reports.run_report import write_report
from tests.helpers.evaluated import evaluate
from tests.helpers.synthetic_run import write_run

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no chromium on this machine; apt-get install chromium")

WIDTHS = {"phone": 390, "desk": 1280}
# Contrast as in WCAG 2: 4.5 between a text and what is behind it is the bound for body text.
PROBE = """
const found = {errors: [], frames: {}};
function channel(c) { c /= 255; return c <= 0.03928 ? c / 12.92 : Math.pow((c + 0.055) / 1.055, 2.4); }
function luminance(rgb) { return 0.2126 * channel(rgb[0]) + 0.7152 * channel(rgb[1]) + 0.0722 * channel(rgb[2]); }
function numbers(colour) { return (colour.match(/[\\d.]+/g) || []).map(Number); }
function behind(element, view) {
  for (let e = element; e; e = e.parentElement) {
    const c = numbers(view.getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0.99) return c;
  }
  return [255, 255, 255];
}
function look(name, frame) {
  const view = frame.contentWindow, page = frame.contentDocument, width = page.documentElement.clientWidth;
  page.querySelectorAll('details').forEach(d => d.open = true);
  const out = [], faint = [];
  page.querySelectorAll('body *').forEach(e => {
    const box = e.getBoundingClientRect();
    if (box.width && box.right > width + 1 && !e.closest('.scroll')) out.push(e.tagName + ' ' + box.right);
    const text = [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
    if (!text || !box.width || e.closest('svg') || ['STYLE', 'SCRIPT', 'OPTION'].includes(e.tagName)) return;
    const a = luminance(numbers(view.getComputedStyle(e).color)), b = luminance(behind(e, view));
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) faint.push(e.tagName + ' ' + e.textContent.slice(0, 30) + ' ' + contrast.toFixed(2));
  });
  found.frames[name] = {width: width, content: page.documentElement.scrollWidth, out: out, faint: faint,
    dark: luminance(numbers(view.getComputedStyle(page.body).backgroundColor)) < 0.2, height: page.body.scrollHeight};
}
let left = WIDTHS.length;
WIDTHS.forEach(([name, width]) => {
  const frame = document.createElement('iframe');
  frame.style = 'height:900px;border:0;width:' + width + 'px';
  frame.onload = () => { look(name, frame); if (--left === 0) {
    const result = document.createElement('pre'); result.id = 'found';
    result.textContent = JSON.stringify(found); document.body.replaceChildren(result); } };
  frame.srcdoc = DOCUMENT.replace('<head>', '<head><script>onerror = m => parent.found_error(m)</scr' + 'ipt>');
  document.body.appendChild(frame);
});
function found_error(message) { found.errors.push(String(message)); }
"""


def looked_at(document: Path, folder: Path, dark: bool) -> dict:
    """What the browser found in both frames."""
    text = json.dumps(document.read_text(encoding="utf-8")).replace("</", "<\\/")
    script = f"const DOCUMENT = {text};" + PROBE.replace("WIDTHS", json.dumps(list(WIDTHS.items())))
    probe = folder / "probe.html"
    probe.write_text(f"<!DOCTYPE html><meta charset=utf-8><body></body><script>{script}</script>", encoding="utf-8")
    words = [
        BROWSER,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        f"--user-data-dir={folder / 'profile'}",
        "--window-size=1400,1000",
        "--virtual-time-budget=8000",
        f"--blink-settings=preferredColorScheme={0 if dark else 1}",
        "--dump-dom",
        probe.as_uri(),
    ]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env={**os.environ, "HOME": str(folder)})
    result = re.search(r'<pre id="found">(.*?)</pre>', done.stdout, re.S)
    assert result, done.stderr[-2000:]
    return json.loads(html.unescape(result[1]))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run's report with long paths and predictions, and the report of an evaluation kept with the sources."""
    folder = tmp_path_factory.mktemp("pages") / "a_run_with_a_rather_long_name_that_must_break_somewhere"
    long = "a/path/that/has/no/blank/" * 12
    write_run(folder, config={"train_data_path": long, "model_name": long})
    with open(folder / "sample_predictions.jsonl", "a", encoding="utf-8") as handle:
        row = {"step": 300, "id": 11, "reference": "assertTrue(x);", "prediction": "getValues" * 80}
        handle.write(json.dumps(row) + "\n")
    with open(folder / "distillation_log.txt", "a", encoding="utf-8") as log:
        log.write(f"2026-01-01 00:00:00 WARNING {long} cannot be read\n")
    evaluation = folder / "report.html"
    evaluation.write_text(make_html_report(*evaluate()), encoding="utf-8")
    return {"run": write_report(folder)[0], "evaluation": evaluation}


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("page", ["run", "evaluation"])
def test_a_report(pages: dict[str, Path], tmp_path: Path, page: str, dark: bool) -> None:
    check(looked_at(pages[page], tmp_path, dark), dark)


def check(found: dict, dark: bool) -> None:
    assert found["errors"] == []
    assert set(found["frames"]) == set(WIDTHS)
    for name, frame in found["frames"].items():
        assert frame["dark"] == dark and WIDTHS[name] - 16 <= frame["width"] <= WIDTHS[name] and frame["height"] > 1500
        assert frame["content"] <= frame["width"] and frame["out"] == [], name
        assert frame["faint"] == [], name


def test_the_probe_sees_what_sticks_out_what_is_faint_and_what_fails(tmp_path: Path) -> None:
    page = tmp_path / "bad.html"
    page.write_text(
        "<!DOCTYPE html><html><head></head><body style='background:#fff'><p style='width:900px;color:#bbb'>x</p>"
        "<script>nothing.at.all()</script></body></html>"
    )
    found = looked_at(page, tmp_path, dark=False)
    assert len(found["errors"]) == 2
    assert found["frames"]["phone"]["out"] and found["frames"]["phone"]["content"] > 390
    assert not found["frames"]["desk"]["out"] and found["frames"]["desk"]["faint"]
