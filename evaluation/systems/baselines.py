"""Baselines that need no model: the nearest training test's assertion, and texts that assert nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from data.java.syntax import parse, text_of, walk
from data.java.tokens import tokenize
from data.rows.readers import PLACEHOLDER, Sample

TRIVIAL = "assertTrue(true);"
FALSE = "assertTrue(false);"
COIN = "if (System.nanoTime() / 1000 % 2 == 0) throw new AssertionError();"
NOTHING = "this.hashCode();"  # a call for a reference that makes none
CALLS = frozenset({"method_invocation", "object_creation_expression"})
CHUNK_CELLS = 20_000_000  # similarities in memory at a time: 80 MB


@dataclass(frozen=True)
class Retrieved:
    """For each task: the assertion of the nearest training task, their similarity (0 to 1), and its index."""

    predictions: list[str]
    similarity: np.ndarray
    indices: np.ndarray


def _tokens(sample: Sample) -> list[str]:
    return tokenize(sample.test.replace(PLACEHOLDER, " ") + "\n" + sample.focal)


def retrieve(training: Sequence[Sample], tasks: Sequence[Sample]) -> Retrieved:
    """Copy the assertion of the training task with the most similar input.

    Similarity is the Jaccard index of the sets of Java tokens of test and focal method, as in Yu et al., Automated
    Assertion Generation via Information Retrieval (ICSE 2022). Of equally similar tasks the first is taken. The
    assertion itself is not looked at, so this is what copying alone can reach.
    """
    from sklearn.feature_extraction.text import CountVectorizer

    counter = CountVectorizer(analyzer=_tokens, binary=True, dtype=np.float32)
    known = counter.fit_transform(training)
    # Tokens that no training task has cannot match, but they count in the union of the Jaccard index.
    asked = counter.transform(tasks)
    asked_sizes = np.array([len(set(_tokens(task))) for task in tasks], dtype=np.float32)
    known_sizes = np.asarray(known.sum(axis=1)).ravel()
    indices = np.empty(len(tasks), dtype=np.int64)
    similarity = np.empty(len(tasks))
    step = max(1, CHUNK_CELLS // max(1, len(training)))
    for start in range(0, len(tasks), step):
        rows = slice(start, start + step)
        common = (asked[rows] @ known.T).toarray()
        jaccard = common / np.maximum(asked_sizes[rows, None] + known_sizes[None, :] - common, 1.0)
        indices[rows] = jaccard.argmax(axis=1)
        similarity[rows] = jaccard.max(axis=1)
    return Retrieved([training[index].target for index in indices.tolist()], similarity, indices)


def strip_assertion(reference: str) -> str:
    """The first call that an assertion makes in its arguments, as a statement of its own, which asserts nothing."""
    source = f"class A {{ void m() {{\n{reference}\n}}}}".encode("utf-8", "replace")
    outermost = next((node for node in walk(parse(source)) if node.type in CALLS), None)
    arguments = outermost.child_by_field_name("arguments") if outermost is not None else None
    call = next((node for node in walk(arguments) if node.type in CALLS), None) if arguments is not None else None
    return f"{text_of(call, source)};" if call is not None else NOTHING


def count_leaks(training: Sequence[Sample], tasks: Sequence[Sample]) -> int:
    """How many tasks have exactly the tokens of a training task's input: the student has seen them."""
    seen = {tuple(_tokens(sample)) for sample in training}
    return sum(tuple(_tokens(task)) in seen for task in tasks)
