"""Writes distillation data: raw rows with what the teacher would write and what it thinks at each target token.

The rows are worked on in chunks. Each process appends its chunks to a part file and notes, atomically, how far it is;
killed at any moment, it cuts the part back to that note and goes on, so no row is lost or doubled. The finished file
appears at once, rows in the order of the input.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from data.batches.collate import Collator
from data.dataset import AssertionDataset, Item
from data.distillation.file import VERSION, Header, publishing
from data.rows.readers import parse_json_line
from data.rows.tokenization import labels_hash, tokenizer_fingerprint
from models.decoding.generate import generate_predictions
from models.teacher.forward import TeacherPass, finite_sums, mean_logits, split_rows
from utils.atomic_io import atomic_writer, write_json
from utils.compress import try_pack
from utils.errors import DISK_ERRORS, UserError
from utils.signals import ignore_signals

CHUNK = 256
REPLACED = ("teacher_prediction", "teacher_logits_compressed", "compressed_logits", "labels_hash")


@dataclass
class WriterSettings:
    """How logits are stored and predictions generated; see the flags of the same names."""

    teacher_name: str
    encoding: str = "topk"
    topk: int = 64
    bits: int = 16
    batch_size: int = 16
    num_beams: int = 1
    workers: int = 0
    max_reject_rate: float = 0.1
    strict: bool = False


@dataclass
class _Note:
    """How far a process is: what counts of its part file. Kept with the running sum [0] and number [1] of the finite
    logits of each token, [2, V]."""

    chunks: int = 0
    bytes: int = 0
    rows: int = 0
    rejected: dict[str, int] = field(default_factory=dict)


def _part(output: Path, rank: int) -> Path:
    return output.with_name(f".{output.name}.part{rank}")


def _note_path(output: Path, rank: int) -> Path:
    return output.with_name(f".{output.name}.part{rank}.note.npz")


def _read_note(path: Path, vocab_size: int, identity: str) -> tuple[_Note, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            values = json.loads(str(stored["note"]))
            if values.pop("identity") == identity:
                return _Note(**values), stored["logit_sum"]
    except (OSError, ValueError, KeyError, EOFError):
        pass
    return _Note(), np.zeros((2, vocab_size))


def weights_fingerprint(model: PreTrainedModel) -> str:
    """16 hex digits that differ between two states of training: over up to 256 weights of each parameter."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        flat = parameter.detach().flatten()
        digest.update(name.encode())
        digest.update(flat[:: max(1, len(flat) // 256)].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


class DistillationWriter:
    """Writes one distillation file from ``dataset`` (opened without teacher logits). All processes call ``run``."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: Any,
        dataset: AssertionDataset,
        output: str | Path,
        settings: WriterSettings,
        *,
        rank: int = 0,
        world: int = 1,
        wait: Callable[[], None] = lambda: None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> None:
        self.model, self.tokenizer, self.dataset, self.settings = model, tokenizer, dataset, settings
        self.output, self.rank, self.world, self.wait, self.stopped = Path(output), rank, world, wait, stopped
        self.forward = TeacherPass(model)
        self.collator = Collator(tokenizer.pad_token_id, {})
        self.vocab_size = int(self.forward.head.weight.shape[0])
        self.chunks = [range(start, min(start + CHUNK, len(dataset))) for start in range(0, len(dataset), CHUNK)]
        # A note belongs to this work alone: same rows, same settings, same share.
        status = dataset.path.stat()
        work = [str(dataset.path.resolve()), status.st_size, status.st_mtime_ns, len(dataset), world]
        work += [settings.teacher_name, settings.encoding, settings.topk, settings.bits, settings.num_beams]
        work += [dataset.max_input_len, dataset.max_output_len, "java"]
        work += [tokenizer_fingerprint(tokenizer), weights_fingerprint(model)]
        self.identity = json.dumps(work)

    def run(self, progress: Callable[[int], None] | None = None) -> dict[str, Any] | None:
        """Write the file; returns counts by the main process's view, or None when ``stopped`` asked for an end.

        A file that is finished already is left as it is. Raises UserError for a full disk (what was written stays and
        is continued) and for too many bad rows.
        """
        if (finished := self._finished()) is not None:
            if self.rank == 0:
                self._remove_parts()
            return finished
        note, logit_sum = _read_note(_note_path(self.output, self.rank), self.vocab_size, self.identity)
        part = _part(self.output, self.rank)
        try:
            part.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "ab") as handle:
                handle.truncate(note.bytes)
                handle.seek(note.bytes)
                with self._pool() as pool:
                    mine = self.chunks[self.rank :: self.world]
                    if progress and note.chunks:
                        progress(sum(len(chunk) for chunk in mine[: note.chunks]))
                    for chunk in mine[note.chunks :]:
                        if self.stopped():
                            return None
                        self._one(chunk, handle, note, logit_sum, pool)
                        if progress:
                            progress(len(chunk))
            self.wait()
            result = self._merge() if self.rank == 0 else {}
        except BrokenProcessPool:
            raise UserError(
                f"{self.output}: a compressing process died, most often for lack of memory; the rows so far stand,"
                " start again with fewer --compression_workers"
            ) from None
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise UserError(
                f"{self.output}: cannot be written ({error.strerror}); the rows so far stand, make room and start again"
            ) from None
        self.wait()
        return result

    def _pool(self) -> Any:
        workers = self.settings.workers
        if not workers:
            return _InProcess()
        return ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=ignore_signals)

    def _one(self, chunk: range, handle: Any, note: _Note, logit_sum: np.ndarray, pool: Executor) -> None:
        """Teacher-forced pass, predictions and rows of one chunk; then the note."""
        entries = [self.dataset[row] for row in chunk]
        items = [entry for entry in entries if isinstance(entry, Item)]
        rejected = Counter(entry.reason for entry in entries if not isinstance(entry, Item))
        packed = self.teacher_forced(items, logit_sum, pool)
        predictions = (
            generate_predictions(
                self.model,
                self.tokenizer,
                [item.input_ids for item in items],
                batch_size=self.settings.batch_size,
                max_output_len=self.dataset.max_output_len,
                num_beams=self.settings.num_beams,
            )
            if items
            else []
        )
        for item, prediction in zip(items, predictions, strict=True):
            payload, problem = packed[item.row_id].result()
            if problem:
                rejected[problem] += 1
                continue
            row = parse_json_line(self.dataset.raw(item.row_id))
            kept = {key: value for key, value in row.items() if key not in REPLACED}
            kept |= {
                "teacher_prediction": prediction,
                "teacher_logits_compressed": payload,
                "labels_hash": labels_hash(item.labels),
            }
            line = json.dumps({"chunk": chunk.start}) + "\t" + json.dumps(kept, ensure_ascii=False) + "\n"
            handle.write(line.encode())
            note.rows += 1
        handle.flush()
        os.fsync(handle.fileno())
        note.chunks += 1
        note.bytes = handle.tell()
        note.rejected = dict(Counter(note.rejected) + rejected)
        self._check_rejected(note, chunk.stop)
        with atomic_writer(_note_path(self.output, self.rank), "wb") as target:
            values = vars(note) | {"identity": self.identity}
            np.savez(target, note=np.array(json.dumps(values)), logit_sum=logit_sum)

    def teacher_forced(self, items: list[Item], logit_sum: np.ndarray, pool: Any) -> dict[int, Future]:
        """The packed knowledge of each item by its row: one forward pass over each batch."""
        packed: dict[int, Future] = {}
        for batch_items in self._batches(items):
            batch = self.collator(batch_items)
            logits, hidden = self.forward(batch)
            if self.settings.encoding == "hidden" and not self.forward.checked:
                self.forward.check_head(logits, hidden)
                self.forward.checked = True
            counts = [len(item.labels) for item in batch_items]
            rows = split_rows(self.settings.encoding, logits, hidden, counts, self.settings.topk)
            if self.settings.encoding == "topk":
                logit_sum += finite_sums(logits).cpu().numpy()
            for item, row in zip(batch_items, rows, strict=True):
                packed[item.row_id] = pool.submit(try_pack, row, self.settings.bits)
        return packed

    def _check_rejected(self, note: _Note, seen: int) -> None:
        bad = sum(note.rejected.values())
        reasons = ", ".join(f"{count} x {reason}" for reason, count in Counter(note.rejected).most_common(3))
        if bad and self.settings.strict:
            raise UserError(f"{self.dataset.path}: {reasons} (--strict ends the run at the first bad row)")
        if bad > self.settings.max_reject_rate * max(seen // self.world, min(200, len(self.dataset))):
            raise UserError(
                f"{self.dataset.path}: {bad} bad rows so far ({reasons}), more than --max_reject_rate"
                f" {self.settings.max_reject_rate:g}; mend the file or raise the rate"
            )

    def _batches(self, items: list[Item]) -> Iterator[list[Item]]:
        # Padding costs most in the encoder; at the targets it never meets the vocabulary.
        ordered = sorted(items, key=lambda item: (len(item.input_ids), len(item.labels)))
        for start in range(0, len(ordered), self.settings.batch_size):
            yield ordered[start : start + self.settings.batch_size]

    def _merge(self) -> dict[str, Any]:
        """All parts to one file, in the order of the input."""
        paths = [_note_path(self.output, rank) for rank in range(self.world)]
        notes = [_read_note(path, self.vocab_size, self.identity) for path in paths]
        shared: dict[str, torch.Tensor] = {}
        if self.settings.encoding == "topk":
            shared["mean_logits"] = mean_logits(np.sum([total for _, total in notes], axis=0))
        elif self.settings.encoding == "hidden":
            shared["head"] = self.forward.head.weight.detach().cpu().to(torch.float16).contiguous()
        with publishing(shared, self.output) as digest, atomic_writer(self.output, "wb") as target:
            target.write(self._header(digest).line().encode())
            for line in _merged_lines([_part(self.output, rank) for rank in range(self.world)]):
                target.write(line)
        rejected: Counter = Counter()
        for note, _ in notes:
            rejected.update(note.rejected)
        counts = {
            "rows": sum(note.rows for note, _ in notes),
            "rejected": dict(rejected),
            "bytes": self.output.stat().st_size,
        }
        # The summary says that all is done: before it a new start puts the parts together once more.
        write_json(self._summary_path(), counts | {"identity": self.identity})
        self._remove_parts()
        return counts

    def _remove_parts(self) -> None:
        for rank in range(self.world):
            _part(self.output, rank).unlink(missing_ok=True)
            _note_path(self.output, rank).unlink(missing_ok=True)

    def _header(self, shared_sha256: str) -> Header:
        return Header(
            teacher=self.settings.teacher_name,
            tokenizer_fingerprint=tokenizer_fingerprint(self.tokenizer),
            vocab_size=self.vocab_size,
            encoding=self.settings.encoding,
            topk=min(self.settings.topk, self.vocab_size) if self.settings.encoding == "topk" else None,
            bits=self.settings.bits,
            max_output_len=self.dataset.max_output_len,
            shared_sha256=shared_sha256,
            teacher_parameters=sum(p.numel() for p in self.model.parameters()),
            version=VERSION,
        )

    def _summary_path(self) -> Path:
        return self.output.with_name(self.output.name + ".summary.json")

    def _finished(self) -> dict[str, Any] | None:
        """The counts of a file that this very work has finished before."""
        try:
            summary = json.loads(self._summary_path().read_text(encoding="utf-8"))
            same = summary.pop("identity") == self.identity and summary["bytes"] == self.output.stat().st_size
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return summary if same else None


def _merged_lines(parts: list[Path]) -> Iterator[bytes]:
    """The rows of all parts by the number of their chunk; each part is sorted already."""
    handles = [open(part, "rb") for part in parts]  # noqa: SIM115
    try:
        heads = [handle.readline() for handle in handles]

        def chunk_of(line: bytes) -> int:
            return json.loads(line.partition(b"\t")[0])["chunk"]

        while any(heads):
            rank = min((chunk_of(line), i) for i, line in enumerate(heads) if line)[1]
            yield heads[rank].partition(b"\t")[2]
            heads[rank] = handles[rank].readline()
    finally:
        for handle in handles:
            handle.close()


class _Done:
    def __init__(self, value: Any) -> None:
        self.value = value

    def result(self) -> Any:
        return self.value


class _InProcess:
    """An executor that works at once, in this process."""

    def __enter__(self) -> _InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def submit(self, function: Callable, *arguments: Any) -> Any:
        return _Done(function(*arguments))
