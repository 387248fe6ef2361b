"""The job scripts: on a real Slurm of one node (marker slurm), and what they do that needs no Slurm."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.helpers.slurm_cluster import FINISHED, SlurmCluster, missing_reason
from utils.signals import REQUEUE_EXIT_CODE

ROOT = Path(__file__).resolve().parents[2]
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


def test_missing_grid_is_named(data: dict[str, str]) -> None:
    assert_refused(run_script("ablation_array", **data, GRID="/nowhere/grid.json"), "GRID", "/nowhere/grid.json")


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
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "SLURM_JOB_ID": "7", **environment},
    )
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
    assert "stopped as asked; requeueing job 7" in output


def test_termination_is_passed_on_and_left_to_slurm(tmp_path: Path) -> None:
    code, output, calls = interrupt(tmp_path, [sys.executable, "-c", CHILD], signal.SIGTERM)
    assert "child got SIGTERM" in output
    assert (code, calls) == (85, "")


def test_time_limit_before_the_child_is_ready_requeues(tmp_path: Path) -> None:
    code, output, calls = interrupt(tmp_path, ["sh", "-c", "echo ready; exec sleep 60"], signal.SIGUSR1)
    assert (code, calls) == (0, "requeue 7\n")
    assert "stopped before it could save anything; requeueing job 7" in output


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


@pytest.mark.parametrize(
    ("program", "signals", "expected"),
    [
        (TRAINER, [signal.SIGUSR1], 85),
        (TRAINER, [signal.SIGTERM], 128 + signal.SIGTERM),
        # The launcher of another node was quicker: srun ends this one while its workers still write.
        (TRAINER.replace("sys.exit(85)", "time.sleep(20)"), [signal.SIGUSR1, signal.SIGTERM], 85),
        ("raise SystemExit(3)", [], 1),
        ("", [], 0),
    ],
)
def test_torchrun_hands_on_the_workers_exit_code(
    tmp_path: Path, program: str, signals: list[int], expected: int
) -> None:
    script = tmp_path / "trainer.py"
    script.write_text(program)
    options = ["--nproc_per_node=2", "--rdzv_backend=c10d", "--rdzv_endpoint=127.0.0.1:0", "--local_addr=127.0.0.1"]
    command = [sys.executable, "slurm_scripts/torchrun.py", *options, str(script), f"{tmp_path}/ready"]
    process = subprocess.Popen(command, cwd=ROOT)
    if signals:
        while len(list(tmp_path.glob("ready*"))) < 2:
            assert process.poll() is None
            time.sleep(0.1)
        launcher = psutil.Process(process.pid)
        everybody = [launcher, *launcher.children(recursive=True)]
        for number in signals:
            for item in everybody:  # as Slurm does
                with contextlib.suppress(psutil.NoSuchProcess):  # ended by the launcher, which was told first
                    item.send_signal(number)
            time.sleep(0.5)
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


# --- On a real Slurm ------------------------------------------------------------------------------------------------

PARTITIONS = {"gpu-a100": "2-00:00:00", "gpu-v100": "2-00:00:00"}  # DelftBlue's names, its limit for GPU jobs
TABLE = {  # script: time limit, GPUs
    "test_cuda": ("00:30:00", 1),
    "student_training_gpu": ("08:00:00", 1),
    "teacher_training_gpu": ("12:00:00", 1),
    "multi_gpu_training": ("16:00:00", 2),
}
PATIENCE = 400  # seconds for one job, on a machine that does other things too


def write_rows(path: Path, first: int, count: int) -> None:
    """Raw rows: a small method, its test without the assertion, the assertion."""
    with path.open("w") as file:
        for i in range(first, first + count):
            name, number = f"scale{i % 7}", i % 10
            row = {
                "focal_method": f"public int {name}(int x) {{ return x * {number}; }}",
                "test_method_masked": f"@Test public void test{i}() {{ int y = box.{name}({i}); <AssertPlaceHolder> }}",
                "assertions": [f"assertEquals({i * number}, y);"],
            }
            file.write(json.dumps(row) + "\n")


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the repository to submit from, so that its logs and results stay out of the real one."""
    folder = tmp_path_factory.mktemp("checkout") / "repository"
    unwanted = (".*", "__pycache__", "results", "teacher_models", "corpus", "build", "slurm-*", "*.jsonl", "*.idx")
    shutil.copytree(ROOT, folder, ignore=shutil.ignore_patterns(*unwanted))
    write_rows(folder / "data/training.jsonl", 0, 48)
    write_rows(folder / "data/validation.jsonl", 48, 8)
    return folder


