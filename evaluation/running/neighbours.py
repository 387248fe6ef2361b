"""Tests whose assertions may stand as siblings in a context, found without mining the whole project."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence

from data.mining.siblings import MAX_SIBLINGS
from data.mining.tasks import MinedTest

MAX_OTHER_FILES = 20


def mine_neighbours(
    file: str,
    own: Sequence[MinedTest],
    focal_classes: Collection[str],
    texts: Mapping[str, bytes],
    test_files: Collection[str],
    mine: Callable[[str], list[MinedTest]],
) -> list[MinedTest]:
    """The tests of a file, its ``own``, and where these are few those of other files that name a focal class.

    ``focal_classes``: binary names. ``texts``: the project's files; ``test_files``: those of them that may hold tests,
    of which those in the folder of ``file`` come first. ``mine`` makes the tests of a file.
    """
    found = list(own)
    if sum(len(test.rows) for test in found) < MAX_SIBLINGS:
        simple = {name.rpartition(".")[2].partition("$")[0] for name in focal_classes}
        named = re.compile(rf"\b(?:{'|'.join(map(re.escape, sorted(simple)))})\b".encode())
        folder = file.rpartition("/")[0]
        others = sorted(set(test_files) - {file}, key=lambda path: (path.rpartition("/")[0] != folder, path))
        for path in [path for path in others if named.search(texts[path])][:MAX_OTHER_FILES]:
            found += mine(path)
    return found
