"""The files of a run: columns, continuity after SIGKILL, a full disk, TensorBoard, the console."""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import random
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from utils.csv_log import CsvLog, read_csv
from utils.logging_utils import (
    LOG_FILE,
    SAMPLES_FILE,
    STEP_FILE,
    TRAINING_COLUMNS,
    TRAINING_FILE,
    DistillationLogger,
    components_of,
    export_json,
    step_columns,
)
from utils.tensorboard_log import GROUPS

ROOT = Path(__file__).resolve().parents[2]
COMPONENTS = ["focal", "jsd", "semantic"]


def quiet(folder: Path, **changes: bool) -> DistillationLogger:
    return DistillationLogger(folder, **{"tensorboard": False, "console": False, "main_process": True, **changes})


def test_step_columns_are_the_documented_ones():
    assert step_columns(["focal", "kl"]) == [
        "epoch",
        "step",
        "focal_loss_raw",
        "focal_loss_weighted",
        "focal_weight",
        "kl_loss_raw",
        "kl_loss_weighted",
        "kl_weight",
        "grad_norm_total",
        "grad_norm_encoder",
        "grad_norm_decoder",
        "grad_norm_focal",
        "grad_norm_kl",
        "learning_rate",
        "temperature",
        "alpha",
        "loss_total",
        "target_tokens",
        "samples",
        "memory_mb",
        "seconds",
    ]
    assert components_of(step_columns(COMPONENTS)) == COMPONENTS


def test_documentation_names_every_column():
    text = (ROOT / "docs" / "files.md").read_text(encoding="utf-8")
    for column in (*TRAINING_COLUMNS, *(c.replace("focal", "<component>") for c in step_columns(["focal"]))):
        assert f"`{column}`" in text, column


def test_csv_files_load_in_pandas_with_every_digit(tmp_path):
    logger = quiet(tmp_path)
    logger.declare_step_columns(step_columns(COMPONENTS))
    numbers = random.Random(0)
    losses = [numbers.random() * 10 ** numbers.randint(-20, 20) for _ in range(50)]
    for step, loss in enumerate(losses, 1):
        logger.step(
            {
                "epoch": 0.5,
                "step": step,
                "loss_total": loss,
                "focal_loss_raw": np.float64(loss),
                "jsd_loss_raw": np.float32(0.5),
                "semantic_loss_raw": math.nan,
                "grad_norm_focal": None,
            }
        )
    logger.training({"kind": "validation", "epoch": 1, "step": 50, "exact_match": 0.25, "coverage": 0.5})
    logger.close()
    steps = pd.read_csv(tmp_path / STEP_FILE)
    assert list(steps.columns) == step_columns(COMPONENTS)
    assert steps["step"].tolist() == list(range(1, 51))
    assert steps["loss_total"].tolist() == losses == steps["focal_loss_raw"].tolist()
    assert (steps["jsd_loss_raw"] == 0.5).all()
    assert steps["grad_norm_focal"].isna().all() and steps["semantic_loss_raw"].isna().all()
    training = pd.read_csv(tmp_path / TRAINING_FILE)
    assert list(training.columns) == list(TRAINING_COLUMNS)
    assert training.loc[0, "kind"] == "validation" and training.loc[0, "exact_match"] == 0.25


def test_undeclared_columns_come_from_the_first_row_and_strangers_are_reported_once(tmp_path, capsys):
    logger = quiet(tmp_path, console=True)
    for step in range(3):
        logger.step({"step": step, "loss_total": 1.0} if step == 0 else {"step": step, "stranger": 5})
    logger.close()
    assert list(pd.read_csv(tmp_path / STEP_FILE).columns) == ["step", "loss_total"]
    assert capsys.readouterr().err.count("stranger") == 1


WORKER = """
import json, os, random, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from utils.atomic_io import write_json
from utils.logging_utils import DistillationLogger, step_columns

folder, kill_at, torn = Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "torn"
write = os.pwrite

def torn_write(descriptor, data, offset):
    write(descriptor, bytes(data)[:len(data) // 2 + 1], offset)
    os.kill(os.getpid(), signal.SIGKILL)

checkpoint = folder / "checkpoint.json"
logger = DistillationLogger(folder / "run", tensorboard=True, console=False, main_process=True)
logger.declare_step_columns(step_columns(["focal", "jsd"]))
begin = 0
if checkpoint.exists():
    state = json.loads(checkpoint.read_text())
    begin = state["step"]
    logger.load_state_dict(state["logger"])
for step in range(begin + 1, 204):
    if step == kill_at and torn:
        os.pwrite = torn_write
    value = random.Random(step).random()
    logger.step({"epoch": step / 100, "step": step, "focal_loss_raw": value, "loss_total": 2 * value})
    if step == kill_at and not torn:
        os.kill(os.getpid(), signal.SIGKILL)
    if step % 5 == 0:
        logger.training({"kind": "step", "epoch": step / 100, "step": step, "train_loss": value})
        logger.scalars("Loss", {"total": value}, step)
    if step % 20 == 0:
        logger.training({"kind": "validation", "epoch": step / 100, "step": step, "exact_match": value})
        logger.sample_predictions(step, [{"id": i, "reference": "a\\nb", "prediction": str(value)} for i in range(2)])
    if step % 7 == 0:
        write_json(checkpoint, {"step": step, "logger": logger.state_dict()})
logger.close()
"""