@pytest.fixture(scope="module")
def cluster() -> Iterator[SlurmCluster]:
    require(missing_reason())
    with SlurmCluster(PARTITIONS) as running:
        yield running


@pytest.fixture(scope="module")
def environment(checkout: Path) -> dict[str, str]:
    """What a user would put in front of sbatch, for a run that takes a minute on a CPU."""
    return {
        "DEVICE": "cpu",
        "MODULES": "",
        "VENV": virtual_environment(),
        "OMP_NUM_THREADS": "1",
        "NUM_WORKERS": "0",
        "MODEL_NAME": "scratch:tiny",
        "DISTIL_CACHE": str(checkout / "cache"),
        "HF_HOME": str(checkout / "cache"),
    }


@pytest.fixture(scope="module")
def teacher(cluster: SlurmCluster, checkout: Path, environment: dict[str, str]) -> Path:
    """The output folder of a teacher's job that has run to its end."""
    tiny = environment | {"EPOCHS": "1", "OUTPUT_DIR": "teacher_models/tiny"}
    job = cluster.submit("slurm_scripts/teacher_training_gpu.sh", cwd=checkout, **tiny)
    assert cluster.wait(job, PATIENCE) == "COMPLETED", log(checkout, job)
    return checkout / "teacher_models/tiny"


def log(checkout: Path, job: int | str) -> str:
    return (checkout / f"logs/slurm-{job}.out").read_text()


def steps(run: Path) -> list[str]:
    """The lines of a run's step_metrics.csv, without its header."""
    file = run / "step_metrics.csv"
    return file.read_text().splitlines()[1:] if file.exists() else []


def assert_same_run(run: Path, reference: Path) -> None:
    """Metrics (time and memory columns aside), predictions and evaluation are those of the reference."""
    for name in ("step_metrics.csv", "training_metrics.csv"):
        got, expected = (
            [
                {key: value for key, value in row.items() if not re.search("time|second|memory|per_sec", key)}
                for row in csv.DictReader((folder / name).open())
            ]
            for folder in (run, reference)
        )
        assert expected and got == expected, name
    assert (run / "predictions_final.jsonl").read_bytes() == (reference / "predictions_final.jsonl").read_bytes()
    got, expected = (json.loads((folder / "metrics_summary_final.json").read_text()) for folder in (run, reference))
    assert got["student"] and got["student"] == expected["student"]


def assert_went_on(run: Path, before: list[str]) -> None:
    """Seconds are in these lines: were the steps run again, they would differ."""
    assert before and steps(run)[: len(before)] == before


@pytest.fixture(scope="module")
def student(environment: dict[str, str], teacher: Path) -> dict[str, str]:
    return environment | {
        "TRAIN_DATA": str(teacher / "distillation_data_training.jsonl"),
        "VAL_DATA": str(teacher / "distillation_data_validation.jsonl"),
        "GRADIENT_ACCUMULATION_STEPS": "1",
        "RECIPE": "--loss_function multi_component --loss_components focal jsd --enable_dynamic_weighting",
        "EXTRA_ARGS": "--embedding_model embedded:minilm --validation_frequency 0",
    }


