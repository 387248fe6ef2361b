"""The assertions of other tests that a context shows: those nearest to a task, of its class or its focal class; and for
a task without any, one retrieved from the training tests of other classes."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

import numpy as np
from scipy.sparse import csr_matrix
from tqdm import tqdm

from data.mining.tasks import MinedTest
from data.rows.answer import find_answer
from data.rows.context import Context, Sibling
from data.rows.readers import PLACEHOLDER, Row

MAX_SIBLINGS = 8
SAME_FOCAL_BONUS = 0.1  # beside a similarity from 0 to 1
NEIGHBOURHOOD = 2000  # in a class of more tasks, those that are this near in the file are compared
BLOCK = 512
LOOKED_AT = 64  # of the nearest, for assertions that differ
RETRIEVED_DEPTH, RETRIEVED_BLOCK = 20, 64  # of the nearest, the first that may be shown
WORD = re.compile(r"[A-Za-z_$][\w$]*")


class WordBag:
    """The words of masked tests as sparse rows; the second ``x`` of a test is another word than its first.

    So the set similarity of two rows is the Jaccard index of the multisets.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        number: dict[tuple[str, int], int] = defaultdict(count().__next__)
        self.rows: list[np.ndarray] = []
        for row in rows:
            counted = Counter(_words(row))
            words = [number[word, k] for word, times in counted.items() for k in range(times)]
            self.rows.append(np.array(words, dtype=np.int32))

    def matrix(self, chosen: Sequence[int]) -> csr_matrix:
        """[len(chosen), words in them] ones and zeros."""
        rows = [self.rows[i] for i in chosen]
        lengths = np.array([len(row) for row in rows])
        words, columns = np.unique(np.concatenate(rows), return_inverse=True)
        starts = np.concatenate([[0], np.cumsum(lengths)])
        return csr_matrix((np.ones(len(columns), dtype=np.float32), columns, starts), (len(rows), len(words)))


def add_siblings(tests: Sequence[MinedTest], splits: Sequence[str] = (), progress: bool = False) -> None:
    """Put siblings, else a retrieved neighbour, into the contexts of the tests' rows, and say where the answer stands.

    Siblings are assertions of other tests of the same (outermost) class; a task with fewer than ``MAX_SIBLINGS`` gets
    others of the project about its focal class. ``splits``: of the tests; retrieved is from "train" alone.
    """
    owners = [index for index, test in enumerate(tests) for _ in test.rows]
    rows = [row for test in tests for row in test.rows]
    bag = WordBag(rows)
    described: dict[int, Sibling] = {}  # each is the sibling of many
    of_class, of_focal = (_group(rows, key) for key in ("test_class", "focal_class"))
    for places in tqdm([*of_class, *of_focal], desc="siblings", unit="class", disable=not progress):
        asking = [i for i, place in enumerate(places) if len(_siblings_of(rows[place])) < MAX_SIBLINGS]
        tests_of = np.array([owners[place] for place in places])
        for i, order in _rank(bag, places, [rows[place] for place in places], tests_of, asking):
            found = _siblings_of(rows[places[i]])
            seen = {sibling["assertion"] for sibling in found}
            for j in order:
                if len(found) == MAX_SIBLINGS:
                    break
                other = rows[places[j]]
                text = "\n".join(other["assertions"])
                if text and text not in seen:  # an open test has none
                    seen.add(text)
                    if places[j] not in described:
                        described[places[j]] = _describe(other, text)
                    found.append(described[places[j]])
    _add_retrieved(tests, splits, rows, owners, bag)
    for row in rows:
        _finish(row)


def _add_retrieved(
    tests: Sequence[MinedTest], splits: Sequence[str], rows: Sequence[Row], owners: Sequence[int], bag: WordBag
) -> None:
    """The nearest training task that no link joins to the task; for tasks without siblings."""
    asking = [place for place, row in enumerate(rows) if not _siblings_of(row)]
    training = [not any(splits) or splits[owner] == "train" for owner in owners]
    known = [place for place, row in enumerate(rows) if training[place] and row["assertions"]]
    if not asking or not known:
        return
    links = [frozenset(test.links) for test in tests]
    matrix = bag.matrix([*known, *asking])
    for start in range(0, len(asking), RETRIEVED_BLOCK):
        block = asking[start : start + RETRIEVED_BLOCK]
        score = _jaccard(matrix[len(known) + start : len(known) + start + len(block)], matrix[: len(known)])
        for place, nearest in zip(block, _find_best(score, RETRIEVED_DEPTH).tolist(), strict=True):
            strangers = (known[i] for i in nearest if links[owners[known[i]]].isdisjoint(links[owners[place]]))
            if (found := next(strangers, None)) is not None:
                other = rows[found]
                rows[place]["context"]["retrieved"] = [_describe(other, "\n".join(other["assertions"]))]


