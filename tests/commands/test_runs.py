"""Whole runs of both scripts: what they write, how they start, and that the same run comes out."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from data.rows.rejected import RejectedRows
from models.training.checkpoint import checkpoints
from tests.helpers.commands import ROOT, SMALL, make_rows, run_script, student_words, write_rows
from tests.helpers.faults import assert_same, outcome, table
from tests.helpers.forked import Started, run
from utils.errors import UserError

TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
ACCELERATE = [
    "-m",
    "accelerate.commands.launch",
    "--multi_gpu",
    "--num_processes",
    "2",
    "--num_machines",
    "1",
    "--mixed_precision",
    "no",
    "--dynamo_backend",
    "no",
    "--main_process_port",
    "0",
]


def last_line(output: str) -> str:
    return output.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def reference(teacher_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("students") / "reference"
    run(*student_words(teacher_run, folder, "--save_steps", 4))
    return folder


def test_teacher_run_leaves_a_plain_model_and_its_knowledge(teacher_run: Path) -> None:
    model = AutoModelForSeq2SeqLM.from_pretrained(teacher_run / "final_model")
    assert len(AutoTokenizer.from_pretrained(teacher_run / "final_model")) == model.config.vocab_size
    for part, count in (("training", 90), ("validation", 20)):
        lines = (teacher_run / f"distillation_data_{part}.jsonl").read_text().splitlines()
        assert len(lines) == count + 1
        assert json.loads(lines[0])["distillation_header"]["vocab_size"] == model.config.vocab_size
        assert {"focal_method", "teacher_prediction", "teacher_logits_compressed"} <= set(json.loads(lines[1]))


def test_student_run_writes_what_the_specification_names(reference: Path) -> None:
    for name in (
        "final_model",
        "best_model",
        "training_metrics.csv",
        "step_metrics.csv",
        "distillation_log.txt",
        "run_config.json",
    ):
        assert (reference / name).exists(), name
    AutoModelForSeq2SeqLM.from_pretrained(reference / "final_model")
    steps = table(reference / "step_metrics.csv")
    # ceil(90 / (8 * 2)) steps an epoch, 3 epochs; the last, incomplete window of an epoch is a step too.
    assert [int(row["step"]) for row in steps] == list(range(1, 19))
    assert float(steps[0]["temperature"]) == 4.0
    assert all(float(row["focal_loss_raw"]) > 0 and float(row["grad_norm_total"]) > 0 for row in steps)
    assert int(steps[5]["samples"]) == 90 - 5 * 16
    assert float(steps[-1]["focal_loss_raw"]) < float(steps[0]["focal_loss_raw"])


def test_same_seed_same_run_whatever_the_workers_other_seed_another(
    teacher_run: Path, reference: Path, tmp_path: Path
) -> None:
    run(*student_words(teacher_run, tmp_path / "again", "--save_steps", 4, "--num_workers", 4))
    assert_same(outcome(reference), outcome(tmp_path / "again"))
    run(*student_words(teacher_run, tmp_path / "other", "--save_steps", 4, "--seed", 7))
    assert outcome(tmp_path / "other")["weights"] != outcome(reference)["weights"]


# -- resuming


def test_resuming_a_run_needs_nothing_but_its_folder(teacher_run: Path, reference: Path, tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    run(*student_words(teacher_run, folder, "--save_steps", 4, "--max_steps", 7))
    checkpoint = checkpoints(folder)[-1]
    moved = folder.rename(tmp_path / "moved")
    # Stopped by --max_steps, it is free to have more; the schedule was always that of the whole run.
    output = run("knowledge_distillation.py", "--resume", moved, "--max_steps", 18)
    assert f"resumed from {moved / checkpoint.name} at step 7" in output and "--max_steps was 7, now 18" in output
    ours, theirs = outcome(moved), outcome(reference)
    # The checkpoint and the log interval of step 7 are the stop's.
    assert_same(*({key: one[key] for key in ("weights", "best", "optimizer", "steps")} for one in (ours, theirs)))


def test_resuming_with_another_flag_is_refused(reference: Path) -> None:
    refused = run("knowledge_distillation.py", "--resume", reference, "--temperature", 2, code=2)
    assert "was started with --temperature 4.0, now it is 2.0" in last_line(refused)


def test_moved_data_serve_a_student_built_here_without_their_teacher(teacher_run: Path, tmp_path: Path) -> None:
    for part in ("training", "validation"):
        name = f"distillation_data_{part}.jsonl"
        for file in teacher_run.glob(f"{name}*"):
            copy = shutil.copytree if file.is_dir() else shutil.copy
            copy(file, tmp_path / file.name)
        header, rows = (tmp_path / name).read_text().split("\n", 1)
        told = json.loads(header)
        told["distillation_header"]["teacher"] = "/gone/final_model"
        (tmp_path / name).write_text(f"{json.dumps(told)}\n{rows}")
    run_script(*student_words(tmp_path, tmp_path / "run", "--dry_run"))
    for folder in tmp_path.glob("*.tokenizer"):
        shutil.rmtree(folder)
    alone = run_script(*student_words(tmp_path, tmp_path / "run", "--dry_run"), check=False)
    assert alone.returncode == 2 and "/gone/final_model" in alone.stderr


def test_a_folder_without_a_run_cannot_be_resumed(tmp_path: Path, teacher_run: Path) -> None:
    refused = run(*student_words(teacher_run, tmp_path), "--resume", tmp_path, code=2)
    assert f"--resume {tmp_path}: no run there" in last_line(refused)


def test_a_checkpoint_that_would_run_code_is_refused(teacher_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    run(*student_words(teacher_run, folder, "--max_steps", 2))

    class Evil:
        def __reduce__(self) -> tuple:
            return os.mkdir, (str(tmp_path / "pwned"),)

    torch.save({"optimizer": Evil()}, checkpoints(folder)[-1] / "training_state.pt")
    refused = last_line(run("knowledge_distillation.py", "--resume", folder, code=2))
    assert "not a usable checkpoint" in refused and "UnpicklingError" in refused
    assert not (tmp_path / "pwned").exists()


# -- what a run must not take for its own


def teacher_words(folder: Path, *more: object) -> list[str]:
    return [
        "train_codet5_assertions.py",
        "--model_name",
        "scratch:tiny",
        "--scratch_vocab_size",
        "400",
        "--output_dir",
        str(folder),
        "--no_create_distillation_dataset",
        "--no_run_report",
        *SMALL,
        *map(str, more),
    ]


def test_overwriting_spares_what_the_run_itself_reads(teacher_run: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher_run, tmp_path / "run")
    before = sorted(path.name for path in (tmp_path / "run").iterdir())
    refused = run(*student_words(tmp_path / "run", tmp_path / "run"), "--overwrite", code=2)
    assert "--overwrite: would remove --train_data_path" in last_line(refused)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == before


def test_a_dry_run_of_a_split_leaves_nothing(raw_data: tuple[Path, Path], tmp_path: Path) -> None:
    output = run(*teacher_words(tmp_path / "new", "--data_path", raw_data[0], "--epochs", 1, "--dry_run"))
    assert "Nothing was written" in output and not (tmp_path / "new").exists()


def test_a_tokenizer_that_was_trained_is_the_checkpoints(tmp_path: Path) -> None:
    """Other rows of the same lengths would give another tokenizer."""
    train, validation = (write_rows(tmp_path / f"{name}.jsonl", make_rows(24, 1)) for name in ("train", "val"))
    words = teacher_words(tmp_path / "run", "--train_data_path", train, "--val_data_path", validation, "--epochs", 3)
    run(*words, "--max_steps", 2)
    tokenizer = (checkpoints(tmp_path / "run")[-1] / "tokenizer.json").read_bytes()
    rows = [row | {"focal_method": row["focal_method"].replace("int", "xyz")} for row in make_rows(24, 1)]
    write_rows(train, rows)
    run(*words, "--resume", "auto")
    assert (tmp_path / "run" / "final_model" / "tokenizer.json").read_bytes() == tokenizer


def test_only_the_best_model_of_this_run_becomes_the_final_one(teacher_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(teacher_run / "best_model", folder / "best_model")
    words = student_words(teacher_run, folder, "--save_steps", 2, "--save_total_limit", 20)
    run(*words, "--validation_frequency", 0, "--max_steps", 2)
    weights = load_file(checkpoints(folder)[-1] / "model.safetensors")
    ours = load_file(folder / "final_model" / "model.safetensors")
    assert all(torch.equal(value, ours[name]) for name, value in weights.items() if name in ours)

    run(*words, "--overwrite", "--validation_frequency", 2)  # epochs 2 and 3: the last is validated all the same
    metrics = table(folder / "training_metrics.csv")
    assert [row["step"] for row in metrics if row["kind"] == "validation"] == ["12", "18"]
    output = run("knowledge_distillation.py", "--resume", folder, "--dry_run")
    assert "the run is finished" in output
    output = run("knowledge_distillation.py", "--resume", folder / "checkpoint-0000014", "--max_steps", 15)
    assert "best_model is no longer that of step 12" in output
    state = json.loads((checkpoints(folder)[-1] / "state.json").read_text())
    assert state["progress"]["best_step"] == 15


def test_data_that_do_not_fit_the_run_are_told_at_the_start(teacher_run: Path, tmp_path: Path) -> None:
    shutil.copytree(teacher_run, tmp_path / "teacher")
    validation = tmp_path / "teacher" / "distillation_data_validation.jsonl"
    header, *lines = validation.read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    words = student_words(tmp_path / "teacher", tmp_path / "run", "--max_output_len", 60, "--dry_run")
    for row in rows:
        del row["teacher_logits_compressed"]
    validation.write_text("\n".join([header, *map(json.dumps, rows)]) + "\n")
    output = run(*words, "--loss_components", "ce")
    assert "validation.jsonl holds no teacher logits" in output
    validation.write_text("\n".join([header, *(json.dumps({**row, "assertions": []}) for row in rows)]) + "\n")
    assert "none of the first 20 rows can be used" in last_line(run(*words, "--loss_components", "ce", code=2))
    shutil.copy(teacher_run / validation.name, validation)
    assert "the teacher cut its targets at" in run(*words)


# -- several processes


@pytest.fixture(scope="module")
def alone(teacher_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone") / "run"
    run(*short(teacher_run, folder))
    return folder


def short(teacher_run: Path, folder: Path, *more: object) -> list[str]:
    """6 steps without dropout, whose noise is each process's own."""
    return student_words(teacher_run, folder, "--dropout_rate", 0, "--epochs", 1, "--save_steps", 2, *more)