def submit_pair(cluster: SlurmCluster, checkout: Path, script: str, **student: str) -> dict[str, tuple[int, Path]]:
    """Two jobs of one configuration: job number and run folder of the one to be left alone and of the other."""
    pair = {}
    for name in ("alone", "interrupted"):
        output_dir = f"results/{script}-{name}"
        job = cluster.submit(f"slurm_scripts/{script}.sh", cwd=checkout, **student, OUTPUT_DIR=output_dir)
        pair[name] = job, checkout / output_dir
    return pair


def wait_for_training(cluster: SlurmCluster, job: int, run: Path) -> None:
    cluster.wait_for(lambda: len(steps(run)) > 3 or cluster.state(job) in FINISHED, PATIENCE, f"steps of job {job}")


@pytest.mark.slurm
@pytest.mark.parametrize("script", TABLE)
def test_scripts_ask_for_what_the_table_says(cluster: SlurmCluster, checkout: Path, script: str) -> None:
    job = cluster.submit(f"slurm_scripts/{script}.sh", "--hold", cwd=checkout)
    asked = cluster.job(job)
    cluster.run("scancel", str(job))
    time_limit, gpus = TABLE[script]
    assert asked["Partition"] in PARTITIONS
    assert asked["TimeLimit"] == time_limit
    assert asked["TresPerNode"].split(":")[-1] == str(gpus)
    assert asked["CPUs/Task"] == "8"
    assert asked["StdOut"] == f"{checkout}/logs/slurm-{job}.out"


@pytest.mark.slurm
def test_cuda_check_runs_as_a_job(cluster: SlurmCluster, checkout: Path, environment: dict[str, str]) -> None:
    job = cluster.submit("slurm_scripts/test_cuda.sh", cwd=checkout, **environment)
    assert cluster.wait(job, PATIENCE) == "COMPLETED", log(checkout, job)
    assert "CPU check passed" in log(checkout, job)


@pytest.mark.slurm
def test_teacher_writes_the_distillation_data(teacher: Path) -> None:
    for name, rows in (("training", 48), ("validation", 8)):
        lines = (teacher / f"distillation_data_{name}.jsonl").read_text().splitlines()
        assert sum("teacher_logits_compressed" in json.loads(line) for line in lines) == rows


@pytest.mark.slurm
def test_a_task_of_the_array_trains_its_variant_with_its_seed(
    cluster: SlurmCluster, checkout: Path, student: dict[str, str]
) -> None:
    (checkout / "variants.txt").write_text("# comment\nhard: --loss_components ce\n\nsoft: --loss_components kl\n")
    array = student | {
        "VARIANTS": "variants.txt",
        "SEEDS": "7 8",
        "OUTPUT_DIR": "results/array",
        "EXTRA_ARGS": "--max_steps 1 --embedding_model embedded:minilm --validation_frequency 0 --no_final_evaluation",
    }
    job = cluster.submit("slurm_scripts/array_training.sh", "--array=3", cwd=checkout, **array)
    cluster.wait_for(lambda: not cluster.run("squeue", "--noheader", f"--job={job}").strip(), PATIENCE, "the array")
    assert (checkout / "results/array/soft-seed8/final_model").is_dir(), log(checkout, f"{job}_3")
    settings = json.loads((checkout / "results/array/soft-seed8/run_config.json").read_text())["config"]
    assert (settings["seed"], settings["loss_components"]) == (8, ["kl"])


@pytest.mark.slurm
def test_an_ablation_is_an_array(
    cluster: SlurmCluster, checkout: Path, environment: dict[str, str], teacher: Path
) -> None:
    student = {
        "model_name": "scratch:tiny",
        "epochs": 1,
        "max_steps": 1,
        "batch_size": 4,
        "max_input_len": 96,
        "max_output_len": 32,
        "embedding_model": "embedded:minilm",
        "num_workers": 0,
        "device": "cpu",
        "validation_frequency": 0,
        "max_val_samples": 2,
        "no_tensorboard": True,
    }
    contenders = {name: {"loss_components": [name]} for name in ("ce", "kl")}
    stages = {"core": {"seeds": [1], "rows": [8], "contenders": ["ce", "kl"]}}
    grid = {"title": "", "about": "", "teacher": {}, "student": student, "contenders": contenders, "stages": stages}
    (checkout / "grid.json").write_text(json.dumps(grid))
    (checkout / "ablation").mkdir()
    (checkout / "ablation" / "teacher").symlink_to(teacher)
    variables = environment | {"GRID": "grid.json", "OUTPUT_DIR": "ablation"}
    job = cluster.submit("slurm_scripts/ablation_array.sh", "--array=1", cwd=checkout, **variables)
    cluster.wait_for(lambda: not cluster.run("squeue", "--noheader", f"--job={job}").strip(), PATIENCE, "the array")
    assert (checkout / "grid" / "kl-8-seed1.json").is_file(), log(checkout, f"{job}_1")
    assert not (checkout / "grid" / "ce-8-seed1.json").exists()