def _finish(row: Row) -> None:
    """Drop an empty part, and say whether the answer stands in the input."""
    context = row["context"]
    if not context["siblings"]:
        del context["siblings"]
    others = [item["assertion"] for item in (*context.get("siblings", ()), *context.get("retrieved", ()))]
    row["source"]["answer_in_input"] = find_answer(row["assertions"], row["test_method_masked"], others)


def _words(row: Row) -> list[str]:
    return WORD.findall(row["test_method_masked"].replace(PLACEHOLDER, " "))


def _siblings_of(row: Row) -> list[Sibling]:
    return row.setdefault("context", Context()).setdefault("siblings", [])


def _describe(row: Row, assertion: str) -> Sibling:
    source, words = row["source"], set(WORD.findall(assertion))
    sibling: Sibling = {
        "test_class": source["test_class"],
        "test_name": source["test_name"],
        "focal_name": source["focal_name"],
        "assertion": assertion,
    }
    mentioned = [text for text in row.get("context", {}).get("locals", []) if text.rpartition(" ")[2] in words]
    return {**sibling, "locals": mentioned} if mentioned else sibling


def _group(rows: Sequence[Row], key: str) -> list[list[int]]:
    """The places of the rows of one project and one outermost class of that kind, where there are several."""
    places: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, row in enumerate(rows):
        source = row["source"]
        places[source["project"], source[key].partition("$")[0]].append(place)  # type: ignore[literal-required]
    return [group for group in places.values() if len(group) > 1]


def _rank(
    bag: WordBag, places: Sequence[int], rows: Sequence[Row], owners: np.ndarray, asking: Sequence[int]
) -> Iterator[tuple[int, list[int]]]:
    """For each of the ``asking`` members of a group those of other tests, nearest first; of equals the nearest in the
    file. ``owners``: [len(places)] numbers of the tests."""
    if not asking:
        return
    matrix = bag.matrix(places)
    focal = np.unique([row["focal_method"] for row in rows], return_inverse=True)[1]
    for start in range(0, len(asking), BLOCK):
        block = np.array(asking[start : start + BLOCK])
        near = np.arange(max(0, block[0] - NEIGHBOURHOOD), min(block[-1] + NEIGHBOURHOOD, len(places)))
        score = _jaccard(matrix[block], matrix[near])
        score += SAME_FOCAL_BONUS * (focal[block, None] == focal[None, near])
        score -= 1e-6 * np.abs(block[:, None] - near[None, :]) / len(places)
        score[owners[block, None] == owners[None, near]] = -1.0
        best = _find_best(score, LOOKED_AT)
        others = (np.take_along_axis(score, best, axis=1) > -1.0).sum(axis=1).tolist()
        for i, nearest, kept in zip(block.tolist(), near[best].tolist(), others, strict=True):
            yield i, nearest[:kept]


def _jaccard(asked: csr_matrix, known: csr_matrix) -> np.ndarray:
    """[asked, known] of the rows of two matrices of one bag."""
    common = (asked @ known.T).toarray().astype(np.float64)
    sizes = [matrix.sum(axis=1).A1 for matrix in (asked, known)]
    return common / np.maximum(sizes[0][:, None] + sizes[1][None, :] - common, 1.0)


def _find_best(score: np.ndarray, depth: int) -> np.ndarray:
    """For each row of ``score`` the columns of its ``depth`` highest values, highest first, the first of equals."""
    depth = min(depth, score.shape[1])
    best = np.argpartition(-score, depth - 1, axis=1)[:, :depth]
    best.sort(axis=1)
    order = np.argsort(-np.take_along_axis(score, best, axis=1), axis=1, kind="stable")
    return np.take_along_axis(best, order, axis=1)
