"""What is judged: a System, which is the texts that it wrote and what was measured on it; and models as systems."""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil
import torch

from data.batches.collate import IGNORED, Batch
from data.distillation.file import file_sha256
from data.rows.context_choice import ContextChoice, describe
from data.rows.readers import Sample
from data.rows.tokenization import TaskEncoder
from evaluation.progress import show_progress
from evaluation.summary import Latency, SystemFacts
from models.decoding.generate import (
    GenerationOptions,
    Writer,
    generate_candidates,
    latency_per_assertion,
    length_sorted,
    pad_rows,
)
from models.exported.loading import Opened, open_model
from models.losses.critical_tokens import find_critical_tokens
from models.seq2seq.agreement import check_texts
from models.seq2seq.teacher_forced import TeacherForced, score_teacher_forced
from utils.metrics import FORCED_METRICS

CHECKED = 200  # tasks whose texts show whether the tokenizer fits


@dataclass
class System:
    """The texts of one system [n], its per-task values that need more than text, and facts about it.

    ``candidates`` [n][num_return_sequences], best first, or None. ``measured``: metric -> [n].
    ``reasons``: metric -> why it has no value. ``answer_places`` [n]: where the answer stands in its input.
    """

    title: str
    predictions: list[str]
    candidates: list[list[str]] | None = None
    measured: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    facts: SystemFacts = field(default_factory=SystemFacts)
    answer_places: list[str] | None = None