def assert_close(one: Path, two: Path) -> None:
    ours, theirs = (load_file(folder / "final_model" / "model.safetensors") for folder in (one, two))
    earlier = load_file(checkpoints(one)[0] / "model.safetensors")
    assert ours.keys() == theirs.keys()
    for key in ours.keys() & earlier.keys():
        # AdamW makes whole steps of single gradients that are rounding errors. So the tensor counts, not each element,
        # and is measured by how far training has moved it. A lost or doubled batch moves it elsewhere altogether.
        assert (theirs[key] - ours[key]).norm() <= 0.02 * (ours[key] - earlier[key]).norm(), key
    losses = [[float(row["loss_total"]) for row in table(folder / "step_metrics.csv")] for folder in (one, two)]
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    # Each validation row once, whoever judged it.
    judged = [
        [float(row["val_loss"]) for row in table(folder / "training_metrics.csv") if row["kind"] == "validation"]
        for folder in (one, two)
    ]
    assert judged[0] and judged[1] == pytest.approx(judged[0], rel=1e-4)


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=["torchrun", "accelerate"])
def test_two_processes_do_what_one_does_with_twice_the_accumulation(
    teacher_run: Path, alone: Path, tmp_path: Path, launcher: list[str]
) -> None:
    words = short(teacher_run, tmp_path / "two", "--gradient_accumulation_steps", 1)
    done = subprocess.run(
        [sys.executable, *launcher, *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert_close(alone, tmp_path / "two")


def test_plain_srun_makes_processes_of_one_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from utils.device import adopt_srun

    names = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    for name in names:
        monkeypatch.setenv(name, "")  # so that what is set here is undone
        monkeypatch.delenv(name)
    slurm = {
        "STEP_NUM_TASKS": "5",
        "PROCID": "3",
        "LOCALID": "1",
        "STEP_TASKS_PER_NODE": "2(x2),1",
        "STEP_NODELIST": "gpu[007-008,011]",
        "STEP_NUM_NODES": "3",
        "JOB_ID": "41",
        "STEP_ID": "0",
    }
    for name, value in slurm.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    adopt_srun()
    assert [os.environ[name] for name in names] == ["3", "5", "1", "2", "gpu007", "20287"]
    monkeypatch.setenv("RANK", "0")  # torchrun under srun has set its own
    monkeypatch.setenv("WORLD_SIZE", "2")
    adopt_srun()
    assert os.environ["WORLD_SIZE"] == "2"


@pytest.mark.parametrize("kill", [False, True], ids=["left alone", "stopped and resumed"])
def test_fsdp_does_what_one_process_does(teacher_run: Path, alone: Path, tmp_path: Path, kill: bool) -> None:
    from tests.helpers.faults import plant_kill

    words = short(teacher_run, tmp_path / "fsdp", "--gradient_accumulation_steps", 1, "--fsdp")
    if kill:
        assert Started(words, 2, plant_kill, ("a step", 4, 0.5), 1).wait().code < 0
        output = run("knowledge_distillation.py", "--resume", tmp_path / "fsdp", processes=2)
        assert "at step 2" in output
    else:
        run(*words, processes=2)
    assert_close(alone, tmp_path / "fsdp")
    AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "fsdp" / "final_model")


def test_fsdp_trains_a_teacher_and_writes_its_data(raw_data: tuple[Path, Path], tmp_path: Path) -> None:
    from tests.helpers.faults import Lab

    lab = Lab(tmp_path, tmp_path, raw_data)
    for name, more in (("ddp", []), ("fsdp", ["--fsdp"])):
        run(*lab.words(tmp_path / name, "--dropout_rate", 0, *more, kind="teacher", processes=2), processes=2)
    assert_close(tmp_path / "ddp", tmp_path / "fsdp")
    assert len((tmp_path / "fsdp" / "distillation_data_training.jsonl").read_text().splitlines()) == 91


def test_fsdp_needs_several_processes(teacher_run: Path, tmp_path: Path) -> None:
    assert "--fsdp: there is one process" in last_line(run(*short(teacher_run, tmp_path / "x", "--fsdp"), code=2))


# -- everything at once


def test_all_eight_components_and_the_evaluation_in_one_run(teacher_run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "eight"
    names = ["ce", "focal", "kl", "jsd", "semantic", "contrastive", "pans", "ast"]
    words = [word for word in student_words(teacher_run, folder) if word != "--no_final_evaluation"]
    start = words.index("--loss_components")
    words[start + 1 : start + 3] = names
    run(
        *words,
        "--epochs",
        1,
        "--max_train_samples",
        32,
        "--max_val_samples",
        8,
        "--embedding_model",
        "embedded:minilm",
        "--contrastive_encoder",
        "embedded:minilm",
        "--bridge_fit_steps",
        25,
        "--bridge_min_fidelity",
        0.3,
        "--enable_token_weighting",
        "--use_enhanced_metrics",
        "--grad_norm_steps",
        1,
        "--loss_weights",
        *([1] * 8),
        DISTIL_CACHE=str(tmp_path / "cache"),
    )
    rows = table(folder / "step_metrics.csv")
    for name in names:
        assert all(float(row[f"{name}_loss_raw"]) >= 0 for row in rows), name
    for name in set(names) - {"ast"}:  # ast is rightly 0 where everything parses
        assert all(float(row[f"grad_norm_{name}"]) > 0 for row in rows), name
    summary = json.loads((folder / "metrics_summary_final.json").read_text())
    assert {"teacher", "student", "baselines", "comparison", "run"} <= set(summary)


def test_errors_name_the_disk(capsys: pytest.CaptureFixture, tmp_path: Path) -> None:
    from utils.errors import run_main

    def full() -> int:
        raise OSError(28, "No space left on device", str(tmp_path))

    def broken() -> int:
        raise UserError("what, where, what to do")

    for main, told in (
        (full, f"error: {tmp_path}: No space left on device; fix this and run again"),
        (broken, "error: what, where, what to do"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run_main(main)
        assert capsys.readouterr().err == told + "\n"


def test_bad_rows_above_the_allowed_share_end_the_run(tmp_path: Path) -> None:
    (tmp_path / "rejected.jsonl").write_text('{"file": "data.jsonl", "row": {"file": 1}}}\n{"file": 3}\n[1]\n')
    rejected = RejectedRows(tmp_path / "rejected.jsonl", Path("data.jsonl"), 40, 0.1)
    rejected.add([(row, "not valid JSON") for row in range(4)], 10)
    with pytest.raises(UserError, match="5 bad rows"):
        rejected.add([(4, "not valid JSON")], 10)


def test_the_final_evaluation_accepts_the_rows_that_the_run_accepts(teacher_run: Path, tmp_path: Path) -> None:
    source = teacher_run / "distillation_data_validation.jsonl"
    (tmp_path / source.name).write_text(source.read_text() + "{}\n" * 4)
    shared = f"{source.name}.shared.safetensors"
    (tmp_path / shared).write_bytes((teacher_run / shared).read_bytes())
    words = (
        "--val_data_path",
        tmp_path / source.name,
        "--max_steps",
        1,
        "--max_reject_rate",
        0.5,
        "--final_evaluation",
        "--embedding_model",
        "embedded:minilm",
    )
    run(*student_words(teacher_run, tmp_path / "run", *words))
    assert (tmp_path / "run" / "metrics_summary_final.json").is_file()


def test_bad_rows_known_from_before_do_not_end_a_resumed_run(tmp_path: Path) -> None:
    """5 % of 2000 rows were bad; after a resume the first new one is one of few rows seen, not one of a hundred."""
    known = [{"file": "data.jsonl", "row": row, "reason": "missing assertion"} for row in range(100)]
    (tmp_path / "rejected.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in known) + '{"file": "da')
    rejected = RejectedRows(tmp_path / "rejected.jsonl", Path("data.jsonl"), 4000, 0.1)
    rejected.add([(3000, "not valid JSON"), (7, "missing assertion")], 16)
    lines = (tmp_path / "rejected.jsonl").read_text().splitlines()
    assert [json.loads(line)["row"] for line in lines] == [*range(100), 3000]
    with pytest.raises(UserError, match="21 bad rows among the first 200"):
        rejected.add([(row, "not valid JSON") for row in range(3001, 3020)], 200)


def test_a_process_that_begins_with_bad_rows_waits_for_good_ones(teacher_run: Path, tmp_path: Path) -> None:
    header, *lines = (teacher_run / "distillation_data_training.jsonl").read_text().splitlines()
    longest = sorted(range(len(lines)), key=lambda row: -len(lines[row]))[: len(lines) * 3 // 4]
    for row in longest:
        lines[row] = lines[row].replace('"assertions"', '"no_assertions"')
    (tmp_path / "training.jsonl").write_text("\n".join([header, *lines]) + "\n")
    name = "distillation_data_training.jsonl.shared.safetensors"
    shutil.copy(teacher_run / name, tmp_path / "training.jsonl.shared.safetensors")
    words = student_words(
        teacher_run,
        tmp_path / "run",
        "--train_data_path",
        tmp_path / "training.jsonl",
        "--max_reject_rate",
        1,
        "--batch_size",
        1,
        "--epochs",
        1,
        "--no_final_evaluation",
    )
    run(*words, processes=2)
    steps = table(tmp_path / "run" / "step_metrics.csv")
    assert sum(int(row["samples"]) for row in steps) == len(lines) - len(longest)
    assert any(int(row["samples"]) == 0 for row in steps)


def test_a_run_that_began_and_ended_while_this_one_waited_for_the_folder_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from models.training import run_folder

    def lock(folder: Path) -> None:
        (folder / run_folder.RUN_CONFIG).write_text("{}")
        (folder / "final_model").mkdir()

    monkeypatch.setattr(run_folder, "FolderLock", lock)
    asked = SimpleNamespace(output=SimpleNamespace(resume=None, overwrite=False, dry_run=False))
    with pytest.raises(UserError, match="holds a run already"):
        run_folder.prepare_folder(tmp_path, asked)
