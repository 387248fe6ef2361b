"""evaluation/evaluate_assertions.py as a user runs it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import psutil
import pytest

from data.rows.readers import parse_sample
from evaluation import evaluation
from evaluation.evaluate_assertions import build_parser
from evaluation.request import EvaluationRequest
from evaluation.systems.baselines import TRIVIAL, count_leaks, retrieve
from evaluation.systems.models import PredictionStore
from tests.helpers.commands import ROOT, make_rows, run_script, write_rows
from tests.helpers.java_project import junit_jars, need_jdk, task, write_project
from utils.errors import UserError
from utils.metrics import METRICS

SCRIPT = "evaluation/evaluate_assertions.py"
QUICK = ["--embedding_model", "none", "--workers", "1", "--latency_samples", "2", "--device", "cpu"]
SHORT = ["--max_input_len", "96", "--max_output_len", "32"]


def summary_of(folder: Path) -> dict:
    return json.loads((folder / "metrics_summary_final.json").read_text())


def rows_of(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "predictions_final.jsonl").read_text().splitlines()]


def evaluate(*words: object) -> int:
    """In this process: starting Python with torch takes longer than the evaluation."""
    from evaluation.evaluate_assertions import main

    return main([str(word) for word in words])


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """Rows with a stored teacher prediction, two thirds of them right."""
    rows = make_rows(12, 3)
    for index, row in enumerate(rows):
        row["teacher_prediction"] = row["assertions"][0] if index % 3 else "assertTrue(x);"
    return write_rows(tmp_path / "teacher.jsonl", rows)


# -- the teacher alone


def test_teacher_alone_without_models_encoder_or_jdk(stored, tmp_path):
    out = tmp_path / "out"
    done = run_script(SCRIPT, "--teacher_data", stored, "--output_dir", out, *QUICK)
    assert "Exact match" in done.stdout and "report.html" in done.stdout
    summary = summary_of(out)
    assert summary["teacher"]["exact_match"]["value"] == pytest.approx(8 / 12)
    assert summary["teacher"]["exact_match"]["n"] == 12
    assert set(summary["teacher"]) == set(METRICS)
    for name, reason in {
        "semantic_similarity": "--embedding_model none",
        "token_accuracy": "no tokenizer",
        "pass_rate": "no project",
        "code_quality_score": "--embedding_model none",
        "knowledge_retention_score": "compares a student with its teacher",
    }.items():
        assert summary["teacher"][name]["value"] is None
        assert reason in summary["teacher"][name]["reason"], name
    assert "no --student_model_path" in summary["student"]["f1"]["reason"]
    assert "no --train_data" in summary["baselines"]["retrieval"]["f1"]["reason"]
    assert summary["baselines"]["trivial"]["exact_match"]["value"] == 0
    assert summary["comparison"]["teacher_minus_trivial"]["exact_match"]["value"] == pytest.approx(8 / 12)
    assert not (out / ".progress").exists()


def test_limit_takes_the_first_rows(stored, tmp_path):
    evaluate(
        "--teacher_data", stored, "--teacher_limit", 4, "--student_limit", 2, "--output_dir", tmp_path / "o", *QUICK
    )
    summary = summary_of(tmp_path / "o")
    assert summary["teacher"]["exact_match"]["n"] == 4
    assert summary["teacher"]["exact_match"]["value"] == 0.5
    assert summary["baselines"]["trivial"]["f1"]["n"] == 2
    assert summary["comparison"]["teacher_minus_trivial"]["f1"]["n"] == 2
    # Without a student, what stands beside the teacher is judged on its tasks.
    evaluate("--teacher_data", stored, "--teacher_limit", 4, "--output_dir", tmp_path / "alone", *QUICK)
    assert summary_of(tmp_path / "alone")["baselines"]["trivial"]["f1"]["n"] == 4


def test_of_a_large_class_only_some_tests_are_judged(stored, tmp_path):
    rows = [json.loads(line) for line in stored.read_text().splitlines()]
    for index, row in enumerate(rows):
        row["source"] = {"project": "p", "test_class": "Large" if index < 9 else f"Small{index}"}
        row["assertions"] = [f"assertEquals({index}, x);"]
    del rows[11]["source"]  # a class of its own
    write_rows(stored, rows)
    words = ["--teacher_data", stored, "--max_per_class", 3, *QUICK]
    evaluate(*words, "--output_dir", tmp_path / "o")
    run = summary_of(tmp_path / "o")["run"]
    assert (run["tasks"], run["tasks_in_file"]) == (6, 12)
    asked = [row["reference"][0] for row in rows_of(tmp_path / "o")]
    assert asked == [f"assertEquals({index}, x);" for index in (0, 3, 6, 9, 10, 11)]
    evaluate(*words, "--teacher_limit", 2, "--student_limit", 2, "--output_dir", tmp_path / "few")
    assert [row["reference"][0] for row in rows_of(tmp_path / "few")] == asked[:2]


def test_bad_rows_and_rows_without_prediction_are_counted(stored, tmp_path):
    rows = [json.loads(line) for line in stored.read_text().splitlines()]
    del rows[1]["teacher_prediction"]
    del rows[2]["focal_method"]
    stored.write_text('{"header": 1}\n' + "".join(json.dumps(row) + "\n" for row in rows) + "not json\n")
    evaluate("--teacher_data", stored, "--output_dir", tmp_path / "o", "--max_reject_rate", 0.5, *QUICK)
    summary = summary_of(tmp_path / "o")
    assert summary["run"]["rows_left_out"] == {
        "missing focal method": 1,
        "not valid JSON": 1,
        "no teacher prediction": 1,
    }
    assert summary["teacher"]["f1"]["n"] == 10


def test_embedded_encoder_completes_nothing_that_is_missing(stored, tmp_path):
    evaluate("--teacher_data", stored, "--output_dir", tmp_path / "o", *QUICK, "--embedding_model", "embedded:minilm")
    teacher = summary_of(tmp_path / "o")["teacher"]
    assert 0.5 < teacher["semantic_similarity"]["value"] < 1
    assert teacher["code_quality_score"]["value"] is None  # token accuracy needs a tokenizer
    assert "token_accuracy" in teacher["code_quality_score"]["reason"]


def test_a_request_gives_the_summary_that_is_written(stored, tmp_path):
    request = EvaluationRequest(
        str(stored), embedding_model="none", workers=1, device="cpu", output_dir=str(tmp_path / "o")
    )
    done = evaluation.evaluate(request)
    assert done.folder == tmp_path / "o"
    assert done.summary == summary_of(done.folder)
    assert "Exact match" in done.text() and "report.html" in done.text()


def test_flags_and_fields_of_a_request_are_the_same_in_the_same_order(stored):
    """The summary keeps them in this order."""
    args = vars(build_parser().parse_args(["--teacher_data", str(stored)]))
    assert list(args.items()) == list(asdict(EvaluationRequest(str(stored))).items())


# -- baselines


def test_retrieval_finds_the_same_test():
    training, tasks = ([parse_sample(row) for row in make_rows(40, seed)] for seed in (1, 2))
    found = retrieve(training, [training[7], *tasks])
    assert found.predictions[0] == training[7].target
    assert found.similarity[0] == pytest.approx(1.0)

    def words(sample):
        from data.java.tokens import tokenize

        return set(tokenize(sample.test.replace("<AssertPlaceHolder>", " ") + "\n" + sample.focal))

    for asked, similarity, index in zip(tasks, found.similarity[1:], found.indices[1:], strict=True):
        scores = [len(words(asked) & words(other)) / len(words(asked) | words(other)) for other in training]
        assert similarity == pytest.approx(max(scores))
        assert scores[index] == pytest.approx(max(scores))
    assert (
        count_leaks(training, [training[3], parse_sample({**make_rows(1, 9)[0], "focal_method": "int other() {}"})])
        == 1
    )


def test_retrieval_and_leak_in_the_summary(stored, tmp_path):
    rows = [*make_rows(60, 5), json.loads(stored.read_text().splitlines()[0])]
    training = write_rows(tmp_path / "train.jsonl", rows)
    evaluate("--teacher_data", stored, "--train_data", training, "--output_dir", tmp_path / "o", *QUICK)
    summary = summary_of(tmp_path / "o")
    assert 0 < summary["baselines"]["retrieval"]["f1"]["value"] <= 1
    assert summary["run"]["inputs_seen_in_training"] >= 1
    assert "very input of a training row" in (tmp_path / "o/report.md").read_text()
    assert all(row["systems"]["trivial"]["prediction"] == TRIVIAL for row in rows_of(tmp_path / "o"))


# -- predictions of other tools


def test_predictions_of_another_tool_stand_beside_the_baselines(stored, tmp_path, capsys):
    """Twelve rows: one tool wrote eleven of the human assertions, the other half of them and one for no row."""
    human = [json.loads(line)["assertions"][0] for line in stored.read_text().splitlines()]
    most = write_rows(tmp_path / "most.jsonl", [{"row": n, "prediction": human[n]} for n in range(11)])
    even = [{"row": n, "prediction": human[n]} for n in range(0, 12, 2)]
    half = write_rows(tmp_path / "half.jsonl", [*even, {"row": 40, "prediction": "fail();"}])
    given = ["--predictions", f"most={most}", "--predictions", f"half={half}"]
    evaluate("--teacher_data", stored, *given, "--output_dir", tmp_path / "o", *QUICK)
    summary = summary_of(tmp_path / "o")
    exact = {name: metrics["exact_match"]["value"] for name, metrics in summary["baselines"].items()}
    assert (exact["most"], exact["half"], exact["trivial"]) == (pytest.approx(11 / 12), 0.5, 0)
    assert rows_of(tmp_path / "o")[1]["systems"]["half"]["prediction"] == ""
    assert "| half |" in (tmp_path / "o/report.md").read_text()
    warnings = [line for line in capsys.readouterr().err.splitlines() if "--predictions" in line]
    assert warnings == [
        "warning: --predictions most: 1 of 12 judged rows have no prediction, which counts as a wrong one;"
        " 0 predictions are for rows that are not judged",
        "warning: --predictions half: 6 of 12 judged rows have no prediction, which counts as a wrong one;"
        " 1 predictions are for rows that are not judged",
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, "a();"), (0, "b();")], "line 2: a second prediction for row 0; keep one"),
        ([(77, "a();"), (78, "b();")], "has none of the 12 rows that are judged; is it for other data?"),
        ([(-1, "a();")], "line 1: no row number or no text"),
    ],
)
def test_predictions_that_cannot_be_meant_end_the_command_with_one_line(stored, tmp_path, rows, message):
    file = write_rows(tmp_path / "llm.jsonl", [{"row": row, "prediction": text} for row, text in rows])
    words = ["--teacher_data", stored, "--predictions", f"llm={file}", "--output_dir", tmp_path / "o", *QUICK]
    with pytest.raises(UserError, match="^--predictions [^\n]*" + re.escape(message)):
        evaluate(*words)
    assert not (tmp_path / "o" / "metrics_summary_final.json").exists()


# -- a teacher's file and models


@pytest.fixture(scope="session")
def judged(teacher_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The teacher's own model in the student's place, and again in the baseline's."""
    folder = tmp_path_factory.mktemp("judged") / "out"
    evaluate(
        "--teacher_data",
        teacher_run / "distillation_data_validation.jsonl",
        "--student_model_path",
        teacher_run / "final_model",
        "--baseline_model_path",
        teacher_run / "final_model",
        "--train_data",
        teacher_run / "distillation_data_training.jsonl",
        "--output_dir",
        folder,
        *QUICK,
        *SHORT,
        "--embedding_model",
        "embedded:minilm",
        "--num_beams",
        2,
        "--num_return_sequences",
        2,
    )
    return folder


