"""Sources, duplicates, splits and the command line of the miner."""

from __future__ import annotations

import io
import json
import os
import random
import subprocess
import sys
import tarfile
import zipfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data.java.tokens import coarse_tokens, one_line
from data.mining.deduplicate import KIN, NearDuplicates, jaccard, shingles
from data.mining.sources import find_projects
from data.mining.split import assign, group_kin
from data.mining.tasks import duplicate_key
from data.rows.readers import PLACEHOLDER, parse_sample
from data.sample_corpus import write_sample_corpus
from tests.helpers.mining_fixtures import test_class, write_project
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[3]
TEST_FILE = "src/test/java/shop/StackTest.java"
BODY = "@Test public void t() { Stack s = new Stack(); s.push(1); assertEquals(1, s.pop()); }"


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "scripts/mine_assertions.py", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})


def rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sample_corpus(tmp_path_factory.mktemp("corpus") / "sample", seed=3, classes=56)


@pytest.fixture(scope="module")
def mined(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("mined") / "raw.jsonl"
    done = run("--source", corpus, "--output", output, "--split_by", "class", "--workers", 1)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads((output.parent / "raw.summary.json").read_text())
    return output


def test_an_output_that_cannot_be_written_is_said_before_the_mining(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for output, reason in ((tmp_path, "is a folder; name a file"), (tmp_path / "file" / "raw.jsonl", "cannot be")):
        done = run("--source", tmp_path / "nothing", "--output", output)
        assert done.returncode == 2 and f"--output {output}: {reason}" in done.stderr


# -- the files it writes --------------------------------------------------


def test_every_row_is_a_sample_and_its_human_assertion_splices_back(corpus: Path, mined: Path) -> None:
    found = rows(mined)
    assert len(found) > 400
    for row in found:
        sample = parse_sample(row)
        source = row["source"]
        content = (corpus / source["test_file"]).read_bytes()
        start, end = source["assertion_span"]
        first, last = source["test_span"]
        assert one_line(content[start:end].decode()) == sample.target
        assert one_line((content[first:start] + PLACEHOLDER.encode() + content[end:last]).decode()) == sample.test
        text = content.decode().splitlines()
        assert f"{source['test_name']}()" in "\n".join(text[source["test_lines"][0] - 1 : source["test_lines"][1]])
        spliced = content[:start] + row["assertions"][0].encode() + content[end:]
        assert coarse_tokens(spliced.decode()) == coarse_tokens(content.decode())
        focal_lines = (corpus / source["focal_file"]).read_text().splitlines()
        focal = "\n".join(focal_lines[source["focal_lines"][0] - 1 : source["focal_lines"][1]])
        assert one_line(focal) == sample.focal


def test_split_files_hold_every_row_once(mined: Path) -> None:
    whole = rows(mined)
    parts = {name: rows(mined.with_name(f"raw_{name}.jsonl")) for name in ("training", "validation", "test")}
    assert sum(map(len, parts.values())) == len(whole)
    spelled = {"training": "train", "validation": "validation", "test": "test"}
    for name, part in parts.items():
        there = [row for row in whole if row["source"]["split"] == spelled[name]]
        assert sorted(map(json.dumps, part)) == sorted(map(json.dumps, there))
    assert 0.05 < len(parts["test"]) / len(whole) <= 0.1
    assert not mined.with_name("raw_held_out.jsonl").exists()


def test_the_first_rows_of_a_split_are_a_sample_of_it(mined: Path) -> None:
    classes = [row["source"]["test_class"] for row in rows(mined.with_name("raw_training.jsonl"))]
    assert len(set(classes[:60])) > 0.6 * len(set(classes))
    assert len({row["source"]["test_class"] for row in rows(mined)[:60]}) < 0.3 * len(set(classes))


def test_no_class_on_two_sides(mined: Path) -> None:
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows(mined):
        sides[row["source"]["test_class"]].add(row["source"]["split"])
        sides[row["source"]["focal_class"]].add(row["source"]["split"])
    assert {len(names) for names in sides.values()} == {1}


def test_no_alike_tests_on_two_sides(mined: Path) -> None:
    """Against all pairs, by the definition of the Jaccard similarity."""
    tests: dict[tuple, tuple[str, set]] = {}
    for row in rows(mined):
        source = row["source"]
        text = row["test_method_masked"].replace(PLACEHOLDER, row["assertions"][0])
        tokens = duplicate_key(text)
        runs = {tokens[i : i + 5] for i in range(max(1, len(tokens) - 4))}
        tests[source["test_file"], source["test_name"]] = (source["split"], runs)
    listed = list(tests.values())
    for i, (side, left) in enumerate(listed):
        for other_side, right in listed[:i]:
            similarity = len(left & right) / len(left | right)
            assert similarity < 0.8
            if side != other_side:
                assert similarity < 0.6 + 1e-9  # one pair in a hundred at 0.6 meets in no band; none does here


def test_the_result_does_not_depend_on_the_number_of_workers(corpus: Path, mined: Path, tmp_path: Path) -> None:
    done = run("--source", corpus, "--output", tmp_path / "raw.jsonl", "--split_by", "class", "--workers", 2)
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in mined.parent.iterdir())
    assert names == sorted(path.name for path in tmp_path.iterdir())
    for name in names:
        assert (tmp_path / name).read_bytes() == (mined.parent / name).read_bytes()


def test_another_seed_is_another_split(corpus: Path, mined: Path, tmp_path: Path) -> None:
    run("--source", corpus, "--output", tmp_path / "raw.jsonl", "--split_by", "class", "--seed", 7, "--workers", 1)
    classes = [
        {row["source"]["test_class"] for row in rows(path.parent / "raw_test.jsonl")}
        for path in (mined, tmp_path / "raw.jsonl")
    ]
    assert classes[0] != classes[1]


def test_projects_can_be_held_out_and_split(tmp_path: Path) -> None:
    for number, name in enumerate(("alpha", "beta", "gamma", "delta")):
        write_sample_corpus(tmp_path / "all" / name, seed=number, classes=14)
    output = tmp_path / "raw.jsonl"
    done = run(
        "--source",
        tmp_path / "all",
        "--output",
        output,
        "--hold_out_projects",
        "beta",
        "--split_by",
        "project",
        "--validation_fraction",
        "0.4",
        "--test_fraction",
        "0.4",
        "--workers",
        1,
    )
    assert done.returncode == 0, done.stderr
    sides = defaultdict(set)
    for row in rows(output):
        sides[row["source"]["project"]].add(row["source"]["split"])
    assert sides["beta"] == {"held_out"}
    others = sorted(map(sorted, (sides[name] for name in ("alpha", "gamma", "delta"))))
    assert others == [["test"], ["train"], ["validation"]]
    assert {row["source"]["project"] for row in rows(tmp_path / "raw_held_out.jsonl")} == {"beta"}
    done = run("--source", tmp_path / "all", "--output", output, "--hold_out_projects", "beta", "--workers", 1)
    assert not (tmp_path / "raw_test.jsonl").exists(), "a split file of the run before is left"
    assert {row["source"]["split"] for row in rows(output)} == {"train", "held_out"}


def test_of_two_projects_with_the_same_test_the_held_out_one_keeps_it(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_project(tmp_path / "all" / name, {TEST_FILE: test_class(BODY)})
    for kept in ("a", "b"):
        done = run("--source", tmp_path / "all", "--output", tmp_path / "raw.jsonl", "--hold_out_projects", kept)
        assert done.returncode == 0, done.stderr
        (row,) = rows(tmp_path / "raw.jsonl")
        assert (row["source"]["project"], row["source"]["split"]) == (kept, "held_out")
        assert json.loads(done.stdout)["left_out"]["test"] == {"exact duplicate": 1}


# -- sources --------------------------------------------------


def _tar(path: Path, folder: Path, mode: str) -> Path:
    with tarfile.open(path, mode) as handle:
        handle.add(folder, arcname=folder.name)
    return path


def _zip(path: Path, folder: Path) -> Path:
    with zipfile.ZipFile(path, "w") as handle:
        for file in folder.rglob("*.java"):
            handle.write(file, Path(folder.name) / file.relative_to(folder))
    return path


def test_a_folder_and_its_archives_give_the_same_rows(tmp_path: Path) -> None:
    project = write_project(tmp_path / "shop-1.0", {TEST_FILE: test_class(BODY)})
    archives = [
        _tar(tmp_path / "shop-1.0.tar.gz", project, "w:gz"),
        _tar(tmp_path / "shop-1.0.tar.xz", project, "w:xz"),
        _zip(tmp_path / "shop-1.0.zip", project),
    ]
    results = []
    for source in (project, *archives):
        done = run("--source", source, "--output", tmp_path / "out" / "raw.jsonl")
        assert done.returncode == 0, done.stderr
        results.append((tmp_path / "out" / "raw.jsonl").read_bytes())
    assert len(set(results)) == 1
    assert json.loads(results[0])["source"]["project"] == "shop-1.0"


def test_a_folder_of_projects_is_told_from_a_project(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_project(tmp_path / "many" / name, {})
    (tmp_path / "many" / "empty").mkdir()
    (tmp_path / "many" / ".git").mkdir()
    (tmp_path / "many" / ".git" / "Old.java").write_text("class Old { }")
    assert [project.name for project in find_projects([tmp_path / "many"], tmp_path)] == ["one", "two"]
    (tmp_path / "many" / "pom.xml").touch()
    (project,) = find_projects([tmp_path / "many"], tmp_path)
    assert project.name == "many"
    assert len(project.files) == 8


@pytest.mark.parametrize(
    "name", ["../evil.java", "/etc/evil.java", "a/../../evil.java", "..\\evil.java", "C:\\evil.java"]
)
@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_cannot_write_outside(tmp_path: Path, name: str, kind: str) -> None:
    archive = tmp_path / f"bad.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(archive, "w") as handle:
            handle.writestr("ok/Good.java", "class Good { }")
            handle.writestr(name, "class Evil { }")
    else:
        with tarfile.open(archive, "w") as handle:
            for member in ("ok/Good.java", name):
                item = tarfile.TarInfo(member)
                item.size = 3
                handle.addfile(item, io.BytesIO(b"abc"))
    scratch = tmp_path / "deep" / "scratch"
    with pytest.raises(UserError, match="points outside the archive"):
        find_projects([archive], scratch)
    assert not any(path.is_file() for path in scratch.rglob("*"))
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == [archive.name]


def test_links_in_an_archive_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "Secret.java").write_text("class Secret { }")
    archive = tmp_path / "links.tar"
    with tarfile.open(archive, "w") as handle:
        link = tarfile.TarInfo("p/src")
        link.type, link.linkname = tarfile.SYMTYPE, str(tmp_path / "secret")
        handle.addfile(link)
        through = tarfile.TarInfo("p/src/New.java")
        through.size = 3
        handle.addfile(through, io.BytesIO(b"abc"))
    find_projects([archive], tmp_path / "scratch")
    assert [path.name for path in (tmp_path / "secret").iterdir()] == ["Secret.java"]


def test_declared_sizes_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    archive = tmp_path / "huge.tar"
    item = tarfile.TarInfo("p/Huge.java")
    item.size = 1 << 40
    archive.write_bytes(item.tobuf() + b"\0" * 1024)
    with pytest.raises(UserError, match="unpack it yourself"):
        find_projects([archive], tmp_path / "scratch")
    assert not (tmp_path / "scratch").exists()


def test_a_large_or_binary_file_is_left_out_and_counted(tmp_path: Path) -> None:
    big = "class Big { }" + " " * 5000
    files = {TEST_FILE: test_class(BODY), "src/main/java/Big.java": big, "src/main/java/Bin.java": b"a\0b"}
    write_project(tmp_path / "shop", files)
    done = run("--source", tmp_path / "shop", "--output", tmp_path / "raw.jsonl", "--max_file_bytes", 4000)
    assert json.loads(done.stdout)["left_out"]["file"] == {"file is not text": 1, "file too large": 1}


def test_names_and_annotations_do_not_tell_tests_apart() -> None:
    body = '() { Foo foo = new Foo(); assertEquals("x", foo.name()); }'
    heads = ("@Test", '@Test @DisplayName("first (1)")', "@org.junit.Test(timeout = 5)", '@A({"("}) @B', "public")
    keys = {duplicate_key(f"{head} void t{i}{body}") for i, head in enumerate(heads)}
    assert len(keys) == 1
    assert duplicate_key("@Test void t(int x) { f(); }") not in keys
    assert duplicate_key("@Test") == ()


def test_tests_similar_to_those_of_a_held_out_project_are_left_out(tmp_path: Path) -> None:
    body = " ".join(f"count += {i} * count;" for i in range(9))
    main = f"package shop;\npublic class Tally {{ int count; public int total() {{ {body} return count; }} }}\n"
    for name, lines in (
        ("a", "int one = 1; int two = one;"),
        ("b", 'String word = "w"; word.trim(); Object o = null;'),
    ):
        test = f"@Test public void t() {{ {lines} assertEquals(0, new Tally().total()); }}"
        files = {
            "src/main/java/shop/Tally.java": main,
            "src/test/java/shop/TallyTest.java": test_class(test, "TallyTest"),
        }
        write_project(tmp_path / "all" / name, files)
    done = run("--source", tmp_path / "all", "--output", tmp_path / "raw.jsonl", "--hold_out_projects", "b")
    assert {row["source"]["project"] for row in rows(tmp_path / "raw.jsonl")} == {"b"}
    assert json.loads(done.stdout)["left_out"]["test"] == {"kin of a held-out project": 1}


def test_a_split_that_stays_empty_is_said(tmp_path: Path) -> None:
    write_project(tmp_path / "shop", {TEST_FILE: test_class(BODY)})
    done = run("--source", tmp_path / "shop", "--output", tmp_path / "raw.jsonl", "--split_by", "class")
    assert done.returncode == 0 and "small enough for the validation split" in done.stderr


def test_a_source_is_never_written_over(tmp_path: Path) -> None:
    row = {"test_method": "@Test void t() { assertEquals(1, f()); }", "focal_method": "int f() { return 1; }"}
    source = tmp_path / "raw_training.jsonl"
    source.write_text(json.dumps(row) + "\n")
    for named in (source, tmp_path):
        done = run("--importer", "jsonl", "--source", named, "--output", tmp_path / "raw.jsonl")
        assert done.returncode == 2 and "is one of the sources" in done.stderr and done.stderr.count("\n") == 1
    assert json.loads(source.read_text()) == row


def test_a_file_name_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    write_project(tmp_path / "shop", {TEST_FILE: test_class(BODY)})
    (tmp_path / "shop" / os.fsdecode(b"src/test/java/shop/X\xe8Test.java")).write_text(test_class(BODY, "XTest"))
    done = run("--source", tmp_path / "shop", "--output", tmp_path / "raw.jsonl")
    assert done.returncode == 0, done.stderr
    assert {row["source"]["test_file"] for row in rows(tmp_path / "raw.jsonl")} == {TEST_FILE}


@pytest.mark.parametrize("kind", ["tar", "tar.xz", "tar.gz", "zip"])
def test_a_damaged_archive_is_refused_whole(tmp_path: Path, kind: str) -> None:
    write_project(tmp_path / "shop", {TEST_FILE: test_class(BODY)})
    path = tmp_path / f"shop.{kind}"
    mode = {"tar": "w", "tar.xz": "w:xz", "tar.gz": "w:gz"}.get(kind)
    _tar(path, tmp_path / "shop", mode) if mode else _zip(path, tmp_path / "shop")
    whole = path.read_bytes()
    middle = len(whole) // 2
    harmed = whole[:middle] + bytes(byte ^ 0x5A for byte in whole[middle : middle + 600]) + whole[middle + 600 :]
    for content in (harmed, whole[: len(whole) // 3]):
        path.write_bytes(content)
        done = run("--source", path, "--output", tmp_path / "raw.jsonl")
        assert done.returncode == 2 and "not a readable" in done.stderr, done.stderr
        assert done.stderr.count("\n") == 1


# -- bad input: one clear line --------------------------------------------------


def test_bad_sources_each_get_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.zip").write_bytes(b"PK\x03\x04 not really")
    (tmp_path / "note.txt").write_text("hello")
    write_project(tmp_path / "untested", {})
    write_project(tmp_path / "twice" / "shop", {TEST_FILE: test_class(BODY)})
    write_project(tmp_path / "shop", {TEST_FILE: test_class(BODY)})
    cases = [
        (["missing"], "does not exist"),
        (["empty"], "holds no Java files"),
        (["broken.zip"], "not a readable tar or zip archive"),
        (["note.txt"], "not a readable tar or zip archive"),
        (["untested"], "no usable test was found"),
        (["shop", "twice/shop"], "two projects are called shop"),
    ]
    for names, message in cases:
        done = run("--source", *(tmp_path / name for name in names), "--output", tmp_path / "raw.jsonl")
        assert done.returncode == 2, (names, done.stdout)
        assert done.stderr.startswith("error: --source") and message in done.stderr
        assert done.stderr.count("\n") == 1
        assert str(tmp_path) in done.stderr or "untested" in names or "twice" in names[-1]
    assert not (tmp_path / "raw.jsonl").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--hold_out_projects", "nope"], "nope: no such project among the tasks; there are shop"),
        (["--validation_fraction", "0.6", "--test_fraction", "0.5"], "must be below 1"),
        (["--test_fraction", "1.5"], "must lie in"),
        (["--max_test_tokens", "0"], "must be at least 1"),
        (["--importer", "java2"], "invalid choice"),
    ],
)
def test_bad_flags(tmp_path: Path, flags: list[str], message: str) -> None:
    write_project(tmp_path / "shop", {TEST_FILE: test_class(BODY)})
    done = run("--source", tmp_path / "shop", "--output", tmp_path / "raw.jsonl", *flags)
    assert done.returncode == 2
    assert message in done.stderr


# -- near duplicates --------------------------------------------------


def test_near_duplicates_agree_with_all_pairs() -> None:
    """Greedy choice against every kept document, with Jaccard computed from the token runs themselves."""
    generator = random.Random(5)
    base = [[generator.choice("abcdefghijkl") for _ in range(60)] for _ in range(12)]
    documents = []
    for tokens in base:
        for changes in (0, 0, 1, 2, 4, 8, 16):
            changed = list(tokens)
            for place in generator.sample(range(60), changes):
                changed[place] = generator.choice("mnop")
            documents.append(changed)
    generator.shuffle(documents)

    kept: list[set[tuple[str, ...]]] = []
    expected = []
    for tokens in documents:
        runs = {tuple(tokens[i : i + 5]) for i in range(len(tokens) - 4)}
        new = all(len(runs & other) / len(runs | other) < 0.8 for other in kept)
        expected.append(new)
        if new:
            kept.append(runs)
    memory = NearDuplicates(0.8)
    assert [memory.add(tokens) is not None for tokens in documents] == expected
    assert 12 < sum(expected) < len(documents)


def test_minhash_collides_as_often_as_the_documents_are_alike() -> None:
    memory = NearDuplicates()
    common = [f"t{i}" for i in range(400)]
    left, right = shingles(common), shingles(common[:300] + [f"u{i}" for i in range(100)])
    rate = float(np.mean(memory.signature(left) == memory.signature(right)))
    assert rate == pytest.approx(jaccard(left, right), abs=4 * np.sqrt(0.25 / 128))


def test_documents_shorter_than_a_shingle() -> None:
    memory = NearDuplicates()
    assert memory.add(["a"]) == []
    assert memory.add(["b"]) == []
    assert memory.add(["a"]) is None
    assert memory.add([]) == []


def test_alike_documents_are_named() -> None:
    memory = NearDuplicates(0.8)
    tokens = [f"t{i}" for i in range(40)]
    assert memory.add(tokens) == []
    assert memory.add([f"u{i}" for i in range(40)]) == []
    assert jaccard(shingles(tokens), shingles(tokens[:30] + ["x"] * 10)) >= KIN
    assert memory.add(tokens[:30] + ["x"] * 10) == [0]


# -- splits --------------------------------------------------

names = st.sampled_from([f"class{i}" for i in range(25)])
linked = st.lists(st.tuples(st.lists(names, min_size=1, max_size=3), st.integers(1, 30)), min_size=1, max_size=60)


@settings(max_examples=200, deadline=None)
@given(linked, st.integers(0, 5))
def test_kin_are_never_parted(tests: list[tuple[list[str], int]], seed: int) -> None:
    links, sizes = [test[0] for test in tests], [test[1] for test in tests]
    splits = assign(group_kin(links), sizes, 0.2, 0.1, seed)
    for i, left in enumerate(links):
        for j, right in enumerate(links):
            if set(left) & set(right):
                assert splits[i] == splits[j]
    total = sum(sizes)
    for name, fraction in (("validation", 0.2), ("test", 0.1)):
        assert sum(size for size, split in zip(sizes, splits, strict=True) if split == name) <= round(fraction * total)


def test_groups_do_not_depend_on_the_order() -> None:
    links = [["b", "c"], ["a"], ["c", "d"], ["e", "a"], ["f"]]
    assert group_kin(links) == ["b", "a", "b", "a", "f"]
    assert group_kin(links[::-1]) == ["f", "a", "b", "a", "b"]


def test_unlinked_groups_fill_the_fractions() -> None:
    splits = assign([f"g{i}" for i in range(1000)], [1] * 1000, 0.1, 0.2, seed=1)
    assert [splits.count(name) for name in ("train", "validation", "test")] == [700, 100, 200]


def test_no_large_group_fills_a_split_that_small_ones_can_fill() -> None:
    sizes = [90, 80, 60, *[5] * 200]
    groups = [f"g{i}" for i in range(len(sizes))]
    for seed in range(20):
        assert assign(groups, sizes, 0.1, 0.1, seed)[:3] == ["train"] * 3
    scarce = assign(groups[:23], sizes[:23], 0.3, 0.3, seed=0)  # 100 tasks in small groups, for 99 + 99
    assert all(scarce[3:].count(name) == 10 for name in ("test", "validation")), "each split gets half of them"
    few = [assign(groups[:13], sizes[:13], 0.4, 0.4, seed) for seed in range(20)]
    assert any("test" in splits[:3] for splits in few), "where small ones do not suffice, a large one may"


def test_test_classes_that_extend_each_other_are_kin(tmp_path: Path) -> None:
    second = "package shop;\nclass SecondTest extends StackTest { @org.junit.Test public void u() { %s } }\n"
    lines = 'org.junit.Assert.assertEquals("aa", shop.util.Texts.twice("a"));'
    files = {TEST_FILE: test_class(BODY), "src/test/java/shop/SecondTest.java": second % lines}
    write_project(tmp_path / "shop", files)
    for seed in range(2):
        done = run(
            "--source",
            tmp_path / "shop",
            "--output",
            tmp_path / "raw.jsonl",
            "--split_by",
            "class",
            "--seed",
            seed,
            "--test_fraction",
            0.5,
            "--validation_fraction",
            0,
            "--workers",
            1,
        )
        assert done.returncode == 0, done.stderr
        found = rows(tmp_path / "raw.jsonl")
        assert len(found) == 2
        assert {row["source"]["split"] for row in found} == {"train"}, "half of a pair of kin fits, the pair does not"