def run_worker(folder: Path, kill_at: int = 0, how: str = "") -> int:
    folder.mkdir(exist_ok=True)
    command = [sys.executable, "-c", WORKER, str(ROOT), str(folder), str(kill_at), how]
    return subprocess.run(command, timeout=120).returncode


def test_killed_and_resumed_files_equal_those_of_an_uninterrupted_run(tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert run_worker(whole) == 0
    # Before the first checkpoint, between two, right after one; in a step, and in the middle of a write.
    for kill_at, how in ((3, "torn"), (18, "step"), (19, "torn"), (60, "torn"), (71, "step"), (155, "torn")):
        assert run_worker(broken, kill_at, how) == -signal.SIGKILL
    assert run_worker(broken) == 0
    for name in (STEP_FILE, TRAINING_FILE, SAMPLES_FILE):
        assert (broken / "run" / name).read_bytes() == (whole / "run" / name).read_bytes(), name
    steps = pd.read_csv(broken / "run" / STEP_FILE)
    assert steps["step"].tolist() == list(range(1, 204))
    events = read_events(broken / "run" / "tensorboard").Scalars("Loss/total")
    assert [event.step for event in events] == list(range(5, 204, 5))


def test_a_run_killed_before_its_first_checkpoint_starts_its_files_again(tmp_path):
    logger = quiet(tmp_path)
    logger.step({"step": 1, "loss_total": 1.0})
    logger.sample_predictions(1, [{"id": 0, "reference": "x", "prediction": "y"}])
    logger.close()
    again = quiet(tmp_path)
    again.step({"step": 1, "loss_total": 3.0})
    again.close()
    assert pd.read_csv(tmp_path / STEP_FILE)["loss_total"].tolist() == [3.0]
    assert not (tmp_path / SAMPLES_FILE).exists()


def test_rows_missing_at_resume_are_told(tmp_path, capsys):
    logger = quiet(tmp_path)
    logger.step({"step": 1, "loss_total": 1.0})
    state = logger.state_dict()
    logger.close()
    (tmp_path / STEP_FILE).write_text("")
    again = quiet(tmp_path, console=True)
    again.load_state_dict(json.loads(json.dumps(state)))
    again.close()
    assert "some rows are missing" in capsys.readouterr().err


@contextlib.contextmanager
def small_disk(folder: Path):
    """A folder with room for 64 kB, and a way to give it more: a tmpfs for root, else a file size limit."""
    if (
        os.geteuid() == 0
        and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True).returncode
        == 0
    ):
        try:
            yield lambda: subprocess.run(["mount", "-o", "remount,size=4m", folder], check=True)
        finally:
            subprocess.run(["umount", "-l", folder], check=True)
    else:
        import resource

        old = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, old[1]))
        try:
            yield lambda: resource.setrlimit(resource.RLIMIT_FSIZE, old)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, old)
            signal.signal(signal.SIGXFSZ, handler)


def test_full_disk_warns_once_and_the_rows_follow_when_there_is_room(tmp_path, capsys):
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder) as enlarge:
        logger = quiet(folder, console=True)
        for step in range(3000):
            logger.step({"step": step, "loss_total": step + 0.123456789012345})
            if step % 100 == 0:
                logger.training({"kind": "step", "step": step})
        logger.state_dict()
        logger.export_json()
        told = capsys.readouterr().err
        assert told.count("step_metrics.csv (") == 1, told
        on_disk = (folder / STEP_FILE).read_bytes()
        assert on_disk.endswith(b"\n") or not on_disk, "a half line was left behind"
        enlarge()
        logger.close()
        assert "nothing was lost" in capsys.readouterr().err
        assert pd.read_csv(folder / STEP_FILE)["step"].tolist() == list(range(3000))


def test_tensorboard_on_a_full_disk_is_one_warning(tmp_path, capsys):
    folder = tmp_path / "disk"
    folder.mkdir()
    with small_disk(folder):
        logger = quiet(folder, console=True, tensorboard=True)
        for step in range(1500):
            logger.scalars("Loss", {f"part_{number}": 1.0 for number in range(20)}, step)
        logger.state_dict()
        logger.close()
    told = capsys.readouterr().err
    assert told.count("TensorBoard is off") == 1 and "Traceback" not in told