def test_all_metrics_of_a_model(judged):
    student = summary_of(judged)["student"]
    missing = {name for name, found in student.items() if found["value"] is None}
    assert missing == {"compile_rate", "pass_rate", "nontrivial_rate"}


def test_the_pool_offers_a_copy_where_the_student_writes_none(teacher_run, tmp_path):
    """What suggestions would put first: the copy that names the test's variable and calls its method."""
    rows = [
        {
            "focal_method": f"int size{i}() {{ return {i}; }}",
            "test_method_masked": f"@Test void t() {{ Box box = new Box(); box.add({i}); <AssertPlaceHolder> }}",
            "assertions": [f"assertEquals({i}, box.size{i}());"],
            "source": {"focal_name": f"size{i}", "framework": "junit5"},
            "context": {"siblings": [{"assertion": f"assertEquals(9, box.size{i}());"}], "locals": ["Box box"]},
        }
        for i in range(3)
    ]
    data, out = write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "out"
    model = ["--student_model_path", teacher_run / "final_model", "--pool", "--num_beams", 2]
    evaluate("--teacher_data", data, *model, "--output_dir", out, *QUICK, *SHORT)
    assert [row["systems"]["student_pool"]["prediction"] for row in rows_of(out)] == [
        f"assertEquals(9, box.size{i}());" for i in range(3)
    ]
    assert "first of the student's pool" in (out / "report.md").read_text()


