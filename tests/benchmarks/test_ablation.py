"""The ablation driver on a grid of seconds: runs what is missing, keeps what is stored, reads the page off it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.ablation import ROOT, call, name_outcome, read_clusters
from benchmarks.ablation_report import judge_aims, tabulate_scores, write_page
from benchmarks.ablation_statistics import (
    SeedSpread,
    adjust_p_values,
    compare,
    count_effective_clusters,
    pool_seed_spread,
    share_of_teacher,
    show_score,
)
from benchmarks.grid import Grid
from benchmarks.tables import fill_tables
from data.java.tokens import coarse_tokens
from data.rows.readers import PLACEHOLDER
from tests.helpers.commands import run_script
from tests.helpers.mining_fixtures import SOURCES, test_class, write_project

GRID = {
    "title": "Results",
    "about": "A grid of seconds.",
    "teacher": {},
    "student": {
        "model_name": "scratch:tiny",
        "epochs": 1,
        "batch_size": 8,
        "gradient_accumulation_steps": 1,
        "lr": 2e-3,
        "max_input_len": 96,
        "max_output_len": 32,
        "embedding_model": "embedded:minilm",
        "num_workers": 0,
        "device": "cpu",
        "validation_frequency": 0,
        "early_stopping_patience": 0,
        "no_tensorboard": True,
    },
    "contenders": {
        "gold only": {"loss_components": ["ce"]},
        "sequence level": {"loss_components": ["ce"], "targets": "teacher"},
        "focal + jsd": {"loss_components": ["focal", "jsd"]},
    },
    "questions": [
        {"question": "harm?", "contender": "sequence level", "against": "gold only", "metrics": ["f1", "pass_rate"]},
    ],
    "stages": {
        "core": {"seeds": [1], "rows": [16], "contenders": ["gold only", "focal + jsd"]},
        "more": {"seeds": [1], "rows": [16], "contenders": ["gold only", "sequence level"]},
    },
}


@pytest.fixture
def grid(tmp_path: Path, teacher_run: Path) -> tuple[Path, Path]:
    """A grid file, and the folder of its runs, in which the teacher is ready."""
    path, work = tmp_path / "grid.json", tmp_path / "work"
    path.write_text(json.dumps(GRID))
    shutil.copytree(teacher_run, work / "teacher")
    return path, work


def test_students_are_judged_on_held_out_libraries(grid, raw_data, tmp_path):
    path, work = grid
    flags = {"student_limit": 4, "teacher_limit": 4, "embedding_model": "none", "latency_samples": 0, "device": "cpu"}
    settings = GRID | {
        "held_out": {
            "one": flags | {"teacher_data": str(raw_data[1])},
            "two": flags | {"teacher_data": str(raw_data[0])},
        }
    }
    settings["stages"] = {
        "core": {"seeds": [1], "rows": [16], "contenders": ["gold only", "focal + jsd"]},
        "rest": {"seeds": [1], "rows": [16], "contenders": ["sequence level"], "held_out": False},
    }
    path.write_text(json.dumps(settings))
    ablation(path, "--work", work)
    assert ablation(path, "--work", work, "--list").count("done") == 3
    stored = path.with_suffix("")
    assert not list(stored.glob("sequence_level*.one.json"))
    parts = [json.loads((stored / f"gold_only-16-seed1.{library}.json").read_text()) for library in ("one", "two")]
    assert [len(part["per_task"]["f1"]) for part in parts] == [4, 4]
    # The first student's evaluation has the baselines, the second one's leaves them out.
    assert "assertTrue(true)" in (work / "gold_only-16-seed1.one.log").read_text()
    assert "assertTrue(true)" not in (work / "focal_jsd-16-seed1.one.log").read_text()
    page = page_of(path)
    assert "## Held-out libraries: one and two" in page and "\n8 tasks of " in page
    assert re.search(r"\| two +\| gold only +\| +16 \|", page) and re.search(r"\| one +\| teacher ", page)
    both = np.mean([part["per_task"]["f1"] for part in parts])
    assert f"{both:.3f} (" in page.partition("## Held-out libraries")[2].partition("Every score")[2]
    result = stored / "gold_only-16-seed1.json"
    kept = result.read_text()
    result.unlink()  # as the line that tells of other flags says
    assert "| gold only" not in page_of(path).partition("### 16 training rows")[2].partition("Every score")[0]
    result.write_text(kept)
    path.write_text(json.dumps(settings | {"held_out": settings["held_out"] | {"two": flags}}))
    error = ablation(path, "--work", work, "--list", check=False)
    assert "seed1.two.json: made with other flags" in error and len(error.strip().splitlines()) == 1


def test_a_longer_training_has_its_own_table(grid):
    path, work = grid
    stages = {
        name: {"seeds": [1], "rows": [16], "passes": [passes], "contenders": ["gold only", "focal + jsd"]}
        for name, passes in (("short", 1), ("long", 2))
    }
    path.write_text(json.dumps(GRID | {"stages": stages}))
    ablation(path, "--work", work)
    steps = {f.stem: json.loads(f.read_text())["steps"] for f in path.with_suffix("").glob("gold*.json")}
    assert steps == {"gold_only-16-1passes-seed1": 2, "gold_only-16-2passes-seed1": 4}
    page = page_of(path)
    assert page.index("16 training rows, 2 passes") < page.index("16 training rows, 1 pass\n")
    assert page.count("of the teacher's code_quality_score") == 2  # both have all rows that there are


def test_students_are_judged_on_rows_that_did_not_choose_the_model(grid, raw_data, tmp_path):
    path, work = grid
    settings = GRID | {
        "student": GRID["student"] | {"no_final_evaluation": True},
        "judged": {
            "teacher_data": str(raw_data[0]),
            "student_limit": 3,
            "teacher_limit": 3,
            "embedding_model": "embedded:minilm",
            "latency_samples": 0,
            "device": "cpu",
            "num_beams": 2,
        },
    }
    path.write_text(json.dumps(settings))
    ablation(path, "--work", work, "--task", 0, "--no_judging")
    model = work / "gold_only-16-seed1" / "final_model" / "model.safetensors"
    before = model.stat().st_mtime_ns
    assert "done" not in ablation(path, "--work", work, "--list")
    ablation(path, "--work", work, "--task", 0)
    assert model.stat().st_mtime_ns == before
    stored = json.loads((path.with_suffix("") / "gold_only-16-seed1.json").read_text())
    assert len(stored["per_task"]["f1"]) == 3 and stored["steps"] == 2
    baselines = json.loads((path.with_suffix("") / "baselines.json").read_text())
    assert {"teacher", "retrieval", "trivial", "clusters", "shared"} == set(baselines)
    assert baselines["teacher"]["parameters"]
    assert baselines["clusters"] == ["0", "1", "2"]  # these rows name no class
    assert not (work / "gold_only-16-seed1" / "predictions_final.jsonl").exists()


def test_a_class_of_the_same_name_in_a_fork_is_the_same_cluster(tmp_path):
    names = ["org.apache.commons.lang.StringTest", "org.apache.commons.lang3.StringTest", "a.FooTest$Nested"]
    rows = [{"index": i, "source": {"project": str(i), "test_class": name}} for i, name in enumerate(names)]
    (tmp_path / "predictions_final.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_clusters(tmp_path) == ["StringTest", "StringTest", "FooTest"]


def ablation(*words: object, check: bool = True) -> str:
    done = run_script("benchmarks/ablation.py", *words, check=check)
    return done.stdout if check else done.stderr


def test_a_grid_is_run_stored_and_read(grid, tmp_path):
    path, work = grid
    assert "3/3 done" in ablation(path, "--work", work)
    stored = {file.stem for file in path.with_suffix("").glob("*.json")}
    assert stored == {"baselines", "gold_only-16-seed1", "focal_jsd-16-seed1", "sequence_level-16-seed1"}
    run = json.loads((path.with_suffix("") / "sequence_level-16-seed1.json").read_text())
    trained_on = [json.loads(line) for line in (work / "teacher_as_target.jsonl").read_text().splitlines()]
    said = [
        json.loads(line) for line in (work / "teacher/distillation_data_training.jsonl").read_text().splitlines()[1:]
    ]
    assert [row["assertions"] for row in trained_on] == [
        [r["teacher_prediction"]] for r in said if r["teacher_prediction"]
    ]
    assert run["steps"] == 2 and run["train_seconds"] > 0
    scores = run["per_task"]["f1"]
    assert len(scores) == 20

    assert ablation(path, "--work", work, "--list").count("done") == 3
    before = (path.with_suffix("") / "gold_only-16-seed1.json").stat().st_mtime_ns
    ablation(path, "--work", work, "--task", 0)
    assert (path.with_suffix("") / "gold_only-16-seed1.json").stat().st_mtime_ns == before

    page = tmp_path / "results.md"
    ablation(path, "--report", page)
    header, line, every, scored, _, differ, _, wrong = (
        re.split(r" *\| *", row) for row in page.read_text().splitlines() if re.match(r"\| *(contender|seq)", row)
    )
    gold = json.loads((path.with_suffix("") / "gold_only-16-seed1.json").read_text())["per_task"]["f1"]
    (answer,) = re.findall(r"\| harm\? .*", page.read_text())
    assert f"{np.mean(scores) - np.mean(gold):+.3f}" in answer and answer.split("|")[4].strip() == "f1"
    shown = float(line[header.index("f1")])
    assert shown == pytest.approx(np.mean(scores), abs=6e-4)
    for name in ("f1", "codebleu", "pans", "token_similarity"):
        mine, theirs = (
            np.mean(json.loads((path.with_suffix("") / f"{who}-16-seed1.json").read_text())["per_task"][name])
            for who in ("sequence_level", "gold_only")
        )
        assert float(scored[every.index(name)].split()[0]) == pytest.approx(mine, abs=6e-4)
        assert float(differ[every.index(name)].split()[0]) == pytest.approx(mine - theirs, abs=6e-4)
    assert "retrieval" in page.read_text() and "A grid of seconds." in page.read_text()
    kinds = run["failures"]
    assert sum(one["tasks"] for one in kinds.values()) == len(scores)
    assert {f"{one['tasks'] / len(scores):.1%}" for one in kinds.values()} <= set(wrong)


def run(seed: int, *scores: float | None) -> dict:
    return {"seed": seed, "parameters": 1, "per_task": {"f1": list(scores)}}


def test_contenders_are_compared_over_the_seeds_that_both_have():
    first = [run(1, 0.5, 0.7, 0.9), run(2, 0.0, 0.0, 0.0)]
    second = [run(1, 0.4, 0.5, 0.3), run(3, 1.0, 1.0, 1.0)]
    found = compare(first, second, "f1", ["a", "b", "c"], SeedSpread())
    assert found.value == pytest.approx(0.3) and found.p_value is None and adjust_p_values({"a": found}) == {"a": None}
    assert compare(first, second[1:], "f1", ["a", "b", "c"], SeedSpread()) is None
    assert compare(first, second, "pass_rate", ["a", "b", "c"], SeedSpread()) is None


def test_a_task_that_one_side_lacks_is_left_out_on_both():
    full, partial = run(1, 1, 1, 0, 0, 0, 0), run(1, 1, 1, 0, 0, None, None)
    assert compare([partial], [full], "f1", list("abcdef"), SeedSpread()).value == 0


@pytest.mark.parametrize("of_seeds", [0.0, 0.02, 0.1])
def test_equal_students_are_seldom_called_different(of_seeds):
    """Six contenders that are the same in truth, three seeds each: the share of false alarms of a pair is that of p."""
    generator = np.random.default_rng(0)
    clusters = [str(number // 4) for number in range(100)]

    def contender(level):
        means = level + generator.normal(0, of_seeds, 3)
        return [run(seed, *generator.normal(mean, 0.1, 100)) for seed, mean in enumerate(means)]

    wrong = 0
    for _ in range(200):
        runs = {name: contender(0.3) for name in "abcdef"}
        wrong += compare(runs["a"], runs["b"], "f1", clusters, pool_seed_spread(runs, "f1")).p_value < 0.05
    assert wrong <= 20
    runs["a"] = contender(0.3 + 0.05 + 4 * of_seeds)
    assert compare(runs["a"], runs["b"], "f1", clusters, pool_seed_spread(runs, "f1")).p_value < 0.05


def test_only_differences_beyond_chance_get_a_star():
    generator = np.random.default_rng(2)
    levels = {"gold only": 0.5, "better": 0.7, "equal": 0.5}
    runs = {name: [run(seed, *generator.normal(at, 0.1, 100)) for seed in (1, 2, 3)] for name, at in levels.items()}
    alone = {"parameters": 1, "per_task": {"f1": [0.5] * 100}}
    baselines = dict.fromkeys(("teacher", "retrieval", "trivial"), alone)
    page = tabulate_scores({"clusters": [str(n) for n in range(100)], **baselines}, runs)[-1]
    starred = [line.split("|")[1].strip() for line in page.splitlines() if line.rstrip(" |").endswith("*")]
    assert starred == ["better"]


def test_the_best_of_many_equal_students_is_not_called_ahead():
    generator = np.random.default_rng(1)
    clusters = [str(number) for number in range(100)]
    baselines = {"clusters": clusters, "retrieval": {"per_task": {"f1": [0.5] * 100}}}
    baselines |= {"teacher": {"parameters": 4, "per_task": {"code_quality_score": [0.5] * 100}}}
    ahead = 0
    for _ in range(20):
        runs = {}
        for name in ("gold only", *"abcdefghij"):
            runs[name] = [run(seed, *generator.normal(0.5, 0.1, 100)) for seed in (1, 2)]
            for one in runs[name]:
                one["per_task"]["code_quality_score"] = one["per_task"]["f1"]
        (line,) = (line for line in judge_aims(baselines, runs)[-1].splitlines() if "retrieval" in line)
        ahead += "reached" in line
    assert ahead <= 3


def test_pretraining_masks_statements_next_to_a_method_that_they_call(tmp_path):
    files = {"src/test/java/shop/StackTest.java": test_class("void helper() { push(new int[] { 1, 2, 3 }); }")}
    for name in ("kept", "held"):
        write_project(tmp_path / "all" / name, files)
    out = tmp_path / "rows.jsonl"
    words = ["--source", tmp_path / "all", "--output", out, "--hold_out_projects", "held"]
    run_script("benchmarks/masked_statements.py", *words)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    sources = [" ".join(coarse_tokens(text)) for text in SOURCES.values()]
    for row in rows:
        whole = " ".join(coarse_tokens(row["test_method_masked"].replace(PLACEHOLDER, row["assertion"])))
        assert any(whole in source for source in sources), row
    masked = {row["assertion"]: row["focal_method"] for row in rows}
    assert masked["stack.pushAll(items);"] == "public void pushAll(int... many) { for (int one : many) { push(one); } }"
    assert masked["items[count++] = item;"] == "public int position() { return count; }"
    run_script("benchmarks/masked_statements.py", *words, "--rows", 3)
    assert len(out.read_text().splitlines()) == 3
    error = run_script("benchmarks/masked_statements.py", *words, "--hold_out_projects", "nope", check=False).stderr
    assert "nope: no such project" in error and len(error.strip().splitlines()) == 1


def test_pretraining_runs_before_the_students_that_need_it(grid, raw_data, tmp_path):
    path, work = grid
    shutil.rmtree(work / "teacher")
    shared = {"max_train_samples": 16, "max_val_samples": 4, "epochs": 1, "batch_size": 8, "val_data_path": raw_data[1]}
    shared |= {key: value for key, value in GRID["student"].items() if key not in ("batch_size", "epochs")}
    common = {key: str(value) for key, value in shared.items() if value is not True} | {
        "no_tensorboard": True,
        "train_data_path": str(raw_data[0]),
        "no_final_evaluation": True,
    }
    settings = GRID | {
        "pretrain": {"first": {**common, "no_create_distillation_dataset": True}},
        "teacher": {**common, "model_name": "$WORK/first/final_model"},
    }
    path.write_text(json.dumps(settings))
    ablation(path, "--work", work, "--teacher")
    config = json.loads((work / "teacher" / "run_config.json").read_text())
    assert str(work / "first" / "final_model") in json.dumps(config)
    before = (work / "first" / "final_model" / "config.json").stat().st_mtime_ns
    (work / "teacher" / "distillation_data_training.jsonl").unlink()
    ablation(path, "--work", work, "--teacher")
    assert (work / "first" / "final_model" / "config.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--task", "3"], "tasks 0 to 2"),
        (["--stage", "cor"], "core, more"),
        (["--report", "page.md"], "no stored results"),
        ([], "--work"),
    ],
)
def test_a_grid_that_cannot_run_is_refused_in_one_line(grid, words, said):
    path, work = grid
    words = [*words, "--work", work] if words and words[0] != "--report" else words
    error = ablation(path, *words, check=False)
    assert said in error and len(error.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"stages": {"core": {"seeds": [1], "contenders": ["gold only"]}}}, "'rows'"),
        ({"stages": [1]}, "another shape"),
        ({"held_out": {"num_beams": 2}}, "another shape"),
        ({"student": {"lr": 1e-3}}, "'epochs'"),
        ({"questions": [{"question": "", "contender": "gold", "against": "gold only", "metrics": ["f2"]}]}, "f2, gold"),
        (
            {
                "contenders": {name: {} for name in ("gold only", "gold-only", "focal + jsd", "sequence level")},
                "stages": {"core": {"seeds": [1], "rows": [1], "contenders": ["gold only", "gold-only"]}},
            },
            "other names",
        ),
        (
            {
                "stages": {
                    name: {"seeds": [1], "rows": [1], "contenders": ["gold only"], **more}
                    for name, more in (("one", {}), ("two", {"passes": [1]}))
                }
            },
            "the same students",
        ),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused_in_one_line(grid, changed, said):
    path, work = grid
    path.write_text(json.dumps(GRID | changed))
    error = ablation(path, "--work", work, "--list", check=False)
    assert said in error and len(error.strip().splitlines()) == 1


def test_results_of_other_flags_are_not_taken_for_those_of_the_grid(grid):
    path, work = grid
    stored = path.with_suffix("") / "gold_only-16-seed1.json"
    stored.parent.mkdir()
    stored.write_text(json.dumps({"flags": GRID["student"] | GRID["contenders"]["gold only"]}))
    assert "done" in ablation(path, "--work", work, "--list")
    path.write_text(json.dumps(GRID | {"student": GRID["student"] | {"lr": 1e-3}}))
    for words in (["--list"], ["--task", "0"]):
        error = ablation(path, "--work", work, *words, check=False)
        assert "other flags" in error and len(error.strip().splitlines()) == 1


def test_results_of_another_teacher_or_judgement_are_not_taken_for_those_of_the_grid(grid):
    path, work = grid
    ablation(path, "--work", work, "--task", 0)
    path.write_text(json.dumps(GRID | {"about": "Other words.", "questions": []}))
    assert ablation(path, "--work", work, "--list").count("done") == 1
    for changed in ({"teacher": {"epochs": 2}}, {"judged": {"num_beams": 2}}):
        path.write_text(json.dumps(GRID | changed))
        assert "other flags" in ablation(path, "--work", work, "--list", check=False)


def test_students_of_several_teachers_are_not_compared(grid):
    path, work = grid
    ablation(path, "--work", work, "--stage", "core")
    stored = path.with_suffix("") / "gold_only-16-seed1.json"
    found = json.loads(stored.read_text())
    assert len(found["teacher"]) == 16
    stored.write_text(json.dumps(found | {"teacher": "0" * 16}))
    assert "several teachers" in ablation(path, "--report", path.parent / "page.md", check=False)


CHILD = """
import signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(85))
open(sys.argv[1], "w").close()
time.sleep(60)
"""


def test_a_signal_reaches_the_run(tmp_path):
    script, ready = tmp_path / "child.py", tmp_path / "ready"
    script.write_text(CHILD)

    def send():
        while not ready.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGUSR1)

    before = signal.getsignal(signal.SIGUSR1)
    threading.Thread(target=send, daemon=True).start()
    assert call([str(script), str(ready)], tmp_path / "log") == 85
    assert signal.getsignal(signal.SIGUSR1) == before


def test_steps_and_bytes_are_those_of_the_rows_used(grid):
    path, work = grid
    ablation(path, "--work", work)
    stored = {
        name: json.loads((path.with_suffix("") / f"{name}-16-seed1.json").read_text())
        for name in ("gold_only", "focal_jsd")
    }
    lines = (work / "teacher/distillation_data_training.jsonl").read_text().splitlines()[1:17]
    whole = sum(len(line.encode()) + 1 for line in lines)
    logits = sum(len(json.loads(line)["teacher_logits_compressed"]) for line in lines)
    assert stored["focal_jsd"]["data_bytes"] == whole and stored["gold_only"]["data_bytes"] == whole - logits
    assert "What is wrong first:" in page_of(path)


def page_of(path: Path) -> str:
    page = path.parent / "page.md"
    ablation(path, "--report", page)
    return page.read_text()


def test_what_running_showed_is_counted_and_read(grid):
    path, work = grid
    ablation(path, "--work", work, "--stage", "core")
    assert "What running showed:" not in page_of(path)
    for file in path.with_suffix("").glob("*.json"):
        stored = json.loads(file.read_text())
        for one in [stored] if "flags" in stored else [stored[name] for name in ("teacher", "retrieval", "trivial")]:
            example = {"reference": "a();", "prediction": "b();", "reason": "cannot find\nsymbol b\0"}
            one["executions"] = {
                "does not compile": {"tasks": 3, "example": example},
                "passes and can fail": {"tasks": 1, "example": example | {"reason": None}},
            }
        file.write_text(json.dumps(stored))
    page = page_of(path)
    assert "What running showed:" in page
    assert re.search(r"\| gold only +\| 75.0% +\| 25.0% +\|", page)
    assert re.search(r"\| does not compile +\| ``b\(\);`` +\| ``a\(\);`` +\| cannot find symbol b\\u0000 +\|", page)


@pytest.mark.parametrize(
    ("compiled", "passed", "nontrivial", "said"),
    [
        (None, None, None, "the test cannot tell"),
        (False, False, False, "does not compile"),
        (True, False, False, "fails"),
        (True, True, True, "passes and can fail"),
        (True, True, False, "passes whatever the code does"),
        (True, True, None, "passes"),
    ],
)
def test_the_last_gate_that_a_prediction_passed_is_counted(compiled, passed, nontrivial, said):
    assert name_outcome({"compiled": compiled, "passed": passed, "nontrivial": nontrivial}) == said


def test_the_share_of_the_teacher_has_an_interval():
    clusters = [str(number // 2) for number in range(40)]
    generator = np.random.default_rng(0)
    theirs = generator.uniform(0.4, 0.8, 40)
    teacher = run(0, *theirs)
    exact = share_of_teacher([run(1, *(0.9 * theirs)), run(2, *(0.8 * theirs))], teacher, "f1", clusters)
    assert (exact.value, exact.low, exact.high) == pytest.approx((0.85, 0.85, 0.85))
    noisy = share_of_teacher([run(1, *(0.9 * theirs + generator.normal(0, 0.1, 40)))], teacher, "f1", clusters)
    assert noisy.low < noisy.value < noisy.high
    assert noisy.high - noisy.low == pytest.approx(2 * 1.96 * 0.1 / 40**0.5 / theirs.mean(), rel=0.3)
    assert share_of_teacher([run(1, *theirs)], run(0, *np.zeros(40)), "f1", clusters) is None


def test_effective_clusters_are_fewer_where_sizes_differ():
    assert count_effective_clusters(list("aabbcc")) == pytest.approx(3)
    assert count_effective_clusters(list("aaaabc")) == pytest.approx(2)


def test_rates_stay_between_0_and_1_and_are_never_certain():
    clusters = [str(number) for number in range(20)]
    assert show_score(np.zeros((1, 20)), clusters, SeedSpread()) == "0.000 (0.000 to 0.161)"
    assert show_score(np.ones((2, 20)), clusters, SeedSpread(0.0, 3)) == "1.000 (0.839 to 1.000)"
    assert "(0.000 to 0." in show_score(np.eye(20)[:1], clusters, SeedSpread())


def test_the_aim_is_asked_of_the_small_ones_and_missed_by_gold_labels():
    one = {"code_quality_score": [0.5, 0.6, 0.7, 0.6], "f1": [0.5, 0.6, 0.7, 0.6]}
    better = {key: [value + 0.1 for value in values] for key, values in one.items()}
    runs = {
        "gold only": [{"seed": 1, "parameters": 3, "per_task": one}],
        "large": [{"seed": 1, "parameters": 4, "per_task": better}],
    }
    alone = {"parameters": 10, "per_task": better}
    title, judged = judge_aims({"teacher": alone, "retrieval": alone, "clusters": list("abcd")}, runs)
    assert "small enough" in title and "**gold only**" in title and "| 30%" in judged
    last = [cell.strip() for cell in judged.splitlines()[-1].split("|")]
    assert last[1] == "code_quality_score minus gold only" and last[-2] == "missed"


def test_a_task_of_two_stages_belongs_to_both(grid):
    path, work = grid
    ablation(path, "--work", work, "--stage", "more")
    assert (path.with_suffix("") / "gold_only-16-seed1.json").is_file()


def test_an_array_waits_for_its_teacher(grid):
    path, work = grid
    shutil.rmtree(work / "teacher")
    assert "--teacher" in ablation(path, "--work", work, "--task", 0, check=False)


def test_the_slurm_array_has_as_many_tasks_as_its_grid() -> None:
    script = (ROOT / "slurm_scripts" / "ablation_array.sh").read_text()
    grid = re.search(r"GRID:-(\S+)}", script)
    last = re.search(r"--array=0-(\d+)", script)
    assert grid and last
    assert len(Grid(ROOT / grid[1], None).tasks) == int(last[1]) + 1


def test_packed_results_are_read_like_files_and_the_grid_goes_on(grid):
    path, work = grid
    path.write_text(json.dumps(GRID, indent=2))
    ablation(path, "--work", work, "--stage", "core")
    folder, archive = path.with_suffix(""), path.with_suffix(".results.json.xz")
    page, files = page_of(path), {file.name: file.read_bytes() for file in folder.iterdir()}
    assert "3 packed" in ablation(path, "--pack") and not folder.exists()
    assert json.loads(path.read_text()).items() > GRID.items()  # the rest of the grid is untouched
    assert page_of(path) == page
    assert ablation(path, "--work", work, "--list").count("done") == 2
    ablation(path, "--work", work)
    assert [file.stem for file in folder.iterdir()] == ["sequence_level-16-seed1"]
    assert ablation(path, "--work", work, "--list").count("done") == 3
    longer = page_of(path)
    assert "1 packed" in ablation(path, "--pack") and page_of(path) == longer
    first = archive.read_bytes()
    assert "4 unpacked" in ablation(path, "--unpack") and not archive.exists()
    assert files.items() < {file.name: file.read_bytes() for file in folder.iterdir()}.items()
    ablation(path, "--pack")
    assert archive.read_bytes() == first


@pytest.mark.parametrize("harm", [lambda archive: archive.write_bytes(b"other"), Path.unlink], ids=["changed", "lost"])
def test_an_archive_that_is_not_the_grids_is_refused_in_a_line(grid, harm):
    path, work = grid
    path.with_suffix("").mkdir()
    (path.with_suffix("") / "baselines.json").write_text("{}")
    ablation(path, "--pack")
    archive = path.with_suffix(".results.json.xz")
    harm(archive)
    error = ablation(path, "--work", work, "--list", check=False)
    assert str(archive) in error and str(path) in error and len(error.strip().splitlines()) == 1


def test_the_pages_are_those_of_the_stored_results(tmp_path, monkeypatch):
    """Of the long pages only the fastest: the others take up to half a minute each."""
    monkeypatch.chdir(ROOT)
    page = ROOT / "docs" / "results" / "longer_teacher.md"
    name = str(page.relative_to(ROOT))
    shutil.copy(page, tmp_path / "page.md")  # its reading is kept, all else is made again
    write_page(Grid(Path("benchmarks/ablations/mined_20k_longer.json"), None), tmp_path / "page.md")
    assert (tmp_path / "page.md").read_text().replace(str(tmp_path / "page.md"), name) == page.read_text()
    results = (ROOT / "docs" / "results.md").read_text()
    assert results.count("<!-- headline: ") == 2
    assert fill_tables(results) == results


def test_every_grid_has_its_page():
    for path in sorted((ROOT / "benchmarks" / "ablations").glob("*.json")):
        grid = Grid(path, None)
        assert all(grid.read_baselines(library) for library in ("", *grid.libraries)), path
        pages = [page.read_text() for page in (ROOT / "docs" / "results").glob("*.md")]
        assert sum(f"{path.relative_to(ROOT)} --report docs/results/" in page[:400] for page in pages) == 1, path
