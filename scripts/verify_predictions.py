#!/usr/bin/env python
"""More targets for a student: what a model writes for training tasks, and what running it has shown to be good.

    python scripts/verify_predictions.py --data data/training.jsonl --project path/to/project \\
        --teacher teacher_models/codet5_teacher/final_model --output_dir data/verified

For each task the writer (the teacher, or a student given as --writer) gives beams and samples; --writer pool gives
copies of other tests and templates, as suggestions rank them. Each distinct one is compiled and run in its test. One
that passes and notices a mutant becomes a row of its own, marked ``verified``, behind the row that it belongs to. Then
the teacher's logits are stored for all rows. A second call goes on where the first stopped. yields.json says what came
of it and what it cost.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config.defaults import DataConfig, help_of
from evaluation.execution_settings import ExecutionSettings, Sandbox
from utils.arguments import ArgumentParser
from utils.errors import UserError, run_main

if TYPE_CHECKING:
    from data.dataset import AssertionDataset, Item
    from evaluation.running.execution import ProjectExecutor
    from evaluation.running.outcomes import Outcome
    from models.decoding.torch_writer import TorchWriter

Verdict = dict[str, Any]
CHUNK = 16  # tasks between two notes of how far the work is
VERDICTS, ROWS, RESULT, YIELDS = "verdicts.jsonl", "rows.jsonl", "distillation_data_training.jsonl", "yields.json"
REQUEST = "request.json"
FORMERLY = {"decoding": "java"}  # flags that older folders do not name, and what those were made with
POOL = "pool"  # as --writer


def build_parser() -> argparse.ArgumentParser:
    parser = ArgumentParser(__doc__.split("\n\n")[0], defaults=True)
    add = parser.add_argument
    add("--data", type=Path, required=True, help="training rows as scripts/mine_assertions.py writes them")
    add("--project", type=Path, required=True, help="the project that they were mined from")
    add("--teacher", required=True, help="folder of the model whose logits are stored")
    add("--writer", help="folder of the model that writes, or pool: what stands around the test (None: the teacher)")
    add("--output_dir", type=Path, required=True, help="results; a second call goes on there")
    add("--limit", type=int, help="ask the writer for the first N rows (None: all)")
    add(
        "--num_beams",
        type=int,
        default=8,
        help="beams for each task, all tried; a pool gives as many texts as beams and samples",
    )
    add("--samples", type=int, default=8, help="samples for each task beside the beams")
    add("--temperature", type=float, default=1.0, help="of the samples")
    add("--decoding", choices=("free", "java", "names"), default="names", help="rules that a model's texts keep to")
    add("--max_new_targets", type=int, default=4, help="at most so many for each task, the writer's first")
    add("--max_input_len", type=int, default=DataConfig.max_input_len, help=help_of(DataConfig, "max_input_len"))
    add("--max_output_len", type=int, default=DataConfig.max_output_len, help=help_of(DataConfig, "max_output_len"))
    add("--topk", type=int, default=64, help="logits stored for each token")
    add("--class_path", help="as for evaluate_assertions.py")
    add("--jdk_home", help="as there")
    add("--sandbox", choices=get_args(Sandbox), default=ExecutionSettings.sandbox, help="as there")
    add("--timeout", type=float, default=ExecutionSettings.timeout_s, help="seconds that a test may take")
    add("--workers", type=int, default=os.cpu_count() or 1, help="JVMs")
    add("--seed", type=int, default=42, help="of the samples")
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    return parser


def check(args: argparse.Namespace) -> None:
    """Refuse numbers out of range, and a folder that holds the work of other flags; raises UserError."""
    for name, least in (("num_beams", 1), ("samples", 0), ("max_new_targets", 1), ("topk", 1), ("workers", 1)):
        if getattr(args, name) < least:
            raise UserError(f"--{name} {getattr(args, name)}: must be {least} or more")
    if not args.temperature > 0 or not args.timeout > 0:
        raise UserError("--temperature and --timeout must be above 0")
    if args.limit is not None and args.limit < 1:
        raise UserError(f"--limit {args.limit}: must be 1 or more")
    from utils.atomic_io import write_json

    free = {"output_dir", "device", "workers", "topk", "max_new_targets"}
    if args.writer == POOL:
        free |= {"decoding"}  # of a model's texts
    asked = {name: str(value) for name, value in vars(args).items() if name not in free}
    args.output_dir.mkdir(parents=True, exist_ok=True)
    kept = args.output_dir / REQUEST
    begun = (args.output_dir / VERDICTS).is_file() and kept.is_file()
    known = FORMERLY | json.loads(kept.read_text(encoding="utf-8")) if begun else asked
    if any(known.get(name) != value for name, value in asked.items()):
        raise UserError(f"--output_dir {args.output_dir}: holds the work of other flags ({kept}); name another folder")
    write_json(kept, asked)


def write_texts(writer: TorchWriter, items: Sequence[Item], args: argparse.Namespace, seed: int) -> list[list[str]]:
    """The distinct texts for each item that differ from its target: beams first, best first, then samples."""
    import torch

    from models.decoding.generate import GenerationOptions, generate_candidates

    rows = [item.input_ids for item in items]
    options = GenerationOptions(
        max_input_len=args.max_input_len,
        max_output_len=args.max_output_len,
        batch_size=CHUNK,
        num_beams=args.num_beams,
        num_return_sequences=args.num_beams,
        decoding=args.decoding,
    )
    found = generate_candidates(writer, rows, options)
    if args.samples:
        torch.manual_seed(seed)
        drawn = writer.sample(rows, options, args.samples, args.temperature)
        found = [beams + samples for beams, samples in zip(found, drawn, strict=True)]
    return [_without_repetition(item, own) for item, own in zip(items, found, strict=True)]


def list_pool(items: Sequence[Item], args: argparse.Namespace) -> list[list[str]]:
    """What stands around each item: as many ranked copies of other tests and templates as a model would write."""
    from evaluation.suggesting.pool import write_around

    most = args.num_beams + args.samples
    return [_without_repetition(item, write_around(item.sample))[:most] for item in items]


def _without_repetition(item: Item, texts: Sequence[str]) -> list[str]:
    """The first of each like, where it differs from the target."""
    distinct = {_spaced(text): text for text in reversed(texts)}
    unlike = {"", _spaced(item.sample.target)}
    kept = [text for text in texts if distinct.get(_spaced(text)) is text]
    return [text for text in kept if _spaced(text) not in unlike]


def _spaced(text: str) -> str:
    return " ".join(text.split())


def judge(executor: ProjectExecutor, items: Sequence[Item], texts: Sequence[Sequence[str]]) -> list[list[Verdict]]:
    """What became of each text: its status, and whether it compiles, passes and notices a mutant."""
    flat = [(item.sample.source, text) for item, own in zip(items, texts, strict=True) for text in own]
    outcomes = iter(executor.execute([task for task, _ in flat], [text for _, text in flat]))

    def verdict(text: str, outcome: Outcome) -> Verdict:
        verified = bool(outcome.passed and outcome.nontrivial)
        known = {"text": text, "status": outcome.status, "compiled": outcome.compiled, "passed": outcome.passed}
        return {**known, "verified": verified}

    return [[verdict(text, next(outcomes)) for text in own] for own in texts]


def read_verdicts(path: Path) -> dict[int, dict[str, Any]]:
    """What is known already, by row; a line that was cut off counts as not written, and is removed."""
    found: dict[int, dict[str, Any]] = {}
    if path.is_file():
        whole = path.read_bytes().rpartition(b"\n")
        with open(path, "ab") as handle:
            handle.truncate(len(whole[0]) + len(whole[1]))
        for line in whole[0].splitlines():
            entry = json.loads(line)
            found[entry["row"]] = entry
    return found


def write_and_judge(args: argparse.Namespace, dataset: AssertionDataset, writer: TorchWriter | None) -> None:
    """Append a line for each row to verdicts.jsonl, from the first that has none."""
    from data.dataset import Item
    from evaluation.progress import show_progress
    from evaluation.running.class_path import resolve_class_path
    from evaluation.running.execution import ProjectExecutor
    from evaluation.running.jdk import find_jdk

    path = args.output_dir / VERDICTS
    known = read_verdicts(path)
    count = min(len(dataset), args.limit or len(dataset))
    chunks = [range(start, min(start + CHUNK, count)) for start in range(0, count, CHUNK)]
    left = [chunk for chunk in chunks if chunk[-1] not in known]
    if not left:
        return
    probe = [item for row in range(min(count, 100)) if isinstance(item := dataset[row], Item)]
    if not any("test_file" in item.sample.source for item in probe):
        raise UserError(
            f"--data {args.data}: the rows do not say where they come from; mine them with scripts/mine_assertions.py"
        )
    if writer is None and not any(item.sample.context for item in probe):
        raise UserError(
            f"--writer {POOL}: the rows of {args.data} have no context; mine them again with scripts/mine_assertions.py"
        )
    settings = ExecutionSettings(args.workers, args.timeout, args.jdk_home, sandbox=args.sandbox)
    class_path = resolve_class_path(args.project, args.class_path, find_jdk(args.jdk_home))
    with (
        ProjectExecutor(args.project, class_path, settings) as executor,
        open(path, "a", encoding="utf-8") as target,
        show_progress("writing and running", sum(map(len, left))) as advance,
    ):
        for chunk in left:
            items = [item for row in chunk if isinstance(item := dataset[row], Item)]
            started = time.monotonic()
            if items and writer:
                texts = write_texts(writer, items, args, args.seed + chunk.start)
            else:
                texts = list_pool(items, args)
            written = time.monotonic()
            verdicts = judge(executor, items, texts)
            seconds = {"writing": written - started, "running": time.monotonic() - written}
            by_row = {item.row_id: verdict for item, verdict in zip(items, verdicts, strict=True)}
            lines = [
                {"row": row, "usable": row in by_row, "verdicts": by_row.get(row, [])}
                | {name: value / len(chunk) for name, value in seconds.items()}
                for row in chunk
            ]
            target.write("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
            target.flush()
            os.fsync(target.fileno())
            advance(len(chunk))


def write_rows(args: argparse.Namespace, dataset: AssertionDataset) -> dict[str, Any]:
    """rows.jsonl: each row, and behind it those of its verified texts; returns the table of yields."""
    from data.distillation.predictions import VERIFIED
    from data.rows.readers import RowError, parse_json_line
    from utils.atomic_io import atomic_writer

    known = read_verdicts(args.output_dir / VERDICTS)
    counts: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    with atomic_writer(args.output_dir / f".{ROWS}.new", "wb") as target:
        for row in range(len(dataset)):
            line = dataset.raw(row)
            target.write(line.rstrip(b"\r\n") + b"\n")
            entry = known.get(row)
            if entry is None:
                continue
            counts["tasks"] += 1
            seconds.update({name: entry[name] for name in ("writing", "running")})
            verdicts = entry["verdicts"]
            counts["distinct texts"] += len(verdicts)
            for name in ("compiled", "passed", "verified"):
                counts[name] += sum(bool(verdict[name]) for verdict in verdicts)
            counts["dropped"] += sum(verdict["status"] == "dropped" for verdict in verdicts)
            new = [verdict["text"] for verdict in verdicts if verdict["verified"]][: args.max_new_targets]
            try:
                values = parse_json_line(line)
            except RowError:
                continue
            for text in new:
                made = {**values, "assertions": [text], VERIFIED: True}
                target.write((json.dumps(made, ensure_ascii=False) + "\n").encode())
            counts["new rows"] += len(new)
            counts["tasks with a new row"] += bool(new)
    _replace_if_other(args.output_dir / f".{ROWS}.new", args.output_dir / ROWS)
    total = sum(seconds.values())
    return {
        **{name: counts[name] for name in ("tasks", "distinct texts", "dropped", "compiled", "passed", "verified")},
        **{name: counts[name] for name in ("tasks with a new row", "new rows")},
        "seconds": dict(seconds),
        "seconds a new row": total / counts["new rows"] if counts["new rows"] else None,
    }


def _replace_if_other(new: Path, old: Path) -> None:
    """A file that is the same keeps its time, by which half-written distillation data are known to belong to it."""
    import filecmp

    if old.is_file() and filecmp.cmp(new, old, shallow=False):
        new.unlink()
    else:
        new.replace(old)


def main(argv: list[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    check(args)
    from data.dataset import AssertionDataset
    from data.rows.tokenization import TextFormat
    from models.decoding.torch_writer import TorchWriter
    from models.seq2seq.loading import load_model, load_tokenizer
    from models.teacher.writer import DistillationWriter, WriterSettings
    from utils.atomic_io import write_json
    from utils.device import resolve_device
    from utils.signals import exit_on_signal

    exit_on_signal(f"continue with --output_dir {args.output_dir}")
    device = resolve_device(args.device)

    def open_model(name: str, flag: str) -> tuple[TorchWriter, TextFormat]:
        model = load_model(name, flag=flag).to(device)
        return TorchWriter(model, load_tokenizer(name, flag)), TextFormat.of_model(model)

    def open_rows(path: Path, writer: TorchWriter, text_format: TextFormat) -> AssertionDataset:
        return AssertionDataset(
            path,
            writer.tokenizer,
            max_input_len=args.max_input_len,
            max_output_len=args.max_output_len,
            vocab_size=writer.vocab_size,
            teacher=False,
            text_format=text_format,
            flag="--data",
        )

    teacher, teacher_format = open_model(args.teacher, "--teacher")
    own = args.writer if args.writer != POOL else None
    writer, writer_format = open_model(own, "--writer") if own else (teacher, teacher_format)
    dataset = open_rows(args.data, writer, writer_format)
    write_and_judge(args, dataset, writer if args.writer != POOL else None)
    yields = write_rows(args, dataset)
    counts = DistillationWriter(
        teacher.model,
        teacher.tokenizer,
        open_rows(args.output_dir / ROWS, teacher, teacher_format),
        args.output_dir / RESULT,
        WriterSettings(teacher_name=str(args.teacher), topk=args.topk),
    ).run()
    assert counts is not None  # nothing stops it here
    write_json(args.output_dir / YIELDS, {**yields, "rows written": counts["rows"]})
    for name, value in yields.items():
        print(f"{name}: {value}")
    print(f"written: {args.output_dir / RESULT}, {args.output_dir / YIELDS}")
    return 0


if __name__ == "__main__":
    run_main(main)
