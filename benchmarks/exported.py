#!/usr/bin/env python
"""What an export gains: torch against CTranslate2, time to the first token, for one task and for many, size, agreement.

    python benchmarks/exported.py --data raw_test.jsonl --model results/run/final_model [--shapes medium base]

``--model`` is a trained student: its texts are compared. The shapes have random weights, so their texts mean nothing,
and they write ``--output_len`` tokens for each task; they show the speed of other sizes. Inputs hold the context. One
thread; times of many tasks are scaled from ``--tasks`` to 1,000.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.measuring import in_turns, options, parse, ratio, report
from benchmarks.workload import read_mined_rows
from utils.errors import run_main

if TYPE_CHECKING:
    from models.decoding.generate import GenerationOptions, Writer
    from models.exported.loading import Opened

COLUMNS = ["engine", "decoding", "MB", "first token ms", "one task ms", "1,000 tasks s", "x torch", "equal texts"]


def export_all(model: Opened, name: str, folder: Path) -> dict[str, Opened]:
    """The model in torch and in each quantisation."""
    from models.exported.convert import convert
    from models.exported.loading import open_model

    found = {"torch": model}
    for quantization in ("float32", "int8"):
        place = folder / f"{Path(name).name.replace(':', '-')}-{quantization}"
        place.mkdir()
        convert(model, name, place, quantization, 512, 128)
        found[f"CTranslate2 {quantization}"] = open_model(str(place), "--model", "cpu", (512, 128))
    return found


def compare(
    engines: dict[str, Opened], rows: list[list[int]], settings: GenerationOptions, args: Any, decodings: list[str]
) -> list[list[Any]]:
    """A line of the table for each engine and decoding."""
    from models.decoding.generate import generate_candidates

    def run(writer: Writer, given: list[list[int]], **changes: Any) -> Callable[[], list[list[str]]]:
        return lambda: generate_candidates(writer, given, replace(settings, **changes))

    few = rows[: args.few]
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
        size = engines[name].size_bytes / 1e6
        lines.append([name, decoding, size, 1e3 * first, 1e3 * one, 1e3 * many, gain, same])
    return lines


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
    tables: dict[str, tuple] = {}
    settings: dict[str, Any] = {"data": args.data.name if args.data else "sample corpus", "tasks": len(samples)}
    with tempfile.TemporaryDirectory() as place:
        if args.model:
            trained = open_model(args.model, "--model", "cpu", (512, 128))
            tokenizer, shown = trained.writer.tokenizer, trained.writer.text_format
        else:
            trained = None
            tokenizer = train_tokenizer([f"{sample.test} {sample.focal}" for sample in samples], 2048)
            shown = TextFormat()
        encoder = TaskEncoder(tokenizer, shown)
        rows = [encoder.source(sample, 512) for sample in samples]
        beams = GenerationOptions(max_output_len=128, num_beams=args.num_beams)
        if trained is not None:
            title = f"trained, {trained.parameters / 1e6:.1f}M parameters"
            engines = export_all(trained, args.model, Path(place))
            tables[title] = (COLUMNS, compare(engines, rows, beams, args, ["free", "java"]))
        for shape in args.shapes:
            vocab_size = 32_100 if shape == "base" else None
            model = build_scratch(
                shape, tokenizer, dropout_rate=0.0, attention="sdpa", seed=0, vocab_size=vocab_size
            ).eval()
            save_model(model, tokenizer, f"{place}/{shape}")
            opened = open_model(f"{place}/{shape}", "--shapes", "cpu", (512, 128))
            engines = export_all(opened, f"scratch:{shape}", Path(place))
            fixed = replace(beams, max_output_len=args.output_len)
            lines = compare(engines, rows, fixed, args, ["free"])
            tables[f"random weights, {opened.parameters / 1e6:.1f}M parameters"] = (
                COLUMNS[:-1],
                [x[:-1] for x in lines],
            )
    settings |= {
        "num_beams": args.num_beams,
        "output_len": args.output_len,
        "few": args.few,
        "input_tokens": round(sum(map(len, rows)) / len(rows), 1),
    }
    return report("exported", args, settings, tables)


if __name__ == "__main__":
    run_main(main)
