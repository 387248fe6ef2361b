"""What is judged: the stored teacher, models, and baselines. Each becomes the texts it wrote and what was measured."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch

from data.batches.collate import IGNORED, Batch
from data.distillation.file import file_sha256
from data.rows.readers import Sample
from data.rows.tokenization import encode_source, encode_target
from models.decoding.generate import (
    Decoding,
    TeacherForced,
    generate_candidates,
    latency_per_assertion,
    length_sorted,
    pad_rows,
    teacher_forced,
)
from models.losses.critical_tokens import find_critical_tokens
from models.seq2seq.loading import load_model, load_tokenizer, model_folder, parameter_count
from utils.metrics import FORCED_METRICS


@dataclass(frozen=True)
class GenerationOptions:
    """How texts are made; ``latency_samples`` tasks are timed one by one (0: none)."""

    max_input_len: int = 512
    max_output_len: int = 128
    batch_size: int = 16
    num_beams: int = 1
    num_return_sequences: int = 1
    latency_samples: int = 20
    decoding: Decoding = "java"


@dataclass
class System:
    """The texts of one system [n], per-task values that need more than text, and facts about it.

    ``candidates`` [n][num_return_sequences], best first, or None. ``reasons``: metric -> why it has no value.
    """

    title: str
    predictions: list[str]
    candidates: list[list[str]] | None = None
    measured: dict[str, np.ndarray] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


class PredictionStore:
    """Texts as they are made, so that an interrupted evaluation goes on where it stopped.

    One JSON object a line: what made them, then a batch each, so that what is left forms the batches it would have
    formed. Another key, or no ``resume``, starts anew; a torn last line is ignored.
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
        """Take in the whole lines; how many bytes they have."""
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

    def _write(self, row: dict[str, Any]) -> None:
        self._handle.write(json.dumps(row).encode() + b"\n")
        self._handle.flush()

    def add(self, indices: list[int], texts: list[list[str]]) -> None:
        self.texts |= zip(indices, texts, strict=True)
        self._write({"indices": indices, "texts": texts})

    def close(self) -> None:
        self._handle.close()


def model_key(folder: Path, samples: Sequence[Sample], options: GenerationOptions) -> str:
    """16 hex digits over what decides the texts: weights, tokenizer, inputs and options."""
    digest = hashlib.sha256(repr(options).encode())
    for file in sorted((*folder.glob("*.safetensors"), *folder.glob("*.json"))):
        digest.update(f"{file.name} {file_sha256(file)}".encode())
    for sample in samples:
        digest.update(f"{sample.test}\0{sample.focal}\0".encode("utf-8", "replace"))
    return digest.hexdigest()[:16]


def target_batches(
    tokenizer: Any, samples: Sequence[Sample], inputs: Sequence[Sequence[int]], options: GenerationOptions
) -> Iterator[Batch]:
    """Batches for ``teacher_forced``, of similar length; ``row_ids`` are places in ``samples``."""
    for indices in length_sorted([len(row) for row in inputs], options.batch_size):
        input_ids = pad_rows([inputs[i] for i in indices], tokenizer.pad_token_id)
        lengths = torch.tensor([len(inputs[i]) for i in indices])
        yield {
            "input_ids": input_ids,
            "attention_mask": (torch.arange(input_ids.shape[1]) < lengths[:, None]).long(),
            "labels": pad_rows(
                [encode_target(tokenizer, samples[i].target, options.max_output_len) for i in indices], IGNORED
            ),
            "row_ids": torch.tensor(indices),
        }


def forced_metrics(forced: TeacherForced, n: int) -> dict[str, np.ndarray]:
    """``measured`` values [n] in the order of the tasks; tasks that were not in a batch have none."""
    measured = {}
    for name in FORCED_METRICS:
        values = np.full(n, np.nan)
        values[forced.row_ids] = getattr(forced, name)
        measured[name] = values
    return measured


def _latency(model: Any, tokenizer: Any, inputs: Sequence[Sequence[int]], options: GenerationOptions) -> dict[str, Any]:
    """Seconds an assertion, one at a time, on the model's device and on the CPU."""
    rows = inputs[:: max(1, len(inputs) // options.latency_samples)][: options.latency_samples]
    found = {}
    for device in dict.fromkeys([next(model.parameters()).device.type, "cpu"]):
        model.to(device)
        seconds = latency_per_assertion(
            model,
            tokenizer,
            rows,
            max_output_len=options.max_output_len,
            num_beams=options.num_beams,
            decoding=options.decoding,
        )
        found[device] = {
            "median_seconds": float(np.median(seconds)),
            "p90_seconds": float(np.quantile(seconds, 0.9)),
            "n": len(seconds),
            "threads": torch.get_num_threads() if device == "cpu" else None,
        }
    return found


def model_system(
    title: str,
    name: str,
    flag: str,
    samples: Sequence[Sample],
    options: GenerationOptions,
    device: str,
    folder: Path,
    resume: bool,
    progress: Any,
    probe: Any = None,
) -> System:
    """Load a model, let it write, time it, and show it the references.

    ``folder`` keeps the texts while they are made. ``progress(title, total)`` gives a tqdm-like bar. ``probe(model,
    tokenizer)`` may measure more while the model is loaded.
    """
    process = psutil.Process()
    before = process.memory_info().rss
    on_gpu = device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    tokenizer = load_tokenizer(name, flag)
    model: Any = load_model(name, flag=flag)
    model.to(device)
    path = model_folder(name, flag)
    inputs = [encode_source(tokenizer, sample.test, sample.focal, options.max_input_len) for sample in samples]

    store = PredictionStore(folder / f"{title.replace(' ', '_')}.jsonl", model_key(path, samples, options), resume)
    todo = [index for index in range(len(samples)) if index not in store.texts]
    with progress(f"{title}: generating", len(todo)) as bar:

        def keep(places: list[int], texts: list[list[str]]) -> None:
            store.add([todo[place] for place in places], texts)
            bar.update(len(places))

        generate_candidates(
            model,
            tokenizer,
            [inputs[index] for index in todo],
            max_output_len=options.max_output_len,
            batch_size=options.batch_size,
            num_beams=options.num_beams,
            num_return_sequences=options.num_return_sequences,
            decoding=options.decoding,
            on_batch=keep,
        )
    store.close()
    candidates = [store.texts[index] for index in range(len(samples))]

    critical = find_critical_tokens(tokenizer).mask(model.config.vocab_size)
    forced = teacher_forced(model, target_batches(tokenizer, samples, inputs, options), critical)
    facts: dict[str, Any] = {
        "path": str(name),
        "parameters": parameter_count(model),
        "size_bytes": sum(file.stat().st_size for file in path.glob("*.safetensors")),
        "loss": forced.mean_loss if math.isfinite(forced.mean_loss) else None,
        "memory_bytes": {"cpu": max(0, process.memory_info().rss - before)},
    }
    if on_gpu:
        facts["memory_bytes"] = {"cuda": torch.cuda.max_memory_allocated(device)}
    if probe is not None:
        probe(model, tokenizer)
    if options.latency_samples:
        facts["latency"] = _latency(model, tokenizer, inputs, options)
    return System(
        title,
        [texts[0] for texts in candidates],
        candidates if options.num_return_sequences > 1 else None,
        forced_metrics(forced, len(samples)),
        {},
        facts,
    )