def test_a_model_agrees_with_its_own_stored_logits(judged):
    """Teacher and student are one model: token accuracy, first choices and distributions are the same.

    The file keeps 16 bits of a number. Which of two nearly equal tokens is then first depends on the weights, and they
    on the processor that trained them: at most one first choice in fifty may differ. It also keeps 64 of
    400 tokens; the others are told by their mass and mean alone.
    """
    summary = summary_of(judged)
    for name in ("token_accuracy", "critical_token_accuracy"):
        assert summary["teacher"][name]["value"] == pytest.approx(summary["student"][name]["value"], abs=0.02)
        assert summary["teacher"][name]["n"] == summary["student"][name]["n"] > 0
    logits = summary["comparison"]["teacher_logits"]
    assert logits["top1_agreement"]["value"] >= 0.98
    assert 0 <= logits["kl_t1"]["value"] < 0.1
    assert 0 <= logits["kl_t4"]["value"] < 0.1


def test_two_equal_systems_do_not_differ(judged):
    comparison = summary_of(judged)["comparison"]["student_minus_no_teacher"]
    for found in comparison.values():
        assert found["value"] is None or (found["value"] == 0 and found["p_value"] == 1)


def test_candidates_and_costs_are_kept(judged):
    for row in rows_of(judged):
        candidates = row["systems"]["student"]["candidates"]
        assert len(candidates) == 2
        assert candidates[0] == row["prediction"]
    facts = summary_of(judged)["run"]["systems"]["student"]
    assert facts["parameters"] > 1000
    assert facts["size_bytes"] > 4000
    assert facts["latency"]["cpu"]["n"] == 2
    assert facts["latency"]["cpu"]["median_seconds"] > 0
    assert facts["memory_bytes"]["cpu"] >= 0


