#!/usr/bin/env python
"""Rows to pre-train on, from main code: a method that lacks one statement, with another method of its file.

    python benchmarks/masked_statements.py --source DIR… --output rows.jsonl [--rows N] [--hold_out_projects NAME…]

Span corruption (Raffel et al., 2020) in the shape of the task itself, so that train_codet5_assertions.py trains on the
rows as they are: the statement takes the assertion's place, and a method that the statement calls (else the one before
it in the file) takes that of the method under test. Test code and held-out projects are left out.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm
from tree_sitter import Node

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from data.java.syntax import UnreadableFile, field_text, parse, read_java, walk
from data.java.tokens import coarse_tokens, one_line
from data.mining.projects import TEST_FOLDERS
from data.mining.sources import find_projects
from data.rows.readers import PLACEHOLDER
from utils.arguments import ArgumentParser
from utils.atomic_io import atomic_writer
from utils.errors import UserError, run_main

STATEMENTS = frozenset({"expression_statement", "local_variable_declaration", "return_statement", "throw_statement"})
METHOD_TOKENS = range(15, 121)
STATEMENT_TOKENS = range(4, 41)
MAX_FILE_BYTES = 2_000_000


def masked(source: bytes, method: Node, statement: Node) -> str:
    """The method on one line, with the placeholder where the statement stood."""
    before = source[method.start_byte : statement.start_byte].decode()
    after = source[statement.end_byte : method.end_byte].decode()
    return one_line(f"{before} {PLACEHOLDER} {after}")


def rows_of(source: bytes) -> Iterator[dict[str, str]]:
    """One row for each statement of a fitting length in a method of a fitting length."""
    methods = [node for node in walk(parse(source)) if node.type == "method_declaration" and not node.has_error]
    texts = [one_line(source[node.start_byte : node.end_byte].decode()) for node in methods]
    names = [field_text(node, "name", source) for node in methods]
    for number, method in enumerate(methods):
        body = method.child_by_field_name("body")
        if body is None or len(coarse_tokens(texts[number])) not in METHOD_TOKENS:
            continue
        for statement in walk(body, skip={"class_body", "lambda_expression"}):
            if statement.type not in STATEMENTS:
                continue
            text = one_line(source[statement.start_byte : statement.end_byte].decode())
            if len(tokens := coarse_tokens(text)) not in STATEMENT_TOKENS:
                continue
            called = (i for i, name in enumerate(names) if i != number and name in tokens)
            other = texts[next(called, number - 1)] if len(texts) > 1 else ""
            if other:
                yield {
                    "focal_method": other,
                    "test_method_masked": masked(source, method, statement),
                    "assertion": text,
                }


def main() -> int:
    parser = ArgumentParser(__doc__.split("\n")[0], defaults=True)
    parser.add_argument("--source", nargs="+", required=True, type=Path, metavar="PATH", help="folders or archives")
    parser.add_argument("--output", required=True, type=Path, help="the rows, shuffled")
    parser.add_argument("--rows", type=int, default=0, help="at most N; 0: all")
    parser.add_argument("--hold_out_projects", nargs="+", default=[], metavar="NAME", help="projects left out")
    parser.add_argument("--seed", type=int, default=42, help="of the order")
    args = parser.parse_args()
    rows: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as scratch:
        projects = find_projects(args.source, Path(scratch))
        if unknown := sorted(set(args.hold_out_projects) - {project.name for project in projects}):
            raise UserError(f"--hold_out_projects {unknown[0]}: no such project in --source")
        for project in projects:
            if project.name in args.hold_out_projects:
                continue
            for file in tqdm(project.files, desc=project.name, unit="file"):
                if TEST_FOLDERS.isdisjoint(Path(file).parts) and "Test" not in Path(file).name:
                    try:
                        source = read_java(project.root / file, MAX_FILE_BYTES)
                    except UnreadableFile:
                        continue
                    rows.update(dict.fromkeys(json.dumps(row, ensure_ascii=False) for row in rows_of(source)))
    if not rows:
        raise UserError("--source: no statement of main code was found")
    chosen = list(rows)
    random.Random(args.seed).shuffle(chosen)
    with atomic_writer(args.output) as out:
        for line in chosen[: args.rows or None]:
            out.write(line + "\n")
    print(f"{args.output}: {min(len(chosen), args.rows or len(chosen)):,} of {len(chosen):,} rows")
    return 0


if __name__ == "__main__":
    run_main(main)
