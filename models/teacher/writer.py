"""Writes distillation data: raw rows with what the teacher would write and what it thinks at each target token.

1. Plan: the rows are cut into chunks, and the chunks are dealt out to the processes.
2. Write: each process appends its chunks to a part file of its own, and after each chunk notes how far it is. A
   process that was killed cuts its part back to the note and goes on, so no row is lost or written twice.
3. Encode: for the rows of a chunk, one forward pass gives the teacher's logits, which are encoded and packed.
4. Merge: the main process joins the parts in the order of the input. The finished file appears all at once.

The functions of this file stand in that order.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any, BinaryIO, TypedDict

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.batches.collate import Collator
from data.dataset import AssertionDataset, Item
from data.distillation.file import Header, publishing, tokenizer_path
from data.rows.readers import parse_json_line
from data.rows.tokenization import labels_hash, tokenizer_fingerprint
from models.decoding.generate import GenerationOptions, generate_predictions
from models.decoding.torch_writer import TorchWriter
from models.teacher.forward import TeacherPass, finite_sums, mean_logits, split_rows
from utils.atomic_io import atomic_directory, atomic_writer, write_json
from utils.compress import try_pack
from utils.errors import DISK_ERRORS, UserError
from utils.signals import ignore_signals

CHUNK = 256
# What a row may hold from an earlier teacher.
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


@dataclass(frozen=True)
class Processes:
    """The processes that write a file together: this one's number, how many there are, and how to wait for all."""

    rank: int = 0
    world: int = 1
    wait: Callable[[], None] = lambda: None


class Counts(TypedDict, total=False):
    """What a finished file holds: rows, left-out rows by reason, and bytes."""

    rows: int
    rejected: dict[str, int]
    bytes: int


# -- plan ------------------------------------------------------------------------------------------------------------


@dataclass
class Note:
    """How far a process is: the chunks that it has finished, and the bytes and rows of its part file that count."""

    chunks: int = 0
    bytes: int = 0
    rows: int = 0
    rejected: dict[str, int] = field(default_factory=dict)