def test_raw_rows_have_no_teacher(raw_data, teacher_run, tmp_path):
    out = tmp_path / "o"
    evaluate(
        "--teacher_data",
        raw_data[1],
        "--student_model_path",
        teacher_run / "final_model",
        "--output_dir",
        out,
        *QUICK,
        *SHORT,
        "--student_limit",
        3,
    )
    summary = summary_of(out)
    assert "hold no teacher predictions" in summary["teacher"]["f1"]["reason"]
    assert summary["student"]["f1"]["n"] == 3
    assert summary["student"]["token_accuracy"]["value"] is not None


def test_live_teacher(raw_data, teacher_run, tmp_path):
    out = tmp_path / "o"
    evaluate(
        "--teacher_data",
        raw_data[1],
        "--teacher_model",
        teacher_run / "final_model",
        "--teacher_limit",
        4,
        "--output_dir",
        out,
        *QUICK,
        *SHORT,
    )
    assert summary_of(out)["teacher"]["token_accuracy"]["n"] == 4


def test_models_write_as_the_decoding_says(raw_data, teacher_run, tmp_path, monkeypatch):
    from evaluation.systems import models as systems

    asked, real = [], systems.generate_candidates
    monkeypatch.setattr(
        systems, "generate_candidates", lambda *words, **named: asked.append(words[2].decoding) or real(*words, **named)
    )
    for choice in ([], ["--decoding", "names"], ["--decoding", "free"]):
        evaluate(
            "--teacher_data",
            raw_data[1],
            "--teacher_model",
            teacher_run / "final_model",
            "--teacher_limit",
            2,
            "--output_dir",
            tmp_path / f"o{len(asked)}",
            *choice,
            *QUICK,
            *SHORT,
        )
    assert asked == ["java", "names", "free"]


