"""The tasks of an evaluation: the usable rows of a data file, and which of them belong together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from data.rows.files import require_rows
from data.rows.readers import RowError, Sample, is_header, parse_json_line, parse_sample, read_rows
from evaluation.request import EvaluationRequest
from utils.errors import UserError
from utils.sequences import take_evenly

HOW_TO_MAKE = "write it with train_codet5_assertions.py, or mine raw data with scripts/mine_assertions.py"


@dataclass
class Tasks:
    """``rows``: each sample's row number in the file, as in AssertionDataset; ``rejected``: reason -> how many rows."""

    samples: list[Sample]
    rows: list[int]
    rejected: Counter[str]

    def take(self, places: Sequence[int]) -> Tasks:
        """The tasks at these places."""
        return Tasks([self.samples[i] for i in places], [self.rows[i] for i in places], self.rejected)

    def first(self, limit: int | None) -> Tasks:
        """The first ``limit`` tasks (None: all)."""
        return Tasks(self.samples[:limit], self.rows[:limit], self.rejected)


def find_clusters(samples: Sequence[Sample]) -> list[str]:
    """The cluster of each task: its test class where the data name it, else the task itself."""
    return [
        f"{sample.source.get('project', '')}/{sample.source['test_class']}"
        if "test_class" in sample.source
        else f"task {index}"
        for index, sample in enumerate(samples)
    ]


def read_samples(path: str, flag: str, max_reject_rate: float) -> Tasks:
    """The usable rows of a file. Raises UserError where too many are not, or none is."""
    tasks = Tasks([], [], Counter())
    number = -1  # as in AssertionDataset: counted from the first line that is not a header
    for _, line in read_rows(require_rows(path, flag, HOW_TO_MAKE)):
        header = False
        try:
            row = parse_json_line(line)
            header = is_header(row)
            if not header:
                tasks.samples.append(parse_sample(row))
                tasks.rows.append(number + 1)
        except RowError as error:
            tasks.rejected[str(error)] += 1
        if number >= 0 or not header:
            number += 1
    rejected = sum(tasks.rejected.values())
    total = len(tasks.samples) + rejected
    if rejected > max_reject_rate * total:
        reason, count = tasks.rejected.most_common(1)[0]
        raise UserError(
            f"{flag} {path}: {rejected} of {total} rows are unusable, most often {reason} ({count});"
            " fix the file or raise --max_reject_rate"
        )
    return tasks


def read_tasks(request: EvaluationRequest) -> tuple[Tasks, str | None]:
    """The tasks of ``--teacher_data``, and why the teacher cannot be judged on them (None: it can).

    Without ``--teacher_model`` the stored predictions are the teacher's; rows that lack one are left out.
    """
    tasks = read_samples(request.teacher_data, "--teacher_data", request.max_reject_rate)
    if request.teacher_model:
        return tasks, None
    stored = [place for place, sample in enumerate(tasks.samples) if sample.teacher_prediction is not None]
    if stored:
        if len(stored) < len(tasks.samples):
            tasks.rejected["no teacher prediction"] += len(tasks.samples) - len(stored)
        return tasks.take(stored), None
    if not (request.student_model_path or request.baseline_model_path or request.train_data or request.predictions):
        raise UserError(
            f"--teacher_data {request.teacher_data}: nothing to judge; the rows hold no teacher_prediction:"
            " give --teacher_model, --student_model_path, --train_data or --predictions"
        )
    return tasks, "the data hold no teacher predictions and no --teacher_model was given"


def limit_classes(tasks: Tasks, limit: int) -> Tasks:
    """At most ``limit`` tasks of each test class, in the order of the file."""
    members: dict[str, list[int]] = {}
    for place, cluster in enumerate(find_clusters(tasks.samples)):
        members.setdefault(cluster, []).append(place)
    return tasks.take(sorted(place for places in members.values() for place in take_evenly(places, limit)))
