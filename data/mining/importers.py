"""Imports published data sets: ATLAS, Methods2Test, TOGBench, and JSONL files of tests and focal methods."""

from __future__ import annotations

import csv
import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from tqdm import tqdm

from data.java.assertions import Scope, find_assertions, write_target
from data.java.syntax import parse, walk
from data.java.tokens import one_line
from data.mining.miner import Collected
from data.mining.projects import index_file
from data.mining.sources import archive_name, unpack
from data.mining.tasks import (
    Limits,
    MinedTest,
    duplicate_key,
    find_problem,
    focal_link,
    group_by_task,
    list_words,
    select_imports,
)
from data.rows.readers import (
    FOCAL_KEYS,
    PLACEHOLDER,
    TARGET_KEYS,
    TEST_KEYS,
    Json,
    Row,
    RowError,
    Source,
    parse_json_line,
    parse_sample,
    read_rows,
)
from utils.errors import UserError

SPLIT_NAMES = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("eval", "valid", "validation"), "validation"),
    **dict.fromkeys(("test", "testing"), "test"),
}
MAX_CSV_FIELD = 1 << 24  # characters; the default of 131,072 is less than some classes have
ATLAS_TESTS, ATLAS_ASSERTIONS = "testMethods.txt", "assertLines.txt"
ATLAS_MASK = re.compile(r'"\s*<AssertPlaceHolder>\s*"\s*;?')
ATLAS_FOCAL = re.compile(r'^"\s*<FocalMethod>\s*"\s*')
KEYWORDS_BEFORE_PARENTHESIS = frozenset(
    {"if", "for", "while", "switch", "return", "catch", "synchronized", "throw", "case", "else", "do"}
)


@dataclass(frozen=True)
class Record:
    """A test and its focal method; ``assertions`` is None where they still stand in the test."""

    test: str
    focal: str
    assertions: tuple[str, ...] | None = None
    source: Source = field(default_factory=Source)
    links: tuple[str, ...] = ()
    split: str = ""
    doc: str = ""


def _tell_split(path: Path, root: Path) -> str:
    """The split that the name of the file, or of the nearest folder around it, tells; the empty string if none does."""
    for part in reversed(path.relative_to(root).with_suffix("").parts):
        if part.lower() in SPLIT_NAMES:
            return SPLIT_NAMES[part.lower()]
    return ""


# -- ATLAS: one test a line, blanks between tokens ----------------------------------------------------------------


def untokenise(text: str) -> str:
    """``a . b ( 1 , "x<sp>y" )`` -> ``a.b(1, "x y")``."""
    result, last = "", ""
    for token in text.split():
        word = last[-1:].isalnum() or last[-1:] in ("_", "$")
        glued = (
            token in (")", "]", ",", ";", ".")
            or last in ("(", "[", ".", "!")
            or (token == "(" and word and last not in KEYWORDS_BEFORE_PARENTHESIS)
            or (token == "[" and (word or last in ("]", ")")))
            or not result
        )
        result += ("" if glued else " ") + (token.replace("<sp>", " ") if token[0] in "\"'" else token)
        last = token
    return result


def _find_end_of_method(tokens: Sequence[str]) -> int:
    depth = 0
    for position, token in enumerate(tokens):
        depth += (token == "{") - (token == "}")
        if token == "}" and depth == 0:
            return position + 1
    return len(tokens)


def _make_atlas_record(test_line: str, assertion: str, split: str) -> Record | str:
    masked, masks = ATLAS_MASK.subn(f" {PLACEHOLDER} ", test_line)
    if masks != 1:
        return "placeholder missing or doubled"
    tokens = masked.split()
    end = _find_end_of_method(tokens)
    focal = ATLAS_FOCAL.sub("", " ".join(tokens[end:]))
    if not focal:
        return "missing focal method"
    if not assertion.strip():
        return "missing assertion"
    target = untokenise(assertion).rstrip(";") + ";"
    source: Source = {"project": "atlas", "test_name": tokens[0], "focal_name": focal.split()[0]}
    return Record(untokenise(" ".join(tokens[:end])), untokenise(focal), (target,), source, (), split)