def test_stored_and_live_teacher_write_the_same(teacher_run, tmp_path):
    """Same weights, same input, same search: the text of the file is the text of the model."""
    data = teacher_run / "distillation_data_validation.jsonl"
    for name, more in (("stored", []), ("live", ["--teacher_model", teacher_run / "final_model"])):
        evaluate("--teacher_data", data, *more, "--output_dir", tmp_path / name, *QUICK, *SHORT)
    texts = [[row["prediction"] for row in rows_of(tmp_path / name)] for name in ("stored", "live")]
    assert texts[0] == texts[1]


def test_other_vocabulary_is_a_reason_not_an_end(stored, teacher_run, tmp_path, capsys):
    """A student whose tokenizer is not the teacher's can be judged by its text all the same."""
    from models.seq2seq.loading import build_scratch, save_model, train_tokenizer

    tokenizer = train_tokenizer([f"{row['focal_method']} {row['assertions'][0]}" for row in make_rows(50, 8)], 350)
    model = build_scratch("tiny", tokenizer, dropout_rate=0.0, attention="sdpa", seed=0)
    save_model(model, tokenizer, tmp_path / "model")
    # Moved, so that the teacher that its header names is not there.
    data = tmp_path / "data_validation.jsonl"
    header, *rest = (teacher_run / "distillation_data_validation.jsonl").read_text().splitlines(keepends=True)
    data.write_text("".join([header.replace(str(teacher_run), "/moved"), *rest]))
    shared = "distillation_data_validation.jsonl.shared.safetensors"
    shutil.copy(teacher_run / shared, f"{data}.shared.safetensors")
    evaluate(
        "--teacher_data",
        data,
        "--student_limit",
        3,
        "--student_model_path",
        tmp_path / "model",
        "--output_dir",
        tmp_path / "o",
        *QUICK,
        *SHORT,
    )
    summary = summary_of(tmp_path / "o")
    assert "vocabulary" in summary["comparison"]["teacher_logits"]["kl_t1"]["reason"]
    assert summary["student"]["f1"]["n"] == 3
    # The teacher's scores that need its tokenizer are missed aloud, and come back with --teacher_model.
    assert "warning: token_accuracy, critical_token_accuracy of the stored teacher" in capsys.readouterr().err
    assert summary["teacher"]["token_accuracy"]["value"] is None


# -- interruption


def test_store_goes_on_after_a_torn_line(tmp_path):
    path = tmp_path / "texts.jsonl"
    store = PredictionStore(path, "key", resume=False)
    store.add([2, 0], [["a"], ["b", "c"]])
    store.close()
    path.write_text(path.read_text() + '{"indices": [1], "te')
    again = PredictionStore(path, "key", resume=True)
    assert again.texts == {2: ["a"], 0: ["b", "c"]}
    again.add([1], [["d"]])
    again.close()
    assert PredictionStore(path, "key", resume=True).texts == {2: ["a"], 0: ["b", "c"], 1: ["d"]}
    assert PredictionStore(path, "other model", resume=True).texts == {}


