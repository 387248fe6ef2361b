"""Mine tasks (method under test, masked test, assertion) from Java projects, or import published data sets."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.arguments import ArgumentParser
from utils.errors import UserError, run_main

IMPORTERS = ("java", "atlas", "methods2test", "jsonl", "togbench")


def fraction(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"{text} must lie in [0, 1)")
    return value


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} must be at least 1")
    return value


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__, defaults=True, epilog="docs/data.md gives the rules and the format.")
    add = parser.add_argument
    add("--source", nargs="+", required=True, type=Path, metavar="PATH", help="folder, project or tar/zip archive")
    add("--output", required=True, type=Path, help="raw.jsonl; splits and raw.summary.json go into its folder")
    add("--importer", choices=IMPORTERS, default="java", help="what the sources are")
    add("--split_by", choices=("class", "project"), default="", help="also write _training, _validation, _test")
    add("--validation_fraction", type=fraction, default=0.1, help="share of the tasks")
    add("--test_fraction", type=fraction, default=0.1, help="share of the tasks")
    add("--seed", type=int, default=42, help="seed of the split")
    add("--hold_out_projects", nargs="+", default=[], metavar="NAME", help="write these projects to _held_out only")
    add(
        "--assertions_per_task",
        choices=("single", "block"),
        default="single",
        help="one assertion, or several in a row",
    )
    add(
        "--near_duplicate_threshold",
        type=float,
        default=0.8,
        help="Jaccard similarity of 5-token shingles; above 1: off",
    )
    add("--max_test_tokens", type=positive, default=1000, help="Java tokens of a test")
    add("--max_focal_tokens", type=positive, default=1000, help="Java tokens of a focal method")
    add("--max_assertion_tokens", type=positive, default=100, help="Java tokens of an assertion")
    add("--max_file_bytes", type=positive, default=2_000_000, help="larger files are skipped")
    add("--workers", type=positive, default=None, help="processes (None: all cores); the result is the same")
    args = parser.parse_args()
    if args.validation_fraction + args.test_fraction >= 1:
        raise UserError("--validation_fraction plus --test_fraction must be below 1, else nothing is left for training")
    return args


def check_output(path: Path, sources: list[Path]) -> None:
    """Raise UserError where ``path`` cannot be written or would replace a source: now, not after an hour of mining."""
    from data.mining.miner import SPLIT_FILES, split_path

    if path.is_dir():
        raise UserError(f"--output {path}: is a folder; name a file, such as {path / 'raw.jsonl'}")
    for written in (path, path.with_suffix(".summary.json"), *(split_path(path, split) for split in SPLIT_FILES)):
        for source in sources:
            if written.exists() and written.resolve().is_relative_to(source.resolve()):
                raise UserError(f"--output {path}: {written} is one of the sources; write to another folder")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise UserError(f"--output {path}: cannot be written ({error.strerror})") from None


def main() -> int:
    args = parse_arguments()
    import os

    from data.mining.importers import import_tests
    from data.mining.miner import SplitOptions, drop_duplicates, mine_projects, split_tests, write
    from data.mining.siblings import add_siblings
    from data.mining.sources import find_projects
    from data.mining.tasks import Limits

    limits = Limits(
        args.assertions_per_task,
        args.max_test_tokens,
        args.max_focal_tokens,
        args.max_assertion_tokens,
        args.max_file_bytes,
    )
    check_output(args.output, args.source if args.importer != "java" else [])
    progress = sys.stderr.isatty()
    with tempfile.TemporaryDirectory(prefix="mine-assertions-") as scratch:
        if args.importer == "java":
            projects = find_projects(args.source, Path(scratch))
            collected = mine_projects(projects, limits, args.workers or os.cpu_count() or 1, progress)
        else:
            collected = import_tests(args.importer, args.source, limits, Path(scratch), progress)
    drop_duplicates(collected, args.near_duplicate_threshold, args.hold_out_projects, progress)
    options = SplitOptions(
        args.split_by, args.validation_fraction, args.test_fraction, args.seed, tuple(args.hold_out_projects)
    )
    splits = split_tests(collected.tests, options)
    if args.importer == "java":
        add_siblings(collected.tests, splits, progress)
    settings = {name: value for name, value in vars(args).items() if name not in ("output", "workers")}
    settings["source"] = [str(path) for path in args.source]
    summary = write(collected, splits, args.output, settings)
    print(json.dumps(summary, indent=2, ensure_ascii=False))
    return 0


if __name__ == "__main__":
    run_main(main)
