"""Export as the user runs it: what the folder holds, who takes it, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.commands import run_here

SCRIPT = "scripts/export_student.py"
QUICK = ["--val_samples", 6, "--num_beams", 2, "--embedding_model", "none"]


@pytest.fixture(scope="module")
def exported(teacher_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """In int8, whatever a model that has learnt little loses by that; its run names the validation data."""
    output = tmp_path_factory.mktemp("exported") / "int8"
    done = run_here(SCRIPT, teacher_run / "final_model", "--output", output, "--allow_worse", *QUICK)
    assert f"exported: {output}" in done.stdout and "milliseconds for one task" in done.stdout
    return output


def test_the_folder_says_how_near_it_is(exported, teacher_run):
    note = json.loads((exported / "export.json").read_text(encoding="utf-8"))
    agreement = note["agreement"]
    assert agreement["tasks"] == 6 and 0 <= agreement["same_texts"] <= 1 and agreement["data"] == "val.jsonl"
    assert agreement["scores"]["token_accuracy"]["exported"] is not None
    assert agreement["scores"]["code_quality_score"]["exported"] is None  # without a text encoder
    assert agreement["size_bytes"]["exported"] < agreement["size_bytes"]["original"] / 2
    assert all(value > 0 for value in agreement["seconds"].values())
    config = json.loads((teacher_run / "run_config.json").read_text(encoding="utf-8"))["config"]
    assert (note["max_input_len"], note["max_output_len"]) == (config["max_input_len"], config["max_output_len"])
    card = (exported / "README.md").read_text(encoding="utf-8")
    assert "ctranslate2.Translator" in card and "## Agreement with the original" in card
    assert sorted(path.name for path in exported.parent.iterdir()) == ["int8"]


def test_evaluation_and_suggestions_take_it(exported, raw_data, tmp_path):
    words = ["--teacher_data", raw_data[1], "--student_limit", 4, "--embedding_model", "none", "--num_beams", 2]
    words += ["--decoding", "names", "--latency_samples", 1, "--output_dir", tmp_path / "evaluation"]
    run_here("evaluation/evaluate_assertions.py", "--student_model_path", exported, *words)
    summary = json.loads((tmp_path / "evaluation" / "metrics_summary_final.json").read_text(encoding="utf-8"))
    for metric in ("f1", "token_accuracy", "critical_token_accuracy"):
        assert summary["student"][metric]["value"] is not None
    facts = summary["run"]["systems"]["student"]
    assert facts["size_bytes"] == (exported / "model.bin").stat().st_size and facts["parameters"] > 0

    test = tmp_path / "project" / "src" / "test" / "java" / "BoxTest.java"
    test.parent.mkdir(parents=True)
    (tmp_path / "project" / "pom.xml").write_text("<project/>", encoding="utf-8")
    test.write_text(
        "import org.junit.Test;\npublic class BoxTest {\n    @Test public void testCount() {\n"
        "        Box box = new Box();\n        box.setCount(3);\n        int count = box.getCount();\n    }\n}\n",
        encoding="utf-8",
    )
    main = tmp_path / "project" / "src" / "main" / "java" / "Box.java"
    main.parent.mkdir(parents=True)
    main.write_text(
        "public class Box {\n    private int count;\n    public void setCount(int c) { count = c; }\n"
        "    public int getCount() { return count; }\n}\n",
        encoding="utf-8",
    )
    done = run_here("evaluation/suggest_assertions.py", exported, test, "--no_execution", check=False)
    assert done.returncode in (0, 1), done.stderr
    assert "testCount" in done.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--format", "onnx"], "no maintained exporter supports transformers 5"),
        (["--quantization", "int4"], "--quantization"),
        (["--val_samples", 0], "--val_samples 0: allowed: at least 1"),
        (["--val_data_path", "nowhere.jsonl"], "nowhere.jsonl does not exist"),
        (["--output", "."], "--output .: there is something already; give --overwrite or another folder"),
    ],
)
def test_bad_input_gets_one_line(teacher_run, words, message, tmp_path):
    output = [] if "--output" in words else ["--output", tmp_path / "out"]
    done = run_here(SCRIPT, teacher_run / "final_model", *output, *words, check=False)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_model_without_a_run_needs_rows(teacher_run, tmp_path):
    copy = tmp_path / "model"
    copy.symlink_to(teacher_run / "final_model")
    done = run_here(SCRIPT, copy, "--output", tmp_path / "out", check=False)
    assert done.returncode == 2 and "give rows to compare on" in done.stderr


def test_a_worse_export_is_refused_and_leaves_nothing(teacher_run, tmp_path, monkeypatch):
    import evaluation.reports.agreement

    monkeypatch.setattr(evaluation.reports.agreement, "MIN_SAME_TEXTS", 1.1)
    done = run_here(SCRIPT, teacher_run / "final_model", "--output", tmp_path / "out", *QUICK, check=False)
    assert done.returncode == 2 and "(bound: 110%); nothing was written" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_bounds_of_an_export():
    from evaluation.reports.agreement import find_shortfall

    def found(same, before, after):
        pair = {"original": before, "exported": after}
        return {"same_texts": same, "scores": {"code_quality_score": pair, "f1": {"original": 0.5, "exported": 0.4}}}

    assert find_shortfall(found(0.9, 0.5, 0.49)) is None
    assert "code_quality_score is 0.450, the original's 0.500" in find_shortfall(found(0.9, 0.5, 0.45))
    assert "only 10% of its texts" in find_shortfall(found(0.1, 0.5, 0.5))
    assert "f1 is 0.400" in find_shortfall(found(0.9, None, None))