def test_resume_does_not_write_again_what_is_there(teacher_run, tmp_path, monkeypatch):
    words = [
        "--teacher_data",
        teacher_run / "distillation_data_validation.jsonl",
        "--student_model_path",
        teacher_run / "final_model",
        "--output_dir",
        tmp_path / "o",
        "--batch_size",
        4,
        *QUICK,
        *SHORT,
    ]
    real = PredictionStore.add
    batches = []

    def add(self, indices, texts):
        real(self, indices, texts)
        batches.append(len(indices))
        if len(batches) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(PredictionStore, "add", add)
    with pytest.raises(KeyboardInterrupt):
        evaluate(*words)
    batches.append(None)
    evaluate(*words, "--resume")
    assert batches == [4, 4, None, 4, 4, 4]  # of 20 tasks
    monkeypatch.undo()
    evaluate(*words, "--overwrite")
    whole = summary_of(tmp_path / "o")["student"]
    evaluate(*words, "--resume")
    assert summary_of(tmp_path / "o")["student"] == whole


def test_tasks_are_those_that_were_judged(stored, tmp_path):
    words = ["--teacher_data", stored, "--teacher_limit", 5, "--student_limit", 5, "--output_dir", tmp_path / "out"]
    evaluate(*words, *QUICK)
    run = summary_of(tmp_path / "out")["run"]
    assert (run["tasks"], run["tasks_in_file"]) == (5, 12)
    assert (tmp_path / "out" / "report.md").read_text().startswith("# Evaluation of 5 tasks")


