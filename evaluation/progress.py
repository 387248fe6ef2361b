"""Progress of an evaluation: a bar on a terminal, one line per stage elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def show_progress(stage: str, total: int) -> Iterator[Callable[[int], object]]:
    """Show a stage of ``total`` tasks; yields the function that counts N more tasks as done."""
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(total=total, desc=stage, unit="task", file=sys.stderr) as bar:
            yield bar.update
    else:
        print(f"{stage} ({total} tasks)", file=sys.stderr, flush=True)
        yield lambda count: None