def _read_atlas(root: Path) -> Iterator[Record | str]:
    folders = [path.parent for path in sorted(root.rglob(ATLAS_TESTS))] if root.is_dir() else []
    if not folders:
        raise UserError(f"--source {root}: holds no {ATLAS_TESTS}; give the folder of the ATLAS files")
    for folder in folders:
        paths = folder / ATLAS_TESTS, folder / ATLAS_ASSERTIONS
        if not paths[1].is_file():
            raise UserError(f"--source {folder}: {ATLAS_ASSERTIONS} is missing next to {ATLAS_TESTS}")
        tests, assertions = (path.read_text(encoding="utf-8", errors="replace").split("\n") for path in paths)
        tests, assertions = (lines[:-1] if lines[-1] == "" else lines for lines in (tests, assertions))
        if len(tests) != len(assertions):
            raise UserError(f"--source {folder}: {len(tests)} lines in {ATLAS_TESTS}, {len(assertions)} assertions")
        split = _tell_split(paths[0], root)
        for test, assertion in zip(tests, assertions, strict=True):
            yield _make_atlas_record(test, assertion, split)


# -- Methods2Test: one JSON object a file (or a line) ----------------------------------------------------------------


def _read_objects(root: Path, endings: tuple[str, ...]) -> Iterator[tuple[Path, Json | str]]:
    """(file, object or reason) of every JSON file and every line of every JSONL file."""
    files = [root] if root.is_file() else sorted(path for path in root.rglob("*") if path.suffix in endings)
    if not files:
        raise UserError(f"--source {root}: holds no {' or '.join(endings)} files")
    for path in files:
        whole = path.suffix == ".json"
        for _, content in [(1, path.read_bytes())] if whole else read_rows(path):
            try:
                yield path, parse_json_line(content)
            except RowError as reason:
                yield path, str(reason)


def _get_part(row: Json, key: str) -> Json:
    value = row.get(key)
    return value if isinstance(value, dict) else {}


def _read_methods2test(root: Path) -> Iterator[Record | str]:
    for path, row in _read_objects(root, (".json", ".jsonl")):
        if isinstance(row, str):
            yield row
            continue
        test, focal = _get_part(row, "test_case").get("body"), _get_part(row, "focal_method").get("body")
        if not (isinstance(test, str) and test.strip()):
            yield "missing test"
        elif not (isinstance(focal, str) and focal.strip()):
            yield "missing focal method"
        else:
            repository = _get_part(row, "repository")
            project = str(repository.get("url") or repository.get("repo_id") or "methods2test")
            source: Source = {
                "project": project,
                "test_file": str(_get_part(row, "test_class").get("file", "")),
                "focal_file": str(_get_part(row, "focal_class").get("file", "")),
                "test_class": str(_get_part(row, "test_class").get("identifier", "")),
                "focal_class": str(_get_part(row, "focal_class").get("identifier", "")),
                "test_name": str(_get_part(row, "test_case").get("identifier", "")),
                "focal_name": str(_get_part(row, "focal_method").get("identifier", "")),
            }
            links = tuple(f"{project}: {file}" for file in (source["test_file"], source["focal_file"]) if file)
            yield Record(test, focal, None, source, links, _tell_split(path, root) if root.is_dir() else "")


# -- JSONL of {test_method, focal_method, test_file, focal_file} -----------------------------------------------------