class Part:
    """The part file of one process and its note. A note of other work (another ``identity``) is not used.

    The note's file also keeps ``logit_sum`` [2, V]: sum and number of the finite logits of each token.
    """

    def __init__(self, output: Path, rank: int, identity: str, vocab_size: int) -> None:
        self.path = output.with_name(f".{output.name}.part{rank}")
        self.note_path = output.with_name(f".{output.name}.part{rank}.note.npz")
        self.identity = identity
        self.note, self.logit_sum = Note(), np.zeros((2, vocab_size))
        try:
            with np.load(self.note_path, allow_pickle=False) as stored:
                values = json.loads(str(stored["note"]))
                if values.pop("identity") == identity:
                    self.note, self.logit_sum = Note(**values), stored["logit_sum"]
        except (OSError, ValueError, KeyError, EOFError):
            pass  # no note, or a damaged one: from the start

    @contextmanager
    def open(self) -> Iterator[BinaryIO]:
        """The part file, cut back to what the note counts, to append to."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as handle:
            handle.truncate(self.note.bytes)
            handle.seek(self.note.bytes)
            yield handle

    def save_note(self) -> None:
        with atomic_writer(self.note_path, "wb") as target:
            values = vars(self.note) | {"identity": self.identity}
            np.savez(target, note=np.array(json.dumps(values)), logit_sum=self.logit_sum)

    def remove(self) -> None:
        self.path.unlink(missing_ok=True)
        self.note_path.unlink(missing_ok=True)


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
        tokenizer: PreTrainedTokenizerBase,
        dataset: AssertionDataset,
        output: str | Path,
        settings: WriterSettings,
        processes: Processes | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.dataset = dataset
        self.output = Path(output)
        self.settings = settings
        self.processes = processes or Processes()
        self.forward = TeacherPass(model)
        self.collator = Collator(tokenizer.pad_token_id, {})
        self.vocab_size = int(self.forward.head.weight.shape[0])
        # Parts and finished files belong to this work alone: the same rows, settings, teacher and share.
        status = dataset.path.stat()
        work = [str(dataset.path.resolve()), status.st_size, status.st_mtime_ns, len(dataset), self.processes.world]
        work += [settings.teacher_name, settings.encoding, settings.topk, settings.bits, settings.num_beams]
        work += [dataset.max_input_len, dataset.max_output_len, "java"]
        work += [tokenizer_fingerprint(tokenizer), weights_fingerprint(model)]
        work += [dataset.encoder.format.to_json()]
        self.identity = json.dumps(work)

    def run(
        self, progress: Callable[[int], None] | None = None, stopped: Callable[[], bool] = lambda: False
    ) -> Counts | None:
        """Write the file; returns its counts (the main process) or nothing in them (others).

        progress: is called with the number of rows of each chunk that is done. stopped: asked before each chunk;
        where it says yes, ``run`` returns None. A file that is finished already is left as it is. Raises UserError
        for a full disk (what was written stays and is continued) and for too many bad rows.
        """
        main = self.processes.rank == 0
        if (finished := self.read_counts()) is not None:
            if main:
                self._remove_parts()
            return finished
        try:
            if not self._write_part(progress, stopped):
                return None
            self.processes.wait()
            counts = self.merge() if main else Counts()
        except BrokenProcessPool:
            raise UserError(
                f"{self.output}: a compressing process died, most often for lack of memory; the rows written so far"
                " are kept, start again with fewer --compression_workers"
            ) from None
        except OSError as error:
            if error.errno not in DISK_ERRORS:
                raise
            raise UserError(
                f"{self.output}: cannot be written ({error.strerror}); the rows written so far are kept, make room and"
                " start again"
            ) from None
        self.processes.wait()
        return counts

    def read_counts(self) -> Counts | None:
        """The counts of a file that this very work has finished before; None where it has not."""
        try:
            summary = json.loads(self._summary_path().read_text(encoding="utf-8"))
            same = summary.pop("identity") == self.identity and summary["bytes"] == self.output.stat().st_size
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return None
        return summary if same else None

    def _summary_path(self) -> Path:
        return self.output.with_name(self.output.name + ".summary.json")

    def _parts(self) -> list[Part]:
        return [Part(self.output, rank, self.identity, self.vocab_size) for rank in range(self.processes.world)]

    def _remove_parts(self) -> None:
        for part in self._parts():
            part.remove()

    # -- write -------------------------------------------------------------------------------------------------------

    def _write_part(self, progress: Callable[[int], None] | None, stopped: Callable[[], bool]) -> bool:
        """Write this process's chunks from its note on; False where ``stopped`` asked for an end."""
        rank, world = self.processes.rank, self.processes.world
        part = Part(self.output, rank, self.identity, self.vocab_size)
        rows = len(self.dataset)
        mine = [range(start, min(start + CHUNK, rows)) for start in range(0, rows, CHUNK)][rank::world]
        with part.open() as handle, self.open_pool() as pool:
            if progress and part.note.chunks:
                progress(sum(len(chunk) for chunk in mine[: part.note.chunks]))
            for chunk in mine[part.note.chunks :]:
                if stopped():
                    return False
                self.write_chunk(chunk, part, handle, pool)
                if progress:
                    progress(len(chunk))
        return True

    def open_pool(self) -> Executor:
        """What packs the logits: ``--compression_workers`` processes, or this process itself where there are none."""
        if not self.settings.workers:
            return InProcess()
        return ProcessPoolExecutor(self.settings.workers, mp_context=get_context("spawn"), initializer=ignore_signals)

    def write_chunk(self, chunk: range, part: Part, handle: BinaryIO, pool: Executor) -> None:
        """The encoded logits, the predictions and the rows of one chunk; then the note."""
        entries = [self.dataset[row] for row in chunk]
        items = [entry for entry in entries if isinstance(entry, Item)]
        rejected = Counter(entry.reason for entry in entries if not isinstance(entry, Item))
        packed = self.encode(items, part.logit_sum, pool)
        for item, prediction in zip(items, self._predict(items), strict=True):
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
            part.note.rows += 1
        handle.flush()
        os.fsync(handle.fileno())
        part.note.chunks += 1
        part.note.bytes = handle.tell()
        part.note.rejected = dict(Counter(part.note.rejected) + rejected)
        self._check_rejected(part.note, chunk.stop)
        part.save_note()

    def _predict(self, items: list[Item]) -> list[str]:
        if not items:
            return []
        options = GenerationOptions(
            max_output_len=self.dataset.max_output_len,
            batch_size=self.settings.batch_size,
            num_beams=self.settings.num_beams,
        )
        return generate_predictions(
            TorchWriter(self.model, self.tokenizer), [item.input_ids for item in items], options
        )

    def _check_rejected(self, note: Note, seen: int) -> None:
        bad = sum(note.rejected.values())
        reasons = ", ".join(f"{count} x {reason}" for reason, count in Counter(note.rejected).most_common(3))
        if bad and self.settings.strict:
            raise UserError(f"{self.dataset.path}: {reasons} (--strict ends the run at the first bad row)")
        if bad > self.settings.max_reject_rate * max(seen // self.processes.world, min(200, len(self.dataset))):
            raise UserError(
                f"{self.dataset.path}: {bad} bad rows so far ({reasons}), more than --max_reject_rate"
                f" {self.settings.max_reject_rate:g}; fix the file or raise the rate"
            )

    # -- encode ------------------------------------------------------------------------------------------------------

    def encode(self, items: list[Item], logit_sum: np.ndarray, pool: Executor) -> dict[int, Future]:
        """The packed logits of each item by its row: one forward pass for each batch.

        With top-k the batch's finite logits are added to ``logit_sum`` [2, V].
        """
        packed: dict[int, Future] = {}
        for batch_items in self.batches(items):
            logits, hidden = self.forward(self.collator(batch_items))
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

    def batches(self, items: list[Item]) -> Iterator[list[Item]]:
        """The items of a chunk, those of like length together."""
        # Padding costs most in the encoder; padded targets never reach the output head.
        ordered = sorted(items, key=lambda item: (len(item.input_ids), len(item.labels)))
        for start in range(0, len(ordered), self.settings.batch_size):
            yield ordered[start : start + self.settings.batch_size]

    # -- merge -------------------------------------------------------------------------------------------------------

    def merge(self) -> Counts:
        """Join all parts to one file, in the order of the input."""
        parts = self._parts()
        shared: dict[str, torch.Tensor] = {}
        if self.settings.encoding == "topk":
            shared["mean_logits"] = mean_logits(np.sum([part.logit_sum for part in parts], axis=0))
        elif self.settings.encoding == "hidden":
            shared["head"] = self.forward.head.weight.detach().cpu().to(torch.float16).contiguous()
        with atomic_directory(tokenizer_path(self.output)) as folder:
            self.tokenizer.save_pretrained(folder)
        with publishing(shared, self.output) as digest, atomic_writer(self.output, "wb") as target:
            target.write(self._header(digest).line().encode())
            for line in merge_lines([part.path for part in parts]):
                target.write(line)
        rejected: Counter[str] = Counter()
        for part in parts:
            rejected.update(part.note.rejected)
        counts: Counts = {
            "rows": sum(part.note.rows for part in parts),
            "rejected": dict(rejected),
            "bytes": self.output.stat().st_size,
        }
        # The summary says that all is done. A process that is killed before it is there merges the parts again.
        write_json(self._summary_path(), {**counts, "identity": self.identity})
        self._remove_parts()
        return counts

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
            text_format=self.dataset.encoder.format,
        )


def merge_lines(parts: list[Path]) -> Iterator[bytes]:
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


class InProcess(Executor):
    """An executor that works at once, in this process."""

    def submit(self, function: Callable, /, *arguments: Any, **options: Any) -> Future:
        future: Future = Future()
        future.set_result(function(*arguments, **options))
        return future