# -- what cannot work ends in one line


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--teacher_data", "missing.jsonl"], "missing.jsonl does not exist"),
        (["--teacher_data", "{empty}"], "is empty"),
        (["--teacher_data", "{header}"], "has other fields (distillation)"),
        (["--teacher_data", "{broken}"], "not valid JSON"),
        (["--teacher_data", "{raw}"], "nothing to judge"),
        (["--teacher_data", "{stored}", "--teacher_limit", "0"], "--teacher_limit 0"),
        (["--teacher_data", "{stored}", "--max_per_class", "0"], "--max_per_class 0"),
        (["--teacher_data", "{stored}", "--decoding", "java_only"], "--decoding"),
        (["--teacher_data", "{stored}", "--num_return_sequences", "3"], "--num_beams"),
        (["--teacher_data", "{stored}", "--temperature", "0"], "--temperature 0"),
        (["--teacher_data", "{stored}", "--timeout", "-1"], "--timeout -1"),
        (["--teacher_data", "{stored}", "--latency_samples", "-3"], "--latency_samples -3"),
        (["--teacher_data", "{stored}", "--max_reject_rate", "7"], "--max_reject_rate 7"),
        (["--teacher_data", "{stored}", "--max_reject_rate", "nan"], "--max_reject_rate nan"),
        (["--teacher_data", "{stored}", "--max_input_len", "1"], "--max_input_len 1"),
        (["--teacher_data", "{stored}", "--student_model", "x"], "did you mean --student_model_path"),
        (["--teacher_data", "{stored}", "--student_model_path", "/no/such/model"], "/no/such/model: no such folder"),
        (["--teacher_data", "{stored}", "--device", "tpu"], "--device tpu"),
        (["--teacher_data", "{stored}", "--context", "docs"], "--context docs is unknown; did you mean doc"),
        (["--teacher_data", "{stored}", "--pool"], "--pool needs --student_model_path"),
        (["--teacher_data", "{stored}", "--resume"], "--resume needs --output_dir"),
        (["--teacher_data", "{stored}", "--class_path", "x.jar"], "--class_path needs --project"),
        (["--teacher_data", "{stored}", "--execution_limit", "3"], "--execution_limit needs --project"),
        (["--teacher_data", "{stored}", "--timeout", "3"], "--timeout needs --project"),
        (["--teacher_data", "{stored}", "--jdk_home", "x"], "--jdk_home needs --project"),
        (["--teacher_data", "{topk}", "--temperature", "0.3"], "--temperature 0.3: top-k teacher data covers"),
        (["--teacher_data", "{stored}", "--project", "{folder}"], "do not say where they come from"),
        (["--teacher_data", "{stored}", "--output_dir", "{stored}"], "cannot be written"),
        (["--teacher_data", "{stored}", "--embedding_model", "/no/such/encoder"], "/no/such/encoder"),
    ],
)
def test_bad_input(words, told, stored, teacher_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = make_rows(3, 1)
    files = {
        "empty": write_rows(tmp_path / "empty", []),
        "header": write_rows(tmp_path / "header", [{"distillation": 1}]),
        "broken": tmp_path / "broken",
        "raw": write_rows(tmp_path / "raw", rows),
        "stored": stored,
        "folder": tmp_path,
        "topk": teacher_run / "distillation_data_validation.jsonl",
    }
    files["broken"].write_text("{" * 3 + "\n")
    filled = [word.format(**files) for word in words]
    with pytest.raises(UserError) as caught:
        evaluate(*QUICK, *filled)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_default_encoder_without_a_network_names_the_offline_one(stored, tmp_path):
    done = run_script(
        SCRIPT,
        "--teacher_data",
        stored,
        "--output_dir",
        tmp_path / "o",
        check=False,
        HF_HUB_OFFLINE="1",
        HF_HOME=str(tmp_path / "hub"),
    )
    assert done.returncode == 2
    assert done.stdout == ""
    message = done.stderr.strip().splitlines()
    assert len(message) == 1
    assert message[0].startswith("error: ")
    assert "embaas/codesearchnet-minilm-l6" in message[0] and "embedded:minilm" in message[0]


def test_an_evaluation_is_not_overwritten(stored, tmp_path):
    words = ["--teacher_data", stored, "--output_dir", tmp_path / "o", *QUICK]
    evaluate(*words)
    with pytest.raises(UserError, match="holds an evaluation"):
        evaluate(*words)
    evaluate(*words, "--overwrite")


def test_help_is_quick_and_whole():
    """--help answers without torch."""
    code = (
        "import runpy, sys; sys.argv = ['x', '--help']\n"
        f"try: runpy.run_path('{SCRIPT}', run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print('torch' in sys.modules)"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("False")
    for flag in ("--teacher_data", "--student_model_path", "--baseline_model_path", "--num_beams", "--project"):
        assert flag in done.stdout


# -- execution


def test_without_a_jdk_it_ends_before_a_model_is_looked_for(tmp_path):
    row = {**make_rows(1, 1)[0], "teacher_prediction": "x();", "source": {"test_file": "ATest.java"}}
    data = write_rows(tmp_path / "data.jsonl", [row])
    with pytest.raises(UserError, match=r"^no JDK at --jdk_home"):
        evaluate(
            "--teacher_data",
            data,
            "--project",
            tmp_path,
            "--jdk_home",
            tmp_path / "none",
            "--student_model_path",
            tmp_path,  # which is no model either
            *QUICK,
        )


@pytest.mark.jdk
def test_a_project_that_cannot_be_compiled_ends_it_before_a_model_is_looked_for(tmp_path, monkeypatch):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    row = {**make_rows(1, 1)[0], "teacher_prediction": "x();", "source": {"test_file": "ATest.java"}}
    data = write_rows(tmp_path / "data.jsonl", [row])
    for place, message in ((tmp_path / "none", "no such folder"), (tmp_path, "no")):
        with pytest.raises(UserError, match=message) as caught:
            evaluate("--teacher_data", data, "--project", place, "--student_model_path", tmp_path, *QUICK)
        assert "model" not in str(caught.value)


@pytest.mark.jdk
def test_a_stopped_evaluation_leaves_neither_process_nor_folder(tmp_path):
    """The prediction would run for ten minutes; the process is asked to stop as soon as a JVM works on it."""
    need_jdk()
    project = write_project(tmp_path / "project")
    human = "assertEquals(7, cart.total());"
    row = {
        "focal_method": "public int total() { return total; }",
        "test_method_masked": "@Test public void t() { Cart cart = new Cart(); <AssertPlaceHolder> }",
        "assertions": [human],
        "source": task(project, "CartTest.java", "testTotal", human),
    }
    data = write_rows(tmp_path / "data.jsonl", [row])
    loops = write_rows(tmp_path / "loops.jsonl", [{"row": 0, "prediction": f"while (cart != null) {{ }} {human}"}])
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    words = [sys.executable, SCRIPT, "--teacher_data", data, "--predictions", f"loops={loops}", "--project", project]
    words += ["--class_path", os.pathsep.join(map(str, junit_jars())), "--output_dir", tmp_path / "o", *QUICK]
    environment = {
        **os.environ,
        "TMPDIR": str(scratch),
        "DISTIL_CACHE": str(tmp_path / "cache"),
        "OMP_NUM_THREADS": "1",
    }
    words += ["--timeout", "600", "--no_controls"]
    done = subprocess.Popen(list(map(str, words)), cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)
    names: dict[psutil.Process, str] = {}
    while done.poll() is None and list(names.values()).count("java") < 2:  # the control runs in both JVMs
        with suppress(psutil.NoSuchProcess):
            names = {child: child.name() for child in psutil.Process(done.pid).children(recursive=True)}
        time.sleep(0.05)
    done.terminate()
    _, told = done.communicate(timeout=120)
    assert done.returncode == 85 and told.splitlines()[-1] == "SIGTERM: stopped; continue with --resume", told
    assert not psutil.wait_procs(list(names), timeout=60)[1]
    assert not list(scratch.iterdir())


@pytest.mark.jdk
def test_predictions_are_run_in_their_project(tmp_path, monkeypatch):
    need_jdk()
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "cache"))
    project = write_project(tmp_path / "project")
    rows = []
    for test, assertion, prediction in (
        ("testTotal", "assertEquals(3, cart.total());", "assertEquals(3, cart.total());"),
        ("testTotal", "assertEquals(7, cart.total());", "assertEquals(8, cart.total());"),
        ("testEmpty", "assertEquals(true, cart.isEmpty());", "assertEquals(true, cart.unknown());"),
    ):
        source = task(project, "CartTest.java", test, assertion)
        rows.append(
            {
                "focal_method": "public int total() { return total; }",
                "test_method_masked": "@Test public void t() { Cart cart = new Cart(); <AssertPlaceHolder> }",
                "assertions": [assertion],
                "source": source,
                "teacher_prediction": prediction,
            }
        )
    data = write_rows(tmp_path / "data.jsonl", rows)
    jars = os.pathsep.join(map(str, junit_jars()))
    out = tmp_path / "out"
    evaluate("--teacher_data", data, "--project", project, "--class_path", jars, "--output_dir", out, *QUICK)
    summary = summary_of(out)
    rates = [summary["teacher"][name]["value"] for name in ("compile_rate", "pass_rate", "nontrivial_rate")]
    assert rates == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    trivial = [summary["baselines"]["trivial"][name]["value"] for name in ("pass_rate", "nontrivial_rate")]
    assert trivial == [1, 0]
    human = summary["run"]["execution"]["human"]
    assert human["pass_rate"]["value"] == 1
    assert [row["systems"]["teacher"]["execution"]["status"] for row in rows_of(out)] == [
        "passed",
        "failed",
        "compile error",
    ]
    assert human["tasks"] == 3
    evaluate(
        "--teacher_data",
        data,
        "--project",
        project,
        "--class_path",
        jars,
        "--output_dir",
        tmp_path / "two",
        "--teacher_limit",
        2,
        "--student_limit",
        1,
        *QUICK,
    )
    assert summary_of(tmp_path / "two")["run"]["execution"]["human"]["tasks"] == 2
    assert "Run in their tests" in (out / "report.md").read_text()
    evaluate(
        "--teacher_data",
        data,
        "--project",
        project,
        "--class_path",
        jars,
        "--output_dir",
        tmp_path / "alone",
        "--no_controls",
        *QUICK,
    )
    alone = summary_of(tmp_path / "alone")
    assert set(alone["run"]["execution"]) == {"teacher"}
    assert alone["teacher"]["pass_rate"] == summary["teacher"]["pass_rate"]
    assert "--no_controls" in alone["baselines"]["trivial"]["f1"]["reason"]
