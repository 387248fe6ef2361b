"""Predictions that another tool wrote, read from a file (``--predictions NAME=FILE``)."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Sequence

from data.rows.files import require_file
from data.rows.readers import RowError, parse_json_line, read_rows
from evaluation.summary import TITLES
from evaluation.tasks import Tasks
from utils.errors import UserError

FLAG = "--predictions"
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
HOW_TO_MAKE = 'each line is {"row": 0, "prediction": "assertEquals(3, box.size());"} (docs/evaluation.md)'


def read_predictions(given: Sequence[str], tasks: Tasks) -> dict[str, list[str]]:
    """By name, one text for each task; the empty string for a task that a file leaves out.

    ``row`` is the task's row in the data file, counted from 0 without the header; without it, lines are in the order of
    the rows. Rows that are not judged are ignored, so one file serves for any part of the data. A warning tells how
    many those are, and how many tasks are left out. Raises UserError for a name or a line that cannot be used, two
    texts for a row, and a file for other data.
    """
    found: dict[str, list[str]] = {}
    for item in given:
        name, texts = _read(item, tasks, (*TITLES, *found))
        found[name] = texts
    return found


def _read(given: str, tasks: Tasks, taken: Collection[str]) -> tuple[str, list[str]]:
    name, equals, path = given.partition("=")
    if not equals or not NAME.fullmatch(name):
        raise UserError(f"{FLAG} {given}: give it as NAME=FILE, the name from letters, digits, dots and hyphens")
    if name in taken:
        raise UserError(f"{FLAG} {given}: the name {name} is taken; choose another")
    texts: dict[int, str] = {}
    for number, line in read_rows(require_file(path, f"{FLAG} {name}", HOW_TO_MAKE)):
        try:
            row = parse_json_line(line)
        except RowError as error:
            raise UserError(f"{FLAG} {path}: line {number}: {error}; {HOW_TO_MAKE}") from None
        place, text = row.get("row", len(texts)), row.get("prediction")
        if type(place) is not int or place < 0 or not isinstance(text, str):
            raise UserError(f"{FLAG} {path}: line {number}: no row number or no text; {HOW_TO_MAKE}")
        if place in texts:
            raise UserError(f"{FLAG} {path}: line {number}: a second prediction for row {place}; keep one")
        texts[place] = text
    found = [texts.get(row) for row in tasks.rows]
    if all(text is None for text in found):
        raise UserError(f"{FLAG} {path}: has none of the {len(found)} rows that are judged; is it for other data?")
    lacking, strange = found.count(None), len(set(texts).difference(tasks.rows))
    if lacking or strange:
        print(
            f"warning: {FLAG} {name}: {lacking} of {len(found)} judged rows have no prediction, which counts as a wrong"
            f" one; {strange} predictions are for rows that are not judged",
            file=sys.stderr,
        )
    return name, [text or "" for text in found]
