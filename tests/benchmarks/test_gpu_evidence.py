"""The evidence at real size: what is packed, that the stages run at toy size, and what a stopped one hands on."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu_evidence.sh"
LIBRARIES = ("libcommons-codec-java", "libcommons-collections4-java")
MAIN = """class A {
    int sum(int[] values) { int total = 0; for (int value : values) { total += value; } return total; }
    int twice(int[] values) { int once = sum(values); int result = once + once; return result; }
}
"""


def run_script(*flags: str, **variables: str) -> tuple[int, str]:
    command = ["bash", str(SCRIPT), *flags]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, stdout=-1, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def make_row(number: int, project: str) -> str:
    source = {"project": project, "test_class": f"p.C{number // 3}Test", "test_name": f"test{number}"}
    return json.dumps(
        {
            "focal_method": f"int get{number}() {{ return {number}; }}",
            "test_method_masked": f"void test{number}() {{ C c = new C(); <AssertPlaceHolder> }}",
            "assertions": [f"assertEquals({number}, c.get{number}());"],
            "source": source,
            "context": {"siblings": [{"assertion": "assertEquals(0, c.get0());"}]},
        }
    )


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> Path:
    from tests.helpers.loss_helpers import java_tokenizer

    folder = tmp_path_factory.mktemp("mined")
    for name in ("raw_training", "raw_validation", "raw_test"):
        (folder / f"{name}.jsonl").write_text("\n".join(make_row(i, "other") for i in range(30)) + "\n")
    rows = [make_row(i, project) for project in LIBRARIES for i in range(18)]
    (folder / "raw_held_out.jsonl").write_text("\n".join(rows) + "\n")
    java_tokenizer().save_pretrained(folder / "tokenizer")
    for project in ("other", *LIBRARIES):
        source = folder / "corpus" / project / "src" / "main" / "java"
        source.mkdir(parents=True)
        (source / "A.java").write_text(MAIN)
    data = folder / "evidence.tar.xz"
    code, printed = run_script(
        "--pack", str(folder), "--source", str(folder / "corpus"), "--data", str(data), "--rows", "20"
    )
    assert code == 0, printed
    return data


def test_the_pack_holds_rows_tokenizer_and_the_tasks_of_each_class(packed):
    with tarfile.open(packed) as archive:
        lines = {
            Path(item.name).stem: archive.extractfile(item).read().decode().splitlines()
            for item in archive
            if item.name.endswith(".jsonl")
        }
        assert any(name.endswith("tokenizer/tokenizer.json") for name in archive.getnames())
    assert len(lines["training"]) == 20 and lines["statements"]
    projects = [json.loads(line)["source"]["project"] for line in lines["tasks"]]
    assert {name: projects.count(name) for name in projects} == {
        "other": 10,  # one of each class
        LIBRARIES[0]: 18,  # up to four of each class
        LIBRARIES[1]: 6,
    }


@pytest.mark.slow
def test_all_stages_run_at_toy_size(packed, tmp_path):
    out = tmp_path / "out"
    code, printed = run_script("--data", str(packed), "--output", str(out), "--limit", "3000", "--toy")
    assert code == 0, printed
    assert {path.name for path in out.iterdir()} == {
        "last_steps.csv",
        "log.txt.xz",
        "metrics_summary_final.json",
        "predictions_final.jsonl.xz",
        "report.html",
    }
    systems = json.loads((out / "metrics_summary_final.json").read_text())
    assert {"teacher", "student", "baselines"} <= set(systems)
    assert {"nearest_sibling", "retrieval"} <= set(systems["baselines"])
    assert [line.partition(",")[0] for line in (out / "last_steps.csv").read_text().splitlines()] == [
        "pretraining",
        "teacher",
        "gold",
        "student",
    ]


def test_a_stage_that_is_stopped_hands_on_its_newest_checkpoint(packed, tmp_path):
    """Stand-ins: pre-training is stopped after two checkpoints, the teacher ends, the rest writes nothing."""
    python = tmp_path / "python"
    python.write_text(
        """#!/bin/bash
echo "$@" >>"$CALLS"
for word; do [[ $last != --output_dir ]] || output=$word; last=$word; done
case $output in
    */pretraining) mkdir -p "$output"/checkpoint-0000009 "$output"/checkpoint-0000100; exit 143 ;;
    */teacher) mkdir -p "$output"/checkpoint-0000100 "$output"/final_model ;;
esac
"""
    )
    python.chmod(0o755)
    calls = tmp_path / "calls"
    code, _ = run_script(
        "--data", str(packed), "--output", str(tmp_path / "out"), "--toy", PYTHON=str(python), CALLS=str(calls)
    )
    models = [line.split("--model_name ")[1].split()[0] for line in calls.read_text().splitlines()[:3]]
    assert [Path(name).name for name in models] == ["scratch:small", "checkpoint-0000100", "final_model"]
    assert code == 1  # it was stopped, and there are no predictions


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--rows", "many"), "--rows many: must be a whole number"),
        (("--limit", "5"), "--limit 5: must be a whole number of seconds"),
        (("--data", "/nowhere.tar.xz"), "--data /nowhere.tar.xz: no such file"),
        (("--pack", "/nowhere"), "--pack /nowhere: holds no raw_training.jsonl"),
        (("--fast",), "unknown argument --fast"),
    ],
)
def test_bad_arguments_get_one_line(flags, said):
    code, printed = run_script(*flags)
    assert (code, printed.count("\n")) == (2, 1) and printed.startswith(f"error: gpu_evidence.sh: {said}")
