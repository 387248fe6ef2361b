#!/usr/bin/env python
"""How good the predictions of models are, by the number of beams and by the constraint on decoding.

python benchmarks/beam_quality.py --data mined/raw_validation.jsonl --models teacher=DIR student=DIR
    … --project mined/project --class_path junit4.jar:hamcrest.jar      # and by compiling and running them
"""

from __future__ import annotations

import io
import json
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.ablation_report import EXECUTED
from benchmarks.measuring import options, parse, report
from benchmarks.workload import build_tokenizer, list_texts, mine_sample
from utils.errors import UserError, run_main

SCORES = ("code_quality_score", "exact_match", "f1", "ast_validity")


def judged(
    data: Path, model: str, beams: int, decoding: str, limit: int, project: list[str], folder: Path
) -> dict[str, Any]:
    """The evaluation's summary of one model."""
    from evaluation.evaluate_assertions import main as evaluate

    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        evaluate(
            [
                "--teacher_data",
                str(data),
                "--student_model_path",
                model,
                "--student_limit",
                str(limit),
                "--max_per_class",
                "1",
                "--no_controls",
                "--num_beams",
                str(beams),
                "--max_input_len",
                "256",
                "--max_output_len",
                "64",
                "--device",
                "cpu",
                "--embedding_model",
                "embedded:minilm",
                "--latency_samples",
                "0",
                "--workers",
                "1",
                "--output_dir",
                str(folder),
                "--decoding",
                decoding,
                *project,
            ]
        )
    return json.loads((folder / "metrics_summary_final.json").read_text(encoding="utf-8"))["student"]


def toy_model(folder: Path) -> str:
    from data.rows.readers import parse_json_line
    from models.seq2seq.loading import build_scratch, save_model

    rows = map(parse_json_line, mine_sample().read_bytes().splitlines())
    tokenizer = build_tokenizer(list_texts(rows), "toy")
    save_model(build_scratch("tiny", tokenizer, dropout_rate=0.0, attention="sdpa", seed=0), tokenizer, folder)
    return str(folder)


def main() -> int:
    parser = options(__doc__, 1)
    parser.add_argument("--data", type=Path, help="raw rows to judge on (default: the sample corpus)")
    parser.add_argument("--models", nargs="+", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--limit", type=int, default=80, help="tasks, each of another test class")
    parser.add_argument("--decodings", nargs="+", default=["free", "java", "names"])
    parser.add_argument("--project", help="the project that the tasks were mined from: run the predictions")
    parser.add_argument("--class_path", help="of the project")
    args = parse(parser)
    project = [
        word for name in ("project", "class_path") if getattr(args, name) for word in (f"--{name}", getattr(args, name))
    ]
    metrics = (*SCORES, *EXECUTED) if project else SCORES
    with tempfile.TemporaryDirectory() as scratch:
        models = dict(pair.split("=", 1) for pair in args.models if "=" in pair)
        if len(models) < len(args.models) or not (models or args.toy):
            raise UserError("--models: needs NAME=FOLDER for each model")
        if args.toy:
            models = {"toy": toy_model(Path(scratch) / "model")}
            args.limit = 4
            args.beams = [1, 2]
        lines = []
        for name, model in models.items():
            for beams in args.beams:
                for decoding in args.decodings:
                    folder = Path(scratch) / f"{name}-{beams}-{decoding}"
                    found = judged(args.data or mine_sample(), model, beams, decoding, args.limit, project, folder)
                    score = found["code_quality_score"]
                    scores = [found[metric]["value"] for metric in metrics]
                    lines.append([name, beams, decoding, *scores, score["low"], score["high"]])
    columns = ["model", "beams", "decoding", *metrics, "low", "high"]
    settings = {"data": args.data.name if args.data else "sample corpus", "tasks": args.limit}
    name = "decoding_executed" if project else "beam_quality"
    return report(name, args, settings, {"quality by beams": (columns, lines)})


if __name__ == "__main__":
    run_main(main)