def _read_file_facts(value: object, part: str, method: str) -> Json:
    """``test_file`` and ``focal_file`` are paths or the files' text; of a text the class and the imports are kept."""
    if not isinstance(value, str) or not value.strip():
        return {}
    if "{" not in value:
        return {f"{part}_file": value}
    classes = index_file("", value.encode()).classes
    if not classes:
        return {}
    facts: Json = {f"{part}_class": classes[0].binary_name}
    return {**facts, "imports": select_imports(classes[0].imports, list_words(method))} if part == "test" else facts


def _read_jsonl(root: Path) -> Iterator[Record | str]:
    for path, row in _read_objects(root, (".jsonl",)):
        if isinstance(row, str):
            yield row
            continue
        test, focal = (next((row[key] for key in keys if row.get(key)), None) for keys in (TEST_KEYS, FOCAL_KEYS))
        if not (isinstance(test, str) and test.strip()):
            yield "missing test"
        elif not (isinstance(focal, str) and focal.strip()):
            yield "missing focal method"
        else:
            given = row["source"] if isinstance(row.get("source"), dict) else {}
            facts = {
                **_read_file_facts(row.get("test_file"), "test", test),
                **(_read_file_facts(row.get("focal_file"), "focal", focal) if row.get("focal_method") else {}),
            }
            told = {"project": str(row.get("project") or path.stem), **facts, **given}
            keys = ("test_file", "test_class", "focal_file", "focal_class")
            links = tuple(f"{told['project']}: {told[key]}" for key in keys if told.get(key))
            source = cast(Source, told)
            split = _tell_split(path, root) if root.is_dir() else ""
            if not any(row.get(key) for key in TARGET_KEYS):
                yield Record(test, focal, None, source, links, split)
                continue
            try:
                sample = parse_sample(row)
            except RowError as reason:
                yield str(reason)
            else:
                yield Record(sample.test, focal, sample.assertions, source, links, split)


# -- TOGBench: CSV of id, test_prefix, test_name, focal_methods, docstrings ---------------------------------------


def _read_togbench(root: Path) -> Iterator[Record | str]:
    files = [root] if root.is_file() else sorted(root.rglob("*.csv"))
    if not files:
        raise UserError(f"--source {root}: holds no CSV files")
    csv.field_size_limit(MAX_CSV_FIELD)
    for path in files:
        with open(path, encoding="utf-8-sig", errors="replace", newline="") as handle:
            reader = csv.DictReader(handle)
            missing = {"test_prefix", "focal_methods"} - set(reader.fieldnames or ())
            if missing:
                raise UserError(f"--source {path}: the first line names no column {', '.join(sorted(missing))}")
            for row in reader:
                yield _make_togbench_record(row, path)


def _make_togbench_record(row: dict[str, str | None], path: Path) -> Record | str:
    """``assertion``, where there is such a column, stands at the placeholder or at the end of the prefix; else the
    prefix's own assertions are masked. ``focal_methods``: Java, or a JSON list; its first entry is used."""
    prefix, focal = (row["test_prefix"] or "").strip(), (row["focal_methods"] or "").strip()
    if focal.startswith("["):
        try:
            focal = next((text for text in json.loads(focal) if isinstance(text, str) and text.strip()), "")
        except ValueError:
            return "focal methods are no list"
    if not prefix:
        return "missing test"
    if not focal:
        return "missing focal method"
    name = row.get("test_name") or ""
    source = cast(Source, {"project": path.stem, "id": row.get("id") or "", "test_name": name})
    assertion, doc = (row.get("assertion") or "").strip(), one_line(row.get("docstrings") or "")
    if not assertion:
        return Record(prefix, focal, None, source, doc=doc)
    if prefix.count(PLACEHOLDER) != 1:
        if PLACEHOLDER in prefix or not prefix.endswith("}"):
            return "placeholder missing or doubled"
        prefix = f"{prefix[:-1]} {PLACEHOLDER} }}"
    return Record(prefix, focal, (assertion.rstrip(";") + ";",), source, doc=doc)


# -- records to rows ---------------------------------------------------------------------------------------------


