"""Texts as sequence-level distillation data: those of any language model, or others, become what the student learns.

Source: Kim and Rush, Sequence-Level Knowledge Distillation, 2016.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from data.java.statements import is_valid_java
from data.rows.files import require_file
from data.rows.readers import (
    TARGET_KEYS,
    TEST_KEYS,
    Json,
    RowError,
    Sample,
    is_header,
    parse_json_line,
    parse_sample,
    read_rows,
)
from utils.errors import UserError

FLAG = "--predictions"
# What a teacher said of the human's assertion; its logits belong to that text alone.
TEACHER_KEYS = ("teacher_logits_compressed", "compressed_logits", "labels_hash", "fold")
VERIFIED = "verified"  # marks a row whose assertion is a text that was run (scripts/verify_predictions.py)
HOW_TO_MAKE = 'each line is {"id": 0, "prediction": "assertEquals(3, box.size());"}; id is the row number or its id'


def read_by_id(path: str | Path) -> dict[str, str]:
    """Id (as text) -> prediction. Raises UserError for a line without either, and for an id that comes twice."""
    texts: dict[str, str] = {}
    for number, line in read_rows(require_file(path, FLAG, HOW_TO_MAKE)):
        try:
            row = parse_json_line(line)
        except RowError as error:
            raise UserError(f"{FLAG} {path}: line {number}: {error}; {HOW_TO_MAKE}") from None
        key, text = row.get("id", row.get("row")), row.get("prediction")
        if isinstance(key, bool) or not isinstance(key, (int, str)) or not isinstance(text, str):
            raise UserError(f"{FLAG} {path}: line {number}: no id or no prediction; {HOW_TO_MAKE}")
        if str(key) in texts:
            raise UserError(f"{FLAG} {path}: line {number}: a second prediction for id {key}; keep one")
        texts[str(key)] = text
    return texts


def read_numbered(path: str | Path, unusable: Counter[str] | None = None) -> Iterator[tuple[str, Json]]:
    """The usable rows of a file of tasks with their ids: the field ``id``, else the row number, from 0.

    ``unusable`` gets why others are not.
    """
    number = 0
    for _, line in read_rows(path):
        try:
            row = parse_json_line(line)
            if is_header(row):
                continue
            parse_sample(row)
        except RowError as error:
            number += 1
            if unusable is not None:
                unusable[str(error)] += 1
            continue
        yield str(row.get("id", number)), row
        number += 1


def join_predictions(
    rows: Path, predict: Callable[[str, Sample], str | None], nothing: str, counts: Counter[str]
) -> Iterator[str]:
    """Lines of the new file: each row with what ``predict`` says of its id and task in place of the assertions, which
    it keeps as ``human_assertions``; ``counts`` gets why rows are left out, ``nothing`` where it says None."""
    for key, row in read_numbered(rows, counts):
        if row.get(VERIFIED):
            counts["verified, not a person's"] += 1
            continue
        sample = parse_sample(row)
        text = predict(key, sample)
        if text is None or not _is_assertion(text):
            counts[nothing if text is None else "not an assertion in Java"] += 1
            continue
        gone = (*TARGET_KEYS, *TEST_KEYS, *TEACHER_KEYS)
        kept = {name: value for name, value in row.items() if name not in gone}
        kept |= {"test_method_masked": sample.test, "assertions": [text.strip()]}  # masked while the human's is known
        human = row.get("human_assertions", list(sample.assertions))
        kept |= {"human_assertions": human, "teacher_prediction": text}
        yield json.dumps(kept, ensure_ascii=False) + "\n"


def _is_assertion(text: str) -> bool:
    return bool(text.strip()) and is_valid_java(text)
