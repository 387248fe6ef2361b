#!/usr/bin/env python
"""Which share of human assertions would a kind of decoding forbid?

    python benchmarks/reachable.py --rows ROWS.jsonl --project FOLDER --class_path JARS --output FILE.json

Each assertion of the mined rows is read against what javac knows of its place, as with --decoding types.
"""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.rows.readers import Sample
from evaluation.running.class_path import resolve_class_path
from evaluation.running.jdk import find_jdk
from evaluation.running.splice import as_utf8
from evaluation.suggesting.scope import ScopeService
from evaluation.tasks import read_samples
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
    parser.add_argument("--rows", required=True, help="mined rows of one project")
    parser.add_argument("--project", type=Path, required=True, help="the folder that they were mined from")
    parser.add_argument("--class_path", required=True)
    parser.add_argument("--output", required=True)
    parser.add_argument("--jdk_home")
    args = parser.parse_args()
    by_file: dict[str, list[Sample]] = {}
    for sample in read_samples(args.rows, "--rows", 0.0).samples:
        by_file.setdefault(sample.source["test_file"], []).append(sample)
    jdk = find_jdk(args.jdk_home)
    refused: list[str] = []
    unknown: Counter[str] = Counter()
    total = 0
    with ScopeService(jdk, resolve_class_path(args.project, args.class_path, jdk)) as service:
        for file, samples in by_file.items():
            raw = (args.project / file).read_bytes()
            source, moved = as_utf8(raw, *(at for sample in samples for at in sample.source["assertion_span"]))
            spans = list(zip(moved[::2], moved[1::2], strict=True))
            name, framework = Path(file).name, samples[0].source["framework"]
            scopes = service.look(name, source, spans, framework, service.find_release(name, source))
            for sample, scope in zip(samples, scopes, strict=True):
                total += 1
                if isinstance(scope, str):
                    unknown[scope[:80]] += 1
                elif (stop := find_stop(sample, Reading(scope))) is not None:
                    refused.append(f"{Path(file).name} {sample.source['test_name']}: {stop}")
    result: dict[str, Any] = {
        "project": args.project.name,
        "assertions": total,
        "not attributed": dict(unknown),
        "refused": len(refused),
        "share": len(refused) / max(1, total - sum(unknown.values())),
        "examples": refused[:SHOWN],
    }
    write_json(args.output, result)
    print({key: value for key, value in result.items() if key != "examples"})
    return 0


if __name__ == "__main__":
    run_main(main)
