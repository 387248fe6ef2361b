#!/usr/bin/env python
"""What an export gains: torch against CTranslate2, time to the first token, for one task and for many, size, memory,
agreement.

    python benchmarks/exported.py --data raw_test.jsonl --model results/run/final_model [--shapes medium base]

``--model`` is a trained student: its texts are compared. The shapes have random weights, so their texts mean nothing,
and they write ``--output_len`` tokens for each task; they show the speed of other sizes. Inputs hold the context. One
thread; times of many tasks are scaled from ``--tasks`` to 1,000. Memory is what opening a model and one task add to the
process at their peak, the libraries left out. What was measured of a model is kept under build/ until the end, so the
same command continues where it was stopped.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import find_commit, in_turns, options, parse, peak_extra_bytes, ratio, report
from benchmarks.workload import KEPT, read_mined_rows
from utils.atomic_io import write_json
from utils.errors import run_main

if TYPE_CHECKING:
    from models.decoding.generate import GenerationOptions, Writer
    from models.exported.loading import Opened

LONGEST = (512, 128)
TIMES = ["first token ms", "one task ms", "1,000 tasks s", "x torch"]
COLUMNS = ["engine", "decoding", "MB", "memory MB", *TIMES, "equal texts"]


def export_all(model: str, place: Path) -> dict[str, str]:
    """The folders of the model in torch and in each quantisation."""
    from models.exported.convert import convert
    from models.exported.loading import open_model

    found = {"torch": model}
    for quantization in ("float32", "int8"):
        folder = place / f"{Path(model).name}-{quantization}"
        folder.mkdir()
        convert(open_model(model, "--model", "cpu", LONGEST), model, folder, quantization, *LONGEST)
        found[f"CTranslate2 {quantization}"] = str(folder)
    return found


def compare(
    folders: dict[str, str], rows: list[list[int]], settings: GenerationOptions, args: Any, decodings: list[str]
) -> list[list[Any]]:
    """A line of the table for each engine and decoding."""
    from models.decoding.generate import generate_candidates
    from models.exported.loading import open_model

    engines: dict[str, Opened] = {}

    def start(name: str) -> None:
        engines[name] = open_model(folders[name], "--model", "cpu", LONGEST)
        generate_candidates(engines[name].writer, rows[:1], replace(settings, decoding="free"))

    def run(writer: Writer, given: list[list[int]], **changes: Any) -> Callable[[], list[list[str]]]:
        return lambda: generate_candidates(writer, given, replace(settings, **changes))

    few = rows[: args.few]
    for _ in range(2):  # the first time imports what it needs
        memory = {name: peak_extra_bytes(partial(start, name)) for name in folders}
    cases, texts = {}, {}
    for name, opened in engines.items():
        for decoding in decodings:
            cases[name, decoding, "first"] = run(opened.writer, few, decoding=decoding, batch_size=1, max_output_len=1)
            cases[name, decoding, "one"] = run(opened.writer, few, decoding=decoding, batch_size=1)
            cases[name, decoding, "many"] = run(opened.writer, rows, decoding=decoding)
            texts[name, decoding] = [found[0] for found in run(opened.writer, rows, decoding=decoding)()]
    times = in_turns(cases, args.repeats, budget=args.budget, clock=args.clock)  # type: ignore[arg-type]
    lines = []
    for name, decoding in texts:
        first, one, many = (
            statistics.median(times[name, decoding, what]) / count  # type: ignore[index]
            for what, count in (("first", len(few)), ("one", len(few)), ("many", len(rows)))
        )
        gain = 1 / ratio(times, (name, decoding, "one"), ("torch", decoding, "one"))  # type: ignore[arg-type]
        same = sum(a == b for a, b in zip(texts[name, decoding], texts["torch", decoding], strict=True)) / len(rows)
        size, used = engines[name].size_bytes / 1e6, (memory[name] or 0) / 1e6 or None
        lines.append([name, decoding, size, used, 1e3 * first, 1e3 * one, 1e3 * many, gain, same])
    return lines


def read_parts(file: Path, given: dict[str, Any]) -> dict[str, Any]:
    """What an interrupted call with the same settings measured: its tables; none otherwise."""
    kept = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return kept if kept.get("given") == given else {"given": given, "tables": {}}


def main() -> int:
    parser = options(__doc__, repeats=3)
    parser.add_argument("--data", type=Path, help="raw rows (default: the sample corpus)")
    parser.add_argument("--model", help="a trained student (default: shapes alone)")
    parser.add_argument("--shapes", nargs="*", default=["medium", "base"], help="sizes of scratch: models")
    parser.add_argument("--tasks", type=int, default=64)
    parser.add_argument("--few", type=int, default=16, help="tasks that are timed alone")
    parser.add_argument("--num_beams", type=int, default=4)
    parser.add_argument("--output_len", type=int, default=20, help="tokens that the shapes write")
    args = parse(parser)
    if args.toy:
        args.shapes, args.tasks, args.few = ["tiny"], 4, 2
    import torch

    from data.rows.readers import parse_sample
    from data.rows.tokenization import TaskEncoder, TextFormat
    from models.decoding.generate import GenerationOptions
    from models.exported.loading import open_model
    from models.seq2seq.loading import build_scratch, save_model, train_tokenizer

    torch.set_num_threads(args.threads or 1)
    samples = [parse_sample(row) for row in read_mined_rows(args.data, args.tasks)]
    settings: dict[str, Any] = {"data": args.data.name if args.data else "sample corpus", "tasks": len(samples)}
    settings |= {name: getattr(args, name) for name in ("num_beams", "output_len", "few", "repeats")}
    kept = KEPT / f"exported-{'toy' if args.toy else 'parts'}.json"
    given = {"settings": settings, "model": args.model, "threads": args.threads, "commit": find_commit()}
    done = read_parts(kept, given)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        if args.model:
            writer = open_model(args.model, "--model", "cpu", LONGEST).writer
            tokenizer, shown = writer.tokenizer, writer.text_format
        else:
            tokenizer = train_tokenizer([f"{sample.test} {sample.focal}" for sample in samples], 2048)
            shown = TextFormat()
        encoder = TaskEncoder(tokenizer, shown)
        rows = [encoder.source(sample, LONGEST[0]) for sample in samples]
        beams = GenerationOptions(max_output_len=LONGEST[1], num_beams=args.num_beams)
        for what in [args.model, *args.shapes] if args.model else args.shapes:
            if what in done["tables"]:
                continue
            if what == args.model:
                lines = compare(export_all(args.model, place), rows, beams, args, ["free", "java"])
                columns, weights = COLUMNS, open_model(args.model, "--model", "cpu", LONGEST).parameters
            else:
                vocab_size = 32_100 if what == "base" else None
                model = build_scratch(
                    what, tokenizer, dropout_rate=0.0, attention="sdpa", seed=0, vocab_size=vocab_size
                ).eval()
                save_model(model, tokenizer, place / what)
                weights = model.num_parameters()
                del model
                fixed = replace(beams, max_output_len=args.output_len)
                lines = [x[:-1] for x in compare(export_all(str(place / what), place), rows, fixed, args, ["free"])]
                columns = COLUMNS[:-1]
            title = f"{'trained' if what == args.model else 'random weights'}, {weights / 1e6:.1f}M parameters"
            done["tables"][what] = title, columns, lines
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_json(kept, done)
    settings["input_tokens"] = round(sum(map(len, rows)) / len(rows), 1)
    tables = {title: (columns, lines) for title, columns, lines in done["tables"].values()}
    code = report("exported", args, settings, tables)
    kept.unlink()
    return code


if __name__ == "__main__":
    run_main(main)
