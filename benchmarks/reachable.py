#!/usr/bin/env python
"""Which share of human assertions would a kind of decoding forbid?

    python benchmarks/reachable.py --rows ROWS.jsonl --output FILE.json                                  # java
    python benchmarks/reachable.py --rows ROWS.jsonl --inputs_of MODEL --output FILE.json                # names
    python benchmarks/reachable.py --rows ROWS.jsonl --project FOLDER --class_path JARS --output FILE.json   # types

Each assertion of the mined rows is read against Java's grammar; or against what its input offers to name, as the model
sees it; or against what javac knows of its place.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from transformers import AutoConfig, AutoTokenizer

from config.defaults import DataConfig
from data.rows.readers import Sample
from data.rows.tokenization import TaskEncoder, TextFormat
from evaluation.running.class_path import resolve_class_path
from evaluation.running.jdk import find_jdk
from evaluation.running.splice import as_utf8
from evaluation.suggesting.scope import ScopeService
from evaluation.tasks import read_samples
from models.decoding.constraints.grammar import Grammar
from models.decoding.constraints.kept import Kept
from models.decoding.constraints.names import Place, fits
from models.decoding.constraints.offered import find_offered, read_inputs
from models.decoding.constraints.reading import Reading
from utils.arguments import ArgumentParser
from utils.atomic_io import write_json
from utils.errors import run_main

SHOWN = 40


def find_stop(sample: Sample, reading: Reading) -> str | None:
    """The assertion with a mark where it is refused; None where it is not."""
    text = sample.target
    now: Reading | None = reading
    for place, char in enumerate(text):
        now = now.after(char) if now is not None else None
        if now is None:
            return f"{text[:place]} >>> {text[place:]}"
    return None if now is not None and now.may_end() else f"{text} >>>"


def main() -> int:
    parser = ArgumentParser(__doc__)
    parser.add_argument("--rows", required=True, help="mined rows, of one project if it is given")
    parser.add_argument("--project", type=Path, help="the folder that they were mined from")
    parser.add_argument("--class_path")
    parser.add_argument("--inputs_of", type=Path, metavar="MODEL", help="the folder of a model")
    parser.add_argument("--max_input_len", type=int, default=DataConfig.max_input_len)
    parser.add_argument("--output", required=True)
    parser.add_argument("--jdk_home")
    args = parser.parse_args()
    samples = read_samples(args.rows, "--rows", 0.0).samples
    refused: list[str] = []
    unknown: Counter[str] = Counter()
    if args.project:
        readings = read_places(args, samples)
    elif args.inputs_of:
        readings = read_rows(args, samples)
    else:
        readings = ((sample, Grammar()) for sample in samples)
    for sample, reading in readings:
        if isinstance(reading, str):
            unknown[reading[:80]] += 1
        elif (stop := find_stop(sample, reading)) is not None:
            refused.append(f"{Path(sample.source['test_file']).name} {sample.source['test_name']}: {stop}")
    result: dict[str, Any] = {
        "project": args.project.name if args.project else None,
        "assertions": len(samples),
        "not read": dict(unknown),
        "refused": len(refused),
        "share": len(refused) / max(1, len(samples) - sum(unknown.values())),
    }
    write_json(args.output, result)
    print(*refused[:SHOWN], result, sep="\n")
    return 0


def read_rows(args: argparse.Namespace, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Reading | str]]:
    """Each sample with what its input offers; as a reason where a name is not offered, which then comes last."""
    tokenizer = AutoTokenizer.from_pretrained(args.inputs_of)
    encoder = TaskEncoder(tokenizer, TextFormat.read(AutoConfig.from_pretrained(args.inputs_of).text_format))
    for sample in samples:
        (text,) = read_inputs(tokenizer, [encoder.source(sample, args.max_input_len)])
        offered = find_offered(text)
        _, ended = Place().after(sample.target)
        lacking = [name for name in ended if not fits(offered.names, name)]
        yield sample, "a name that the input lacks" if lacking else Kept(offered)


def read_places(args: argparse.Namespace, samples: Sequence[Sample]) -> Iterator[tuple[Sample, Reading | str]]:
    """Each sample with what javac knows of its place, or why it knows nothing."""
    by_file: dict[str, list[Sample]] = {}
    for sample in samples:
        by_file.setdefault(sample.source["test_file"], []).append(sample)
    jdk = find_jdk(args.jdk_home)
    with ScopeService(jdk, resolve_class_path(args.project, args.class_path, jdk)) as service:
        for file, of_file in by_file.items():
            raw = (args.project / file).read_bytes()
            source, moved = as_utf8(raw, *(at for sample in of_file for at in sample.source["assertion_span"]))
            spans = list(zip(moved[::2], moved[1::2], strict=True))
            name, framework = Path(file).name, of_file[0].source["framework"]
            release = service.find_release(name, source)
            for sample, span in zip(of_file, spans, strict=True):
                # One by one: at once, all assertions would be missing, and with them what some of them declare.
                (scope,) = service.look(name, source, [span], framework, release)
                yield sample, scope if isinstance(scope, str) else Reading(scope)


if __name__ == "__main__":
    run_main(main)
