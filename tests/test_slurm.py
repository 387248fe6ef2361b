"""The job scripts: on a real Slurm of one node (marker slurm), and what they do that needs no Slurm."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from slurm_cluster import missing_reason

from utils.training_utils import REQUEUE_EXIT_CODE

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "slurm_scripts"
TRAINING = ["student_training_gpu", "teacher_training_gpu", "multi_gpu_training", "array_training"]
IN_CI = os.environ.get("CI") == "true" or os.environ.get("PRODUCT_CI") == "1"


def require(reason: str | None) -> None:
    """Skip for this reason, if there is one; in CI fail."""
    if reason and IN_CI:
        pytest.fail(reason)
    if reason:
        pytest.skip(reason)


def virtual_environment() -> str:
    """What VENV must be for the scripts to run this interpreter's environment."""
    return sys.prefix if Path(sys.prefix, "bin/activate").exists() else ""


@pytest.fixture
def data(tmp_path: Path) -> dict[str, str]:
    file = tmp_path / "data.jsonl"
    file.write_text("{}\n")
    return {"TRAIN_DATA": str(file), "VAL_DATA": str(file), "VENV": virtual_environment(), "DEVICE": "cpu"}


def run_script(name: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a script as on a workstation, outside Slurm."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    return subprocess.run(
        ["bash", f"slurm_scripts/{name}.sh"], cwd=ROOT, env={**clean, **environment}, capture_output=True, text=True
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 2
    message = done.stderr.strip().splitlines()[-1]
    assert message.startswith("error: ")
    for word in words:
        assert word in message


@pytest.mark.parametrize("name", TRAINING)
def test_missing_data_is_named(name: str, data: dict[str, str]) -> None:
    assert_refused(run_script(name, **{**data, "VAL_DATA": "/nowhere/v.jsonl"}), "VAL_DATA", "/nowhere/v.jsonl")


@pytest.mark.parametrize("name", [*TRAINING, "test_cuda"])
def test_missing_environment_is_named(name: str, data: dict[str, str]) -> None:
    assert_refused(run_script(name, **{**data, "VENV": "/nowhere/venv"}), "/nowhere/venv", "VENV")


@pytest.mark.parametrize("name", [*TRAINING, "test_cuda"])
def test_missing_gpu_is_named(name: str, data: dict[str, str], tmp_path: Path) -> None:
    nvidia_smi = tmp_path / "nvidia-smi"
    nvidia_smi.write_text("#!/bin/sh\nexit 9\n")
    nvidia_smi.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert_refused(run_script(name, **{**data, "DEVICE": "cuda", "PATH": path}), "0 GPU(s)", "DEVICE=cpu")


def test_missing_module_is_named(data: dict[str, str]) -> None:
    module = {"BASH_FUNC_module%%": "() { [ $2 != 2024r1 ]; }"}
    assert_refused(run_script("student_training_gpu", **data, **module), "module '2024r1'", "MODULES")


def test_environment_without_torch_is_named(data: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/activate").write_text(f"PATH={tmp_path}/bin:$PATH\n")
    (tmp_path / "bin/python").symlink_to("/usr/bin/false")
    assert_refused(run_script("student_training_gpu", **{**data, "VENV": str(tmp_path)}), "bin/python", "torch")


def test_array_task_out_of_range_names_the_range(data: dict[str, str]) -> None:
    done = run_script("array_training", **data, SLURM_ARRAY_TASK_ID="8", SEEDS="1 2")
    assert_refused(done, "task 8 of 4 variants x 2 seeds", "--array=0-7")


def test_wrong_folder_is_named(tmp_path: Path) -> None:
    for script in FOLDER.glob("*.sh"):
        if script.name != "common.sh":
            done = subprocess.run(["bash", script], cwd=tmp_path, capture_output=True, text=True)
            assert_refused(done, "repository root", "PROJECT_DIR")


CHILD = """
import signal, sys, time
def end(number, frame):
    print("child got", signal.Signals(number).name, flush=True)
    sys.exit(85)
signal.signal(signal.SIGUSR1, end)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(60)
"""


def interrupt(tmp_path: Path, child: list[str], send: int | None, **environment: str) -> tuple[int, str, str]:
    """Run ``child`` under run_and_requeue, signal the shell when it is ready; exit code, output, scontrol's calls."""
    scontrol = tmp_path / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >>{tmp_path}/calls\n')
    scontrol.chmod(0o755)
    (tmp_path / "calls").write_text("")
    shell = 'set -euo pipefail; source slurm_scripts/common.sh; OUTPUT_DIR=o; run_and_requeue "$@"'
    process = subprocess.Popen(
        ["bash", "-c", shell, "_", *child],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", **environment},
    )  # fmt: skip
    assert process.stdout
    output = ""
    if send:
        for line in process.stdout:
            output += line
            if line == "ready\n":
                break
        process.send_signal(send)
    output += process.communicate(timeout=30)[0]
    return process.returncode, output, (tmp_path / "calls").read_text()


def test_time_limit_is_passed_on_and_requeues(tmp_path: Path) -> None:
    code, output, calls = interrupt(tmp_path, [sys.executable, "-c", CHILD], signal.SIGUSR1)
    assert "child got SIGUSR1" in output
    assert (code, calls) == (0, "requeue 7\n")


def test_termination_is_passed_on_and_left_to_slurm(tmp_path: Path) -> None:
    code, output, calls = interrupt(tmp_path, [sys.executable, "-c", CHILD], signal.SIGTERM)
    assert "child got SIGTERM" in output
    assert (code, calls) == (85, "")


def test_time_limit_before_the_child_is_ready_requeues(tmp_path: Path) -> None:
    code, _, calls = interrupt(tmp_path, ["sh", "-c", "echo ready; exec sleep 60"], signal.SIGUSR1)
    assert (code, calls) == (0, "requeue 7\n")


def test_checkpoint_without_a_signal_to_the_shell_requeues(tmp_path: Path) -> None:
    code, _, calls = interrupt(tmp_path, ["sh", "-c", "exit 85"], None, SLURM_RESTART_COUNT="3")
    assert (code, calls) == (0, "requeue 7\n")


@pytest.mark.parametrize("status", [0, 1, 2, 137])
def test_other_ends_are_final(tmp_path: Path, status: int) -> None:
    code, _, calls = interrupt(tmp_path, ["sh", "-c", f"exit {status}"], None)
    assert (code, calls) == (status, "")


def test_endless_restarts_stop(tmp_path: Path) -> None:
    code, output, calls = interrupt(tmp_path, ["sh", "-c", "exit 85"], None, SLURM_RESTART_COUNT="20")
    assert (code, calls) == (2, "")
    assert "OUTPUT_DIR=o" in output


def test_exit_code_is_the_trainings() -> None:
    assert f"REQUEUE_EXIT_CODE={REQUEUE_EXIT_CODE} " in (FOLDER / "common.sh").read_text()


TRAINER = """
import os, signal, sys, time
signal.signal(signal.SIGUSR1, lambda *_: sys.exit(85))
open(sys.argv[1] + os.environ["RANK"], "w").close()
time.sleep(60)
"""


@pytest.mark.parametrize(("program", "expected"), [(TRAINER, 85), ("raise SystemExit(3)", 1), ("", 0)])
def test_torchrun_hands_on_the_workers_exit_code(tmp_path: Path, program: str, expected: int) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(program)
    options = ["--nproc_per_node=2", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0", "--local_addr=127.0.0.1"]
    command = [sys.executable, "slurm_scripts/torchrun.py", *options, str(script), f"{tmp_path}/ready"]
    process = subprocess.Popen(command, cwd=ROOT)
    while len(list(tmp_path.glob("ready*"))) < 2 and process.poll() is None:
        time.sleep(0.1)
    if process.poll() is None:
        launcher = psutil.Process(process.pid)
        for item in [launcher, *launcher.children(recursive=True)]:  # as Slurm does
            item.send_signal(signal.SIGUSR1)
    assert process.wait(30) == expected


def test_logs_folder_is_part_of_the_repository() -> None:
    """Slurm fails a job without a word when the folder of its output is missing."""
    assert (ROOT / "logs").is_dir()


def test_every_variable_is_documented() -> None:
    readme = (FOLDER / "README.md").read_text()
    set_by_others = {"HOME", "GLOO_SOCKET_IFNAME", "OMP_NUM_THREADS", "DISTIL_CACHE"}
    for script in FOLDER.glob("*.sh"):
        text = script.read_text()
        names = set(re.findall(r"\$\{([A-Z_]+):?-", text)) | set(re.findall(r"^ *option ([A-Z_]+)", text, re.M))
        for name in names - set_by_others:
            assert name.startswith("SLURM_") or f"`{name}`" in readme, f"{script.name}: {name}"


def test_shellcheck() -> None:
    require(missing_reason(["shellcheck"], ["shellcheck"]))
    done = subprocess.run(["shellcheck", "-x", *FOLDER.glob("*.sh")], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
