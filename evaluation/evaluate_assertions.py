#!/usr/bin/env python
"""Judge a teacher, a student and baselines on the same tasks, with intervals, tests and a report.

    python evaluation/evaluate_assertions.py --teacher_data results/t/distillation_data_validation.jsonl \\
        --student_model_path results/run/final_model --train_data results/t/distillation_data_training.jsonl

Without --student_model_path it judges the teacher alone. docs/evaluation.md explains every number.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from config.defaults import DistillationConfig, help_of
from evaluation.execution_settings import Sandbox
from evaluation.request import EvaluationRequest
from utils.arguments import ArgumentParser
from utils.errors import run_main


def build_parser() -> argparse.ArgumentParser:
    """One flag for each field of EvaluationRequest, which has the defaults, in the same order."""
    parser = ArgumentParser(__doc__.split("\n\n")[0], defaults=True)
    data = parser.add_argument_group("data")
    data.add_argument("--teacher_data", required=True, help="distillation data or raw rows, JSONL")
    data.add_argument("--train_data", help="training rows, for nearest-neighbour retrieval and the leak check")
    data.add_argument(
        "--max_per_class", type=int, help="at most N tasks of a test class, spread evenly over it (None: all its tasks)"
    )
    data.add_argument("--teacher_limit", type=int, help="judge the teacher on the first N tasks (None: all)")
    data.add_argument("--student_limit", type=int, help="judge the others on the first N tasks (None: all)")
    models = parser.add_argument_group("models")
    models.add_argument("--student_model_path", help="folder of the student")
    models.add_argument("--teacher_model", help="folder or name; omit it to judge the teacher's stored predictions")
    models.add_argument("--baseline_model_path", help="a model of the student's size trained without a teacher")
    models.add_argument(
        "--predictions",
        action="append",
        metavar="NAME=FILE",
        help="judge the texts of another tool, too; may be given more than once (docs/evaluation.md)",
    )
    models.add_argument(
        "--embedding_model",
        help="text encoder for semantic similarity; embedded:minilm needs no network, none leaves the metric out",
    )
    models.add_argument("--device", help="auto, cpu, cuda, cuda:N or mps")
    text = parser.add_argument_group("generation")
    text.add_argument("--num_beams", type=int, help="1: greedy")
    text.add_argument("--num_return_sequences", type=int, help="candidates kept in predictions_final.jsonl")
    text.add_argument(
        "--decoding",
        choices=["free", "java", "names"],
        help="free; java: Java's grammar and numbers of an assertion's arguments hold, and texts end; names: also,"
        " variables, methods and classes are those of the input",
    )
    text.add_argument(
        "--pool",
        action="store_true",
        help="judge also what comes first among the student's beams, copies of siblings and templates, ranked as"
        " suggest_assertions.py does (there with 5 beams and names or types); copies come from the rows, whatever"
        " --context shows; with --resume they are ranked again",
    )
    text.add_argument("--batch_size", type=int, help="inputs per generation batch")
    text.add_argument("--max_input_len", type=int, help="input tokens; a longer input loses its far ends")
    text.add_argument("--max_output_len", type=int, help="output tokens")
    text.add_argument(
        "--context",
        nargs="+",
        metavar="PART",
        help="what models see beside test and method: none, all, or names of parts (None: what each was trained with)",
    )
    text.add_argument("--max_context_tokens", type=int, help="input tokens for the context (None: as in training)")
    text.add_argument(
        "--allow_other_context", action="store_true", help="show a model another context than it was trained with"
    )
    text.add_argument("--latency_samples", type=int, help="tasks timed one by one; 0: none")
    text.add_argument("--temperature", type=float, help="of the KL divergence, which is also measured at 1")
    run = parser.add_argument_group("execution (needs a JDK)")
    run.add_argument("--project", help="Java project that the tasks were mined from: compile and run the predictions")
    run.add_argument("--class_path", help="its jars and class folders; for a Maven project the default asks mvn -o")
    run.add_argument("--junit_jars", nargs="+", help="jars added to the class path")
    run.add_argument("--jdk_home", help="JDK of version 11 or later (None: $JAVA_HOME, else the javac on the PATH)")
    run.add_argument("--execution_limit", type=int, help="run the first N tasks only (None: all)")
    run.add_argument("--timeout", type=float, help="seconds that a test may take")
    run.add_argument(
        "--sandbox",
        choices=get_args(Sandbox),
        help="the cell around the tests; auto: the tightest that the system allows; require: stop if it lacks a layer",
    )
    run.add_argument(
        "--no_controls",
        action="store_true",
        help="leave out what is the same for every model: assertTrue(true) or (false), a call that asserts nothing, and"
        " runs with the human assertion and none",
    )
    output = parser.add_argument_group("output")
    output.add_argument("--output_dir", help="folder of the evaluation (None: results/<time>_evaluation)")
    output.add_argument("--overwrite", action="store_true", help="replace an evaluation in the folder")
    output.add_argument("--resume", action="store_true", help="continue an interrupted evaluation in --output_dir")
    output.add_argument("--workers", type=int, help="processes for metrics, and JVMs")
    output.add_argument("--max_reject_rate", type=float, help="share of unusable rows above which the evaluation stops")
    output.add_argument(
        "--legacy_offset", choices=["auto", "0", "1"], help=help_of(DistillationConfig, "legacy_offset")
    )
    output.add_argument("--legacy_logit_scale", help=help_of(DistillationConfig, "legacy_logit_scale"))
    parser.set_defaults(**EvaluationRequest.defaults())
    return parser


def main(argv: list[str] | None = None) -> int:
    request = EvaluationRequest(**vars(build_parser().parse_args(argv)))
    from evaluation.evaluation import evaluate

    print(evaluate(request).text())
    return 0


if __name__ == "__main__":
    run_main(main)
