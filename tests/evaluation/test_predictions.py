"""Predictions of other tools: read by row or by place, and refused where they cannot be meant."""

from __future__ import annotations

from collections import Counter

import pytest

from data.rows.readers import Sample
from evaluation.systems.baselines import NOTHING, strip_assertion
from evaluation.systems.predictions import read_predictions
from evaluation.tasks import Tasks
from utils.errors import UserError

SAMPLES = [
    Sample("void t() { <AssertPlaceHolder> }", f"int f{n}()", (f"assertEquals({n}, f());",), {}) for n in range(3)
]
TASKS = Tasks(SAMPLES, [0, 2, 3], Counter())  # row 1 of the file could not be used


def write(folder, *lines):
    path = folder / "llm.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return f"llm={path}"


def test_by_row_and_by_place(tmp_path, capsys):
    by_row = write(
        tmp_path, '{"row": 3, "prediction": "c"}', '{"row": 0, "prediction": "a"}', '{"row": 9, "prediction": "z"}'
    )
    assert read_predictions([by_row], TASKS) == {"llm": ["a", "", "c"]}
    told = capsys.readouterr().err
    assert told.splitlines() == [
        "warning: --predictions llm: 1 of 3 judged rows have no prediction, which counts as a wrong one;"
        " 1 predictions are for rows that are not judged"
    ]
    by_place = write(tmp_path, *(f'{{"prediction": "{text}"}}' for text in "abcd"))
    assert read_predictions([by_place], TASKS) == {"llm": ["a", "c", "d"]}
    complete = write(tmp_path, *(f'{{"row": {row}, "prediction": "a"}}' for row in TASKS.rows))
    capsys.readouterr()
    assert read_predictions([complete], TASKS) == {"llm": ["a", "a", "a"]} and not capsys.readouterr().err


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (['{"row": 0}'], "line 1: no row number or no text"),
        (['{"row": "0", "prediction": "a"}'], "line 1: no row number"),
        (['{"row": true, "prediction": "a"}'], "line 1: no row number"),
        (['{"row": 0, "prediction": "a"}', '{"row": 0, "prediction": "b"}'], "line 2: a second prediction for row 0"),
        (['{"row": 7, "prediction": "a"}'], "none of the 3 rows"),
        (["a"], "line 1: not valid JSON"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path, lines, message):
    with pytest.raises(UserError, match=f"--predictions.*{message}"):
        read_predictions([write(tmp_path, *lines)], TASKS)


@pytest.mark.parametrize(
    ("given", "message"), [("llm", "NAME=FILE"), ("student=x", "is taken"), ("llm=gone", "does not exist")]
)
def test_names_and_files(given, message):
    with pytest.raises(UserError, match=message):
        read_predictions([given], TASKS)


@pytest.mark.parametrize(
    ("reference", "call"),
    [
        ("assertEquals(7, cart.total());", "cart.total();"),
        ("assertThat(cart.items().size(), is(2));", "cart.items().size();"),
        ("Assert.assertTrue(new Cart(1).isEmpty());", "new Cart(1).isEmpty();"),
        ("assertEquals(7, total);", NOTHING),
    ],
)
def test_a_bare_call_is_the_first_of_the_assertion(reference, call):
    assert strip_assertion(reference) == call