def test_tensorboard_leaves_the_process_as_it_is(tmp_path):
    hook, threads = threading.excepthook, threading.active_count()
    logger = quiet(tmp_path, tensorboard=True)
    logger.scalars("Loss", {"total": 1.0}, 1)
    assert threading.excepthook is hook and threading.active_count() == threads
    logger.close()


def test_a_file_in_the_way_does_not_stop_training(tmp_path, capsys):
    (tmp_path / "run").write_text("not a folder")
    logger = quiet(tmp_path / "run", console=True, tensorboard=True)
    for step in range(3):
        logger.step({"step": step})
        logger.training({"kind": "step", "step": step})
        logger.scalars("Loss", {"total": 1.0}, step)
    logger.state_dict()
    logger.export_json()
    logger.close()
    told = capsys.readouterr().err
    assert told.count("step_metrics.csv (") == 1 and told.count("TensorBoard is off") == 1


def test_tensorboard_failing_later_is_told_once(tmp_path, capsys, monkeypatch):
    logger = quiet(tmp_path, console=True, tensorboard=True)
    logger.scalars("Loss", {"total": 1.0}, 1)

    def fail(records, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tensorboard.summary.writer.record_writer.RecordWriter.write", fail)
    for step in range(5):
        logger.scalars("Loss", {"total": 1.0}, step)
        logger.text("Validation/x", "text", step)
    logger.close()
    assert capsys.readouterr().err.count("TensorBoard is off") == 1


def test_a_secondary_process_writes_nothing(tmp_path, capsys):
    logger = DistillationLogger(tmp_path, tensorboard=True, console=True, main_process=False)
    logger.info("hello")
    logger.start_progress(10)
    logger.step({"step": 1})
    logger.training({"kind": "step", "step": 1})
    logger.scalars("Loss", {"total": 1.0}, 1)
    logger.sample_predictions(1, [{"prediction": "x"}])
    assert logger.state_dict() == {}
    logger.load_state_dict({})
    logger.export_json()
    logger.close()
    assert not any(tmp_path.iterdir())
    assert capsys.readouterr() == ("", "")


def read_events(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def test_tensorboard_reads_back_the_eight_groups_and_the_text(tmp_path):
    logger = quiet(tmp_path, tensorboard=True)
    for step in range(1, 4):
        for group in GROUPS:
            logger.scalars(group, {"a": step * 0.5, "absent": None}, step)
    logger.sample_predictions(3, [{"id": 0, "reference": "assertTrue(a)", "prediction": "assertTrue(b)"}])
    logger.close()
    events = read_events(tmp_path / "tensorboard")
    assert sorted(events.Tags()["scalars"]) == sorted(
        f"{group}/a"
        for group in (
            "Loss",
            "Loss_Raw",
            "Loss_Weighted",
            "Weights",
            "Gradients",
            "Hyperparams",
            "Validation",
            "Training",
        )
    )
    assert [(e.step, e.value) for e in events.Scalars("Weights/a")] == [(1, 0.5), (2, 1.0), (3, 1.5)]
    text = events.Tensors("Validation/sample_predictions")[0].tensor_proto.string_val[0].decode()
    assert "assertTrue(b)" in text


def test_plain_lines_are_greppable_and_the_log_has_timestamps(tmp_path, capsys):
    logger = quiet(tmp_path, console=True)
    logger.start_progress(100)
    logger.info("teacher t5\nstudent t5")
    logger.warning("12 % of the inputs are cut")
    logger.step({"step": 10, "focal_loss_raw": 2.5, "jsd_loss_raw": 0.125})
    logger.training({"kind": "step", "epoch": 0.1, "step": 10, "train_loss": 1.5, "learning_rate": 5e-5})
    logger.close()
    out, err = capsys.readouterr()
    assert re.search(r"^step=10/100 epoch=0\.1 loss=1\.5 focal=2\.5 jsd=0\.125 lr=5e-05 eta=\S+$", out, re.M)
    assert err == "warning: 12 % of the inputs are cut\n"
    lines = (tmp_path / LOG_FILE).read_text().splitlines()
    assert len(lines) == 4
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (INFO|WARNING) ", line) for line in lines)


def test_time_and_memory_are_estimated_after_a_few_steps(tmp_path, capsys, monkeypatch):
    logger = quiet(tmp_path, console=True)
    logger.start_progress(106, initial=0)
    clock = iter((0.0, 9.0, 9.5, 10.0, 10.5, 11.0, 11.5, 12.0))
    monkeypatch.setattr("utils.logging_utils.time.monotonic", lambda: now)
    for step in range(1, 7):
        now = next(clock)
        logger.step({"step": step, "memory_mb": 2048})
    monkeypatch.undo()
    logger.close()
    assert capsys.readouterr().out == "0.5 s a step: about 50 s to go, 2.0 GiB in use\n"


def test_a_dry_run_says_everything_and_writes_nothing(tmp_path, capsys):
    logger = quiet(tmp_path / "run", console=True, tensorboard=True, files=False)
    logger.info("hello")
    logger.warning("careful")
    logger.step({"step": 1, "loss_total": 1.0})
    logger.training({"kind": "step", "step": 1})
    logger.scalars("Loss", {"total": 1.0}, 1)
    logger.export_json()
    logger.close()
    assert capsys.readouterr() == ("hello\n", "warning: careful\n") and not (tmp_path / "run").exists()


def test_a_terminal_gets_a_bar_and_a_file_does_not(tmp_path):
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from utils.logging_utils import DistillationLogger\n"
        f"l = DistillationLogger({str(tmp_path)!r}, tensorboard=False, console=True, main_process=True)\n"
        "l.start_progress(4)\n"
        "for s in range(1, 5):\n"
        "    l.step({'step': s, 'focal_loss_raw': 2.5}); l.training({'kind': 'step', 'step': s, 'train_loss': 1.5})\n"
        "l.info('said'); l.close()\n"
    )
    piped = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert piped.stdout.count("step=") == 4 and "|" not in piped.stderr
    leader, follower = os.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    process = subprocess.Popen([sys.executable, "-c", program], stdout=follower, stderr=follower)
    os.close(follower)
    shown = b""
    with contextlib.suppress(OSError):  # EIO: the other end closed
        while chunk := os.read(leader, 4096):
            shown += chunk
    process.wait(timeout=60)
    os.close(leader)
    text = shown.decode()
    assert "4/4" in text and "focal=2.5" in text and "said" in text and "step=4/4" not in text


def test_json_export_has_numbers_and_no_nan(tmp_path):
    logger = quiet(tmp_path)
    logger.step({"step": 1, "loss_total": math.inf, "alpha": None, "temperature": 4.0})
    logger.training({"kind": "epoch", "epoch": 1, "step": 1, "train_loss": 0.25})
    logger.close()
    export_json(tmp_path)
    exported = json.loads((tmp_path / "metrics.json").read_text(), parse_constant=pytest.fail)
    assert exported["step_metrics"] == [{"step": 1, "loss_total": None, "alpha": None, "temperature": 4.0}]
    assert exported["training_metrics"][0]["kind"] == "epoch"
    assert exported["training_metrics"][0]["train_loss"] == 0.25


def test_a_step_costs_little(tmp_path):
    """Less than 2 % of a step of 20 ms, with TensorBoard at every tenth step; the best of five rounds."""
    logger = quiet(tmp_path, tensorboard=True)
    columns = step_columns([*COMPONENTS, "contrastive"])
    logger.declare_step_columns(columns)
    logger.scalars("Loss", {"total": 1.0}, 0)
    row = dict.fromkeys(columns, 0.123456789)
    best, step = math.inf, 0
    for _ in range(5):
        begin = time.process_time()
        for _ in range(200):
            step += 1
            row["step"] = step
            logger.step(row)
            if step % 10 == 0:
                logger.training({"kind": "step", "step": step, "train_loss": 0.5})
                for group in GROUPS[:6]:
                    logger.scalars(group, dict.fromkeys(COMPONENTS, 0.5), step)
        best = min(best, (time.process_time() - begin) / 200)
    logger.close()
    assert best < 0.02 * 0.020, f"{best * 1e6:.0f} µs a step"


def test_after_a_torn_csv_the_next_row_begins_its_own_line(tmp_path):
    path, warned = tmp_path / "m.csv", []
    log = CsvLog(path, warned.append, ["step", "loss"])
    for step in range(3):
        log.row({"step": step, "loss": 2.71828})
    log.close()
    length = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-4])
    log = CsvLog(path, warned.append, ["step", "loss"])
    log.truncate_to(length)
    log.row({"step": 9, "loss": 1.5})
    log.close()
    assert [row["step"] for row in read_csv(path)] == ["0", "1", "9"] and len(warned) == 1


def test_a_stream_that_knows_no_arrow_still_gets_the_rest():
    words = "from utils.errors import run_main; run_main(lambda: print(chr(0x2192)))"
    done = subprocess.run(
        [sys.executable, "-c", words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONIOENCODING": "latin-1"},
    )
    assert (done.returncode, done.stdout) == (0, "?\n")
