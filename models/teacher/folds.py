"""Cross-fitting: each training row gets the logits of a teacher that did not see it.

The rows are dealt out to K folds; what belongs together (a test class, a copied method) stays in one. The teacher of a
fold is a run of its own, trained on the other folds' rows. Its distillation data hold the rows of its fold alone, each
with its ``fold`` and, until the folds are merged, its place in the whole file.
"""

from __future__ import annotations

import filecmp
import hashlib
import heapq
import json
import shutil
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from config.defaults import TeacherConfig
from data.distillation.file import Header, load_shared, publishing, read_header, tokenizer_path
from data.mining.file_split import group_rows
from data.rows.readers import Json, RowError, is_header, parse_json_line, read_rows
from utils.atomic_io import atomic_directory, atomic_writer
from utils.errors import UserError

PLACE = "place_in_training_file"


@dataclass(frozen=True)
class Fold:
    """Fold ``number`` (1 to ``of``) of the run in ``run_folder``."""

    run_folder: Path
    number: int
    of: int

    @property
    def folder(self) -> Path:
        """Where its run is. Another number of folds has other folders."""
        return self.run_folder / "folds" / f"{self.number}_of_{self.of}"

    @property
    def seen(self) -> Path:
        """What its teacher trains on: the rows of the other folds."""
        return self.folder / "other_folds.jsonl"

    @property
    def unseen(self) -> Path:
        """The rows whose logits come from its teacher."""
        return self.folder / "this_fold.jsonl"

    @property
    def result(self) -> Path:
        """The distillation data of its rows."""
        return self.folder / "distillation_data_training.jsonl"


def deal_out(path: Path, folds: int) -> list[int]:
    """The fold (1 to ``folds``) of each row: large groups first, each to the fold with the fewest rows."""
    groups = group_rows(path)
    sizes = Counter(groups)
    if len(sizes) < folds:
        raise UserError(
            f"--cross_fit {folds}: {path} has only {len(sizes)} groups of rows that must stay together (a test class"
            " and what shares its methods); use fewer folds"
        )
    filled = dict.fromkeys(range(1, folds + 1), 0)
    chosen: dict[str, int] = {}
    for group in sorted(sizes, key=lambda name: (-sizes[name], hashlib.sha256(name.encode()).digest())):
        chosen[group] = min(filled, key=lambda number: (filled[number], number))
        filled[chosen[group]] += sizes[group]
    return [chosen[group] for group in groups]


def write_fold(fold: Fold, path: Path, limit: int | None) -> bool:
    """Write what the fold's teacher reads, of the training rows in ``path``; returns whether it was there already.

    limit: only so many rows of ``path`` get logits (--max_distill_samples).
    """
    new = [one.with_suffix(".new") for one in (fold.seen, fold.unseen)]
    with open(new[0], "wb") as seen, open(new[1], "wb") as unseen:
        place = 0
        for number, (_, line) in zip(deal_out(path, fold.of), read_rows(path), strict=True):
            line = line.rstrip(b"\r\n") + b"\n"
            try:
                row = parse_json_line(line)
            except RowError:
                row = None  # the teachers of the other folds count and report it
            if row is not None and is_header(row):
                continue
            place += 1
            if number != fold.number:
                seen.write(line)
            elif limit is None or place <= limit:
                marked = line if row is None else json.dumps({**row, "fold": number, PLACE: place}).encode() + b"\n"
                unseen.write(marked)
    same = True
    for file, wanted in zip(new, (fold.seen, fold.unseen), strict=True):
        # What a run reads keeps its time, by which a half-written file is known to be of the same rows.
        if wanted.is_file() and filecmp.cmp(file, wanted, shallow=False):
            file.unlink()
        else:
            file.replace(wanted)
            same = False
    return same


def config_of_fold(config: TeacherConfig, fold: Fold, validation: Path, tokenizer: str | None) -> TeacherConfig:
    """The run of a fold: all flags of the whole run, other rows, and the tokenizer of the whole run's teacher."""
    data = replace(config.data, train_data_path=str(fold.seen), val_data_path=str(validation))
    output = replace(config.output, output_dir=str(fold.folder), resume="auto", overwrite=False, push_to_hub=None)
    settings = replace(
        config.teacher_data, data_path=None, cross_fit=None, fold=None, distillation_dir=None, max_distill_samples=None
    )
    model = replace(config.model, tokenizer_name=tokenizer) if tokenizer else config.model
    return replace(config, data=data, output=output, teacher_data=settings, model=model)


def merge_folds(folds: Sequence[Fold], whole: Path, teacher: Path) -> int:
    """Join the folds' files to ``whole``, in the order of the training file; returns the number of rows.

    teacher: of the whole run, whose tokenizer all share. The header also names those of the folds. Raises UserError
    where two folds do not fit together.
    """
    files = [fold.result for fold in folds]
    headers = [_read(file) for file in files]
    for file, header in zip(files, headers, strict=True):
        if _form(header) != _form(headers[0]):
            raise UserError(
                f"{file}: its logits are stored otherwise than those of {files[0]}; run both folds with the same flags"
            )
    counts = [sum(1 for _ in _rows(file)) for file in files]
    shared = _mean_shared(files, headers, counts)
    with publishing(shared, whole) as digest, atomic_writer(whole, "wb") as target, ExitStack() as stack:
        header = replace(
            headers[0],
            teacher=str(teacher),
            shared_sha256=digest,
            fold_teachers=[each.teacher for each in headers],
        )
        target.write(header.line().encode())
        parts = [_rows(file) for file in files]
        for part in parts:
            stack.callback(part.close)
        for row in heapq.merge(*parts, key=lambda row: row[PLACE]):
            del row[PLACE]
            target.write((json.dumps(row, ensure_ascii=False) + "\n").encode())
    with atomic_directory(tokenizer_path(whole)) as folder:
        shutil.copytree(tokenizer_path(files[0]), folder, dirs_exist_ok=True)
    return sum(counts)


def _read(file: Path) -> Header:
    header = read_header(file) if file.is_file() else None
    if header is None:
        raise UserError(f"{file}: missing or without a header; run its fold again")
    return header


def _form(header: Header) -> Json:
    own = {"teacher": "", "shared_sha256": "", "teacher_parameters": 0}
    return replace(header, **own).to_json()  # type: ignore[arg-type]


def _rows(file: Path) -> Generator[Json]:
    for number, (_, line) in enumerate(read_rows(file)):
        if number:  # the first line is the header
            yield parse_json_line(line)


def _mean_shared(files: Sequence[Path], headers: Sequence[Header], counts: Sequence[int]) -> dict[str, Tensor]:
    """The shared tensors: the mean over the folds, weighted by their rows."""
    parts = [load_shared(file, header) for file, header in zip(files, headers, strict=True)]
    weights = torch.tensor(counts, dtype=torch.float64) / max(1, sum(counts))
    return {
        name: torch.einsum("f,f...->...", weights, torch.stack([part[name].double() for part in parts])).to(first.dtype)
        for name, first in parts[0].items()
    }
