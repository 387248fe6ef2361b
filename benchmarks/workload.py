"""What the benchmarks work on: mined rows, a tokenizer of a given size, and distillation files with made-up logits."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.measuring import ROOT
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

VOCABULARY = 32_100
KEPT = ROOT / "build" / "benchmarks"


def mine_sample() -> Path:
    """Raw rows of the sample corpus, through the real miner; made once."""
    raw = KEPT / "sample" / "raw.jsonl"
    if not raw.is_file():
        raw.parent.mkdir(parents=True, exist_ok=True)
        commands = (
            ["data/sample_corpus.py", "--output", raw.parent / "project", "--seed", "1"],
            ["scripts/mine_assertions.py", "--source", raw.parent / "project", "--output", raw],
        )
        for command in commands:
            subprocess.run([sys.executable, *map(str, command)], cwd=ROOT, check=True, capture_output=True)
    return raw


def read_mined_rows(data: Path | None, count: int) -> list[dict[str, Any]]:
    """``count`` usable raw rows, evenly from the file (None: the sample corpus)."""
    from data.rows.index import RowReader, open_index
    from data.rows.readers import RowError, parse_json_line, parse_sample

    if data is not None and not data.is_file():
        raise UserError(f"--data {data} does not exist; make one with scripts/mine_assertions.py")
    index = open_index(data or mine_sample())
    read, rows = RowReader(index), []
    for number in range(0, len(index), max(1, len(index) // count)):
        row = parse_json_line(read(number))
        try:
            parse_sample(row)
        except RowError:
            continue
        rows.append(row)
    return rows[:count]


def make_rows(count: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Raw rows of about a mined row's length, made up."""
    chance = random.Random(seed)
    for number in range(count):
        body = " ".join(f"box.add({number + i});" for i in range(chance.randrange(8, 40)))
        yield {
            "focal_method": "public int getCount(int... xs) { int n = 0; for (int x : xs) { n += x; } return n; }",
            "test_method_masked": f"@Test public void adds{number}() {{ {body} <AssertPlaceHolder> }}",
            "assertions": [f"assertEquals({number % 97}, box.getCount({number % 13}, 2));"],
        }


def build_tokenizer(texts: Iterable[str], name: str, vocabulary: int = VOCABULARY) -> PreTrainedTokenizerBase:
    """A byte-level BPE trained on the texts, filled up to ``vocabulary`` ids; kept under build/."""
    from models.seq2seq.loading import load_tokenizer, train_tokenizer

    folder = KEPT / f"tokenizer_{name}_{vocabulary}"
    if not (folder / "tokenizer_config.json").is_file():
        tokenizer = train_tokenizer(texts, vocabulary)
        tokenizer.add_tokens([f"<unused{i}>" for i in range(vocabulary - len(tokenizer))])
        tokenizer.save_pretrained(folder)
    return load_tokenizer(str(folder))


def list_texts(rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield row["test_method_masked"]
        yield row["focal_method"]
        yield from row["assertions"]


@dataclass(frozen=True)
class Workload:
    """Mined rows, and a tokenizer for a scratch model of ``size``."""

    data: str
    rows: list[dict[str, Any]]
    size: str
    vocabulary: int
    tokenizer: PreTrainedTokenizerBase

    def build_model(self, dropout_rate: float = 0.0) -> PreTrainedModel:
        from models.seq2seq.loading import build_scratch

        return build_scratch(self.size, self.tokenizer, dropout_rate=dropout_rate, attention="sdpa", seed=0)


def prepare_workload(args: Namespace) -> Workload:
    """As the options ``data``, ``model`` (scratch:SIZE) and ``toy`` ask."""
    from models.seq2seq.loading import scratch_size

    size = scratch_size(args.model)
    rows = read_mined_rows(args.data, 200 if args.toy else 6000)
    vocabulary = VOCABULARY if size == "base" else 2048
    tokenizer = build_tokenizer(list_texts(rows), args.data.stem if args.data else "sample", vocabulary)
    return Workload(args.data.name if args.data else "sample corpus", rows, size, vocabulary, tokenizer)


def describe_lengths(sources: Iterable[Sequence[int]], targets: Iterable[Sequence[int]]) -> dict[str, float]:
    """Mean numbers of tokens."""
    import numpy as np

    named = (("source_tokens", sources), ("target_tokens", targets))
    return {name: round(float(np.mean([len(ids) for ids in rows])), 1) for name, rows in named}


def write_distillation_file(
    path: Path,
    rows: Iterable[dict[str, Any]],
    tokenizer: PreTrainedTokenizerBase,
    vocabulary: int,
    *,
    k: int = 64,
    max_output_len: int = 128,
) -> None:
    """Rows with the top-k logits of a random teacher: their size and cost are real, their values are not."""
    import torch
    from safetensors.torch import save_file

    from data.distillation.file import Header, file_sha256, shared_path
    from data.rows.tokenization import TaskEncoder, labels_hash, tokenizer_fingerprint
    from models.teacher.forward import encode_topk
    from utils.compress import TopKRows, pack

    generator = torch.Generator().manual_seed(0)
    pool = encode_topk(torch.randn(512, vocabulary, generator=generator) * 3, k)
    save_file({"mean_logits": torch.zeros(vocabulary)}, shared_path(path))
    header = Header(
        "made-up",
        tokenizer_fingerprint(tokenizer),
        vocabulary,
        "topk",
        min(k, vocabulary),
        16,
        max_output_len,
        file_sha256(shared_path(path)),
        0,
    )
    payloads: dict[tuple[int, int], str] = {}
    encoder = TaskEncoder(tokenizer, header.text_format)
    with open(path, "w", encoding="utf-8") as handle:
        handle.write(header.line())
        for number, row in enumerate(rows):
            target = "\n".join(row["assertions"])
            labels = encoder.target(target, max_output_len)
            key = (len(labels), number % 64)
            if key not in payloads:
                ids, values, mass = (part[number % 64 : number % 64 + len(labels)].numpy() for part in pool)
                payloads[key] = pack(TopKRows(ids, values, mass, vocabulary))
            row = row | {
                "teacher_prediction": target,
                "teacher_logits_compressed": payloads[key],
                "labels_hash": labels_hash(labels),
            }
            handle.write(json.dumps(row) + "\n")


def parse_student_config(**flags: Any) -> Any:
    """The student's configuration, from flags as on the command line."""
    from config.command_line import parse_config
    from config.defaults import StudentConfig

    argv: list[str] = []
    for name, value in flags.items():
        values: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
        argv += [f"--{name}", *map(str, values)]
    return parse_config(StudentConfig, argv, description="benchmark")