class PredictionStore:
    """Keeps texts as they are made, so that an interrupted evaluation continues where it stopped.

    One JSON object per line: first the key of what made them, then one line per batch, so that the tasks that are left
    form the same batches as without the interruption. With another key, or without ``resume``, the file starts empty.
    An incomplete last line is ignored.
    """

    def __init__(self, path: Path, key: str, resume: bool) -> None:
        self.texts: dict[int, list[str]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        good = self._read(path, key) if resume and path.is_file() else 0
        self._handle = open(path, "r+b" if good else "wb")  # noqa: SIM115
        self._handle.seek(good)
        self._handle.truncate()
        if not good:
            self._write({"key": key})

    def _read(self, path: Path, key: str) -> int:
        """Take in the complete lines; returns how many bytes they have."""
        good = 0
        with open(path, "rb") as handle:
            for line in handle:
                try:
                    row = json.loads(line)
                except ValueError:
                    break
                if not line.endswith(b"\n") or (good == 0 and row != {"key": key}):
                    break
                if good:
                    self.texts |= zip(row["indices"], row["texts"], strict=True)
                good += len(line)
        return good

    def _write(self, row: dict[str, str | list[int] | list[list[str]]]) -> None:
        self._handle.write(json.dumps(row).encode() + b"\n")
        self._handle.flush()

    def add(self, indices: list[int], texts: list[list[str]]) -> None:
        """Keep the texts of the tasks with these numbers."""
        self.texts |= zip(indices, texts, strict=True)
        self._write({"indices": indices, "texts": texts})

    def close(self) -> None:
        self._handle.close()


def compute_model_key(model: Opened, inputs: Sequence[Sequence[int]], options: GenerationOptions) -> str:
    """16 hex digits that change with anything that decides the texts: weights, tokenizer, input ids and options."""
    digest = hashlib.sha256(repr(options).encode())
    for file in sorted((*model.weights, *model.folder.glob("*.json"))):
        digest.update(f"{file.name} {file_sha256(file)}".encode())
    for ids in inputs:
        digest.update(np.asarray([len(ids), *ids], dtype="<i4").tobytes())
    return digest.hexdigest()[:16]


def make_target_batches(
    encoder: TaskEncoder,
    samples: Sequence[Sample],
    inputs: Sequence[Sequence[int]],
    options: GenerationOptions,
) -> Iterator[Batch]:
    """Batches of similar length for ``score_teacher_forced``; ``row_ids`` are places in ``samples``."""
    for indices in length_sorted([len(row) for row in inputs], options.batch_size):
        input_ids = pad_rows([inputs[i] for i in indices], encoder.tokenizer.pad_token_id)
        lengths = torch.tensor([len(inputs[i]) for i in indices])
        yield {
            "input_ids": input_ids,
            "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
            "labels": pad_rows([encoder.target(samples[i].target, options.max_output_len) for i in indices], IGNORED),
            "row_ids": torch.tensor(indices),
        }


def place_forced_metrics(forced: TeacherForced, n: int) -> dict[str, np.ndarray]:
    """FORCED_METRICS [n] in the order of the tasks; NaN for tasks that were not in a batch."""
    measured = {}
    for name in FORCED_METRICS:
        values = np.full(n, np.nan)
        values[forced.row_ids] = getattr(forced, name)
        measured[name] = values
    return measured


def measure_latency(writer: Writer, inputs: Sequence[Sequence[int]], options: GenerationOptions) -> dict[str, Latency]:
    """Device -> seconds per assertion, one at a time, on the model's device and on the CPU. Leaves the model there."""
    rows = inputs[:: max(1, len(inputs) // options.latency_samples)][: options.latency_samples]
    found: dict[str, Latency] = {}
    for device in dict.fromkeys([writer.device.type, "cpu"]):
        writer.to(device)
        seconds = latency_per_assertion(writer, rows, options)
        found[device] = {
            "median_seconds": float(np.median(seconds)),
            "p90_seconds": float(np.quantile(seconds, 0.9)),
            "n": len(seconds),
            "threads": torch.get_num_threads() if device == "cpu" else None,
        }
    return found


@dataclass(frozen=True)
class ModelRunner:
    """Makes systems of models: loads each, lets it write, and measures it.

    ``folder`` keeps the texts while they are made; with ``resume`` those of an interrupted evaluation are used.
    """

    options: GenerationOptions
    device: str
    folder: Path
    resume: bool
    context: ContextChoice

    def run(
        self,
        title: str,
        name: str,
        flag: str,
        samples: Sequence[Sample],
        probe: Callable[[Writer, TaskEncoder], None] | None = None,
    ) -> System:
        """The model ``name`` (a folder or hub name, given by ``flag``) on these samples.

        ``probe`` may measure more while the model is loaded.
        """
        process = psutil.Process()
        before = process.memory_info().rss
        on_gpu = self.device.startswith("cuda")
        if on_gpu:
            torch.cuda.reset_peak_memory_stats(self.device)
        model = open_model(name, flag, self.device, (self.options.max_input_len, self.options.max_output_len))
        writer = model.writer
        has_context = any(sample.context for sample in samples)
        shown = self.context.choose(writer.text_format, f"{flag} {name}", has_context, "--teacher_data")
        encoder = TaskEncoder(writer.tokenizer, shown)
        for note in check_texts(encoder, samples[:CHECKED], f"{flag} {name}"):
            print(f"warning: {note}", file=sys.stderr)
        layouts = [encoder.lay_out(sample, self.options.max_input_len) for sample in samples]
        inputs = [layout.ids for layout in layouts]

        file = self.folder / f"{title.replace(' ', '_')}.jsonl"
        store = PredictionStore(file, compute_model_key(model, inputs, self.options), self.resume)
        candidates = self._write_texts(title, writer, inputs, store)
        critical = find_critical_tokens(writer.tokenizer).mask(writer.vocab_size)
        batches = make_target_batches(encoder, samples, inputs, self.options)
        forced = score_teacher_forced(writer.logits, batches, critical, len(encoder.begin))
        facts: SystemFacts = {
            "path": str(name),
            "parameters": model.parameters,
            "size_bytes": model.size_bytes,
            "loss": forced.mean_loss if math.isfinite(forced.mean_loss) else None,
            "context": describe(shown),
            "inputs_cut": dict(Counter(piece for layout in layouts for piece in layout.cut).most_common()),
            "memory_bytes": {"cpu": max(0, process.memory_info().rss - before)},
        }
        if on_gpu:
            facts["memory_bytes"] = {"cuda": torch.cuda.max_memory_allocated(self.device)}
        if probe is not None:
            probe(writer, encoder)
        if self.options.latency_samples:
            facts["latency"] = measure_latency(writer, inputs, self.options)
        return System(
            title,
            [texts[0] for texts in candidates],
            candidates if self.options.num_return_sequences > 1 else None,
            place_forced_metrics(forced, len(samples)),
            facts=facts,
            answer_places=[
                encoder.place_answer(sample, layout) for sample, layout in zip(samples, layouts, strict=True)
            ],
        )

    def _write_texts(
        self,
        title: str,
        writer: Writer,
        inputs: Sequence[Sequence[int]],
        store: PredictionStore,
    ) -> list[list[str]]:
        """The texts of each input, best first: those that the store lacks are generated, and kept in it."""
        todo = [index for index in range(len(inputs)) if index not in store.texts]
        with show_progress(f"{title}: generating", len(todo)) as count:

            def keep(places: list[int], texts: list[list[str]]) -> None:
                store.add([todo[place] for place in places], texts)
                count(len(places))

            generate_candidates(
                writer,
                [inputs[index] for index in todo],
                self.options,
                on_batch=keep,
            )
        store.close()
        return [store.texts[index] for index in range(len(inputs))]