def _mask(test: str, limits: Limits) -> list[tuple[str, list[str], str]] | str:
    """(masked test, assertions, kind) for each task in the text of one test method."""
    head = b"class Holder {\n"
    source = head + test.encode("utf-8", "replace") + b"\n}"
    declarations = ("method_declaration", "constructor_declaration")
    method = next((node for node in walk(parse(source)) if node.type in declarations), None)
    if method is None or method.has_error:
        return "test does not parse"
    found, _ = find_assertions(method, source, Scope())
    tasks = []
    for group in group_by_task(found, limits):
        start, end = group[0].node.start_byte, group[-1].node.end_byte
        masked = source[method.start_byte : start].decode() + PLACEHOLDER + source[end : method.end_byte].decode()
        tasks.append((one_line(masked), [write_target(item, source) for item in group], group[0].kind))
    return tasks or "no assertion"


def _make_rows(record: Record, limits: Limits, left_out: Counter[str]) -> list[Row]:
    focal = one_line(record.focal)
    if record.assertions is not None:
        kind = re.search(r"(\w+)\s*\(", record.assertions[0])
        tasks = [(one_line(record.test), list(record.assertions), kind.group(1) if kind else "")]
    else:
        found = _mask(record.test, limits)
        if isinstance(found, str):
            left_out[found] += 1
            return []
        tasks = found
    rows: list[Row] = []
    for test, targets, kind_name in tasks:
        if problem := find_problem(test, focal, targets, limits):
            left_out[problem] += 1
            continue
        source: Source = {**record.source, "assertion_kind": kind_name}
        row: Row = {"focal_method": focal, "test_method_masked": test, "assertions": targets, "source": source}
        rows.append({**row, "context": {"doc": record.doc}} if record.doc else row)
    return rows


def _append(tests: list[MinedTest], found: MinedTest) -> None:
    """Append a test, or append its tasks to the last test where that is the same with another assertion masked."""
    last = tests[-1] if tests else None
    if last is not None and last.tokens == found.tokens:
        masked = {row["test_method_masked"] for row in last.rows}
        if masked.isdisjoint(row["test_method_masked"] for row in found.rows):
            tests[-1] = replace(last, rows=(*last.rows, *found.rows), links=tuple(sorted({*last.links, *found.links})))
            return
    tests.append(found)


READERS = {"atlas": _read_atlas, "methods2test": _read_methods2test, "jsonl": _read_jsonl, "togbench": _read_togbench}


def import_tests(kind: str, paths: Sequence[Path], limits: Limits, scratch: Path, progress: bool = True) -> Collected:
    """The tasks of published data sets of one ``kind``; archives are unpacked into ``scratch``."""
    collected = Collected()
    left_out: Counter[str] = Counter()
    for number, path in enumerate(paths):
        if not path.exists():
            raise UserError(f"--source {path}: does not exist")
        plain = path.is_dir() or path.suffix in (".json", ".jsonl", ".csv")
        root = path if plain else unpack(path, scratch / str(number))
        split = SPLIT_NAMES.get(archive_name(path).removesuffix(path.suffix if plain else "").lower(), "")
        for record in tqdm(READERS[kind](root), desc=f"import {path.name}", unit="test", disable=not progress):
            collected.counts["tests"] += 1
            if isinstance(record, str):
                left_out[record] += 1
                continue
            rows = _make_rows(record, limits, left_out)
            if rows:
                focal = rows[0]["focal_method"]
                # Where no class is known, tests of the same method belong together, however short it is.
                links = (*record.links, *focal_link(focal)) if record.links else (f"focal {focal}",)
                whole = rows[0]["test_method_masked"].replace(PLACEHOLDER, " ".join(rows[0]["assertions"]))
                _append(
                    collected.tests,
                    MinedTest(tuple(rows), tuple(sorted(links)), duplicate_key(whole), record.split or split),
                )
    collected.leave_out("record", left_out)
    return collected