SRUN = """
import torch
from utils.device import adopt_srun, build_accelerator
adopt_srun()
accelerator, _ = build_accelerator("cpu", fp16=False, bf16=False)
total = accelerator.reduce(torch.tensor([2.0 ** accelerator.process_index]), "sum").item()
print("rank", accelerator.process_index, "of", accelerator.num_processes, "sum", total)
accelerator.end_training()
"""


@pytest.mark.slurm
def test_plain_srun_makes_one_run_of_its_tasks(cluster: SlurmCluster, checkout: Path) -> None:
    (checkout / "ranks.py").write_text(SRUN)
    output = cluster.run("srun", "--ntasks=2", sys.executable, "ranks.py", cwd=checkout, PYTHONPATH=".")
    assert sorted(output.splitlines()) == ["rank 0 of 2 sum 3.0", "rank 1 of 2 sum 3.0"]


@pytest.mark.slurm
def test_preempted_student_ends_as_one_left_alone(
    cluster: SlurmCluster, checkout: Path, student: dict[str, str]
) -> None:
    pair = submit_pair(cluster, checkout, "student_training_gpu", **student, EPOCHS="12")
    job, run = pair["interrupted"]
    wait_for_training(cluster, job, run)
    cluster.run("scontrol", "requeue", str(job))
    cluster.wait_for(lambda: cluster.state(job) == "PENDING", 90, "the preempted job to be pending")
    before = steps(run)
    for number, _ in pair.values():
        assert cluster.wait(number, PATIENCE) == "COMPLETED", log(checkout, number) + cluster.logs()
    assert cluster.job(job)["Restarts"] == "1"
    assert_went_on(run, before)
    assert_same_run(run, pair["alone"][1])


@pytest.mark.slurm
def test_two_processes_at_their_time_limit_end_as_if_left_alone(
    cluster: SlurmCluster, checkout: Path, student: dict[str, str]
) -> None:
    pair = submit_pair(cluster, checkout, "multi_gpu_training", **student, EPOCHS="8")
    job, run = pair["interrupted"]
    wait_for_training(cluster, job, run)
    # Slurm looks at time limits twice a minute: hold the workers until it has.
    cluster.run("scancel", "--signal=STOP", str(job))
    hours, minutes, _ = map(int, cluster.job(job)["RunTime"].split(":"))
    cluster.run("scontrol", "update", f"jobid={job}", f"TimeLimit={60 * hours + minutes + 2}")
    cluster.wait_for(lambda: "time limit near" in log(checkout, job), 60, "Slurm's signal")
    cluster.run("scancel", "--signal=CONT", str(job))
    cluster.wait_for(lambda: cluster.state(job) == "PENDING", 90, "the requeue at the time limit")
    before = steps(run)
    assert "stopped as asked; requeueing" in log(checkout, job)
    cluster.run("scontrol", "update", f"jobid={job}", "TimeLimit=60")
    for number, _ in pair.values():
        assert cluster.wait(number, PATIENCE) == "COMPLETED", log(checkout, number) + cluster.logs()
    assert cluster.job(job)["Restarts"] == "1"
    assert_went_on(run, before)
    assert_same_run(run, pair["alone"][1])
