"""Faults of a run, as trials: each breaks a run in a way drawn from a seed and shows that nothing is lost.

tests/commands/test_faults.py makes few of each, benchmarks/soak the full counts. The functions named ``plant_*`` are
called in the run itself, before it begins (tests/helpers/forked.py).
"""

from __future__ import annotations

import csv
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.training.checkpoint import checkpoints
from tests.helpers.commands import ROOT, SMALL, make_rows, write_rows
from tests.helpers.forked import Started, run
from utils import folder_lock
from utils.logging_utils import UNSTABLE_COLUMNS
from utils.signals import REQUEUE_EXIT_CODE

# -- what a run leaves -------------------------------------------------------------------------------------------------


def table(path: Path) -> list[dict[str, str]]:
    """A CSV without the columns that time and memory decide."""
    with open(path, newline="") as handle:
        return [{k: v for k, v in row.items() if k not in UNSTABLE_COLUMNS} for row in csv.DictReader(handle)]


def outcome(folder: Path) -> dict[str, Any]:
    """What must be the same, byte for byte, whatever happened to a run."""
    last = checkpoints(folder)[-1]
    found: dict[str, Any] = {
        "weights": (folder / "final_model" / "model.safetensors").read_bytes(),
        "best": (folder / "best_model" / "model.safetensors").read_bytes(),
        "optimizer": (last / "training_state.pt").read_bytes(),
        "steps": table(folder / "step_metrics.csv"),
        "training": table(folder / "training_metrics.csv"),
        "samples": (folder / "sample_predictions.jsonl").read_bytes(),
        "left behind": [path.name for path in folder.iterdir() if path.name.endswith((".tmp", ".old"))],
    }
    if (folder / "metrics_summary_final.json").exists():
        summary = json.loads((folder / "metrics_summary_final.json").read_text())
        found["predictions"] = (folder / "predictions_final.jsonl").read_bytes()
        found["metrics"] = [summary["teacher"], summary["student"], summary["comparison"]]
    for part in ("training", "validation"):
        file = folder / f"distillation_data_{part}.jsonl"
        if file.exists():
            found[part] = file.read_text().splitlines()[1:]  # the header names the teacher's folder
            found[f"{part} shared"] = (folder / f"{file.name}.shared.safetensors").read_bytes()
    return found


def assert_same(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert one.keys() == two.keys()
    for key in one:
        assert one[key] == two[key], f"{key} differs"


# -- faults that are planted in a run ----------------------------------------------------------------------------------

PHASES = {
    "a step": "models.training.engine:TrainingEngine.train_step",
    "a save": "models.training.engine:save_checkpoint",
    "the best model's save": "models.training.engine:save_best",
    "a validation": "evaluation.validation:Validator.__call__",
    "the final evaluation": "evaluation.systems.models:ModelRunner.run",
    "data generation": "models.teacher.writer:DistillationWriter.write_chunk",
    "joining the generated data": "models.teacher.writer:DistillationWriter.merge",
}


def _wrap(place: str, around: Callable[[Callable, tuple, dict], Any]) -> None:
    """Replace ``module:Class.name`` by ``around(original, args, kwargs)``."""
    module, _, path = place.partition(":")
    owner: Any = importlib.import_module(module)
    *parents, name = path.split(".")
    for parent in parents:
        owner = getattr(owner, parent)
    original = getattr(owner, name)
    setattr(owner, name, lambda *args, **kwargs: around(original, args, kwargs))


def _kill_after(seconds: float) -> None:
    """``kill -9`` from outside, whatever this process is doing then."""
    victim = os.getpid()
    if os.fork() == 0:
        time.sleep(seconds)
        with suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        os._exit(0)


def plant_kill(phase: str, call: int, share: float) -> None:
    """SIGKILL in the ``call``-th run of a phase: after about ``share`` of the time of the one before, or of 0.1 s."""
    calls, took = 0, 0.1

    def around(original: Callable, args: tuple, kwargs: dict) -> Any:
        nonlocal calls, took
        calls += 1
        started = time.monotonic()
        if calls == call:
            _kill_after(share * took)
        try:
            return original(*args, **kwargs)
        finally:
            took = time.monotonic() - started
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)

    _wrap(PHASES[phase], around)


def plant_signal(phase: str, call: int, numbers: list[int]) -> None:
    """Signals to this process and its workers at the beginning of the ``call``-th run of a phase."""
    calls = 0

    def around(original: Callable, args: tuple, kwargs: dict) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            for number in numbers:
                for worker in multiprocessing.active_children():
                    os.kill(worker.pid or 0, number)
                os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    _wrap(PHASES[phase], around)


def plant_command(phase: str, call: int, command: list[str]) -> None:
    """A command at the beginning of the ``call``-th run of a phase."""
    calls = 0

    def around(original: Callable, args: tuple, kwargs: dict) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            subprocess.run(command, check=True)
        return original(*args, **kwargs)

    _wrap(PHASES[phase], around)


def plant_small_files(phase: str, call: int, size: int) -> None:
    """From the ``call``-th run of a phase on, no file may grow beyond ``size`` bytes: as near as one can come to a full
    disk where nothing can be mounted."""
    calls = 0

    def around(original: Callable, args: tuple, kwargs: dict) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        return original(*args, **kwargs)

    _wrap(PHASES[phase], around)


def plant_nan(first: int, last: int) -> None:
    """The loss of steps ``first`` to ``last``, counted from 0, is not a number."""

    def around(original: Callable, args: tuple, kwargs: dict) -> Any:
        output = original(*args, **kwargs)
        bad = first <= engine[0].progress.step <= last
        nan = float("nan")
        return (
            type(output)(
                output.total * nan, {k: v * nan for k, v in output.raw.items()}, output.weighted, output.weights
            )
            if bad and output.total.requires_grad
            else output
        )

    engine: list[Any] = []

    def remember(original: Callable, args: tuple, kwargs: dict) -> Any:
        engine[:] = args[:1]
        return original(*args, **kwargs)

    _wrap("models.training.engine:TrainingEngine.train_step", remember)
    _wrap("models.multi_component_loss:MultiComponentLoss.__call__", around)


def plant_dying_worker(row: int) -> None:
    """The data worker that reads this row is killed, as by the kernel when memory runs out."""
    main = os.getpid()

    def around(original: Callable, args: tuple, kwargs: dict) -> Any:
        if os.getpid() != main and args[1] == row:
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    _wrap("data.dataset:AssertionDataset.__getitem__", around)


def plant_clock_jumps(seed: int) -> None:
    """Each look at the clock sees another day, before or after. The monotonic clock, as ever, only goes on."""
    draw, real = random.Random(seed), time.time
    time.time = lambda: real() + draw.uniform(-1e8, 1e8)  # type: ignore[method-assign]
    real_local = time.localtime
    time.localtime = lambda seconds=None: real_local(time.time() if seconds is None else seconds)  # type: ignore


def plant_impatience() -> None:
    """A run that finds its folder in use says so almost at once."""
    folder_lock.PATIENCE_SECONDS = 0.2


# -- places to write to ------------------------------------------------------------------------------------------------


def _may_mount() -> bool:
    probe = Path("/tmp") / f".mount-probe-{os.getpid()}"
    probe.mkdir()
    try:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", probe], capture_output=True)
        if done.returncode == 0:
            subprocess.run(["umount", probe], check=True)
        return done.returncode == 0
    except OSError:
        return False
    finally:
        probe.rmdir()


@contextmanager
def small_disk(folder: Path, mebibytes: int) -> Iterator[Path]:
    """``folder`` as a file system of its own."""
    folder.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mebibytes}m", "none", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def lock_command(folder: Path, locked: bool) -> list[str]:
    """How to take, or give back, the permission to write into a folder; root is not bound by modes."""
    if os.geteuid() == 0:
        return ["chattr", "+i" if locked else "-i", str(folder)]
    return ["chmod", "a-w" if locked else "u+w", str(folder)]


@contextmanager
def unlocked_in_the_end(folder: Path) -> Iterator[None]:
    try:
        yield
    finally:
        subprocess.run(lock_command(folder, False), check=True)


# -- trials ------------------------------------------------------------------------------------------------------------


@dataclass
class Lab:
    """A small teacher, students that were left alone, and room for more."""

    folder: Path
    teacher_run: Path
    raw: tuple[Path, Path]

    def words(self, folder: Path, *more: object, kind: str = "student", processes: int = 1) -> list[object]:
        """A student of 12 steps, 2 validations and 4 checkpoints; "judged": one with an evaluation at its end;
        "teacher": a teacher of 6 steps and its data."""
        common = [
            "--output_dir",
            folder,
            "--model_name",
            "scratch:tiny",
            "--no_run_report",
            "--save_steps",
            3,
            *SMALL,
            "--gradient_accumulation_steps",
            2 // processes,
            *more,
        ]
        if kind == "teacher":
            return [
                "train_codet5_assertions.py",
                "--train_data_path",
                self.raw[0],
                "--val_data_path",
                self.raw[1],
                "--scratch_vocab_size",
                400,
                "--epochs",
                1,
                "--compression_workers",
                0,
                *common,
            ]
        return [
            "knowledge_distillation.py",
            "--train_data_path",
            self.teacher_run / "distillation_data_training.jsonl",
            "--val_data_path",
            self.teacher_run / "distillation_data_validation.jsonl",
            "--epochs",
            2,
            "--loss_components",
            "focal",
            "jsd",
            "--embedding_model",
            "none",
            *([] if kind == "judged" else ["--no_final_evaluation"]),
            *common,
        ]

    def alone(self, kind: str = "student", processes: int = 1) -> dict[str, Any]:
        """The outcome of an undisturbed run."""
        folder = self.folder / f"{kind}_of_{processes}"
        if not (folder / "done").exists():
            run(*self.words(folder, "--overwrite", kind=kind, processes=processes), processes=processes)
            (folder / "done").touch()
        return outcome(folder)

    @contextmanager
    def room(self) -> Iterator[Path]:
        """A folder for one trial, removed where it went well."""
        folder = self.folder / f"trial_{time.monotonic_ns()}"
        yield folder
        shutil.rmtree(folder)


def resume(words: Sequence[object], **options: Any) -> str:
    return run(*words, "--resume", "auto", **options)


def killed(phases: Sequence[str], kind: str, processes: int = 1) -> Callable[[Lab, int], int]:
    """``kill -9`` of one run, in each of the phases in turn; then it may end."""

    def trial(lab: Lab, seed: int) -> int:
        draw = random.Random(f"{phases} {processes} {seed}")
        with lab.room() as folder:
            words = lab.words(folder, kind=kind, processes=processes)
            kills = 0
            for phase in phases:
                calls = {"a step": 4, "a save": 2}.get(phase, 1)
                arguments = (phase, draw.randint(1, calls), draw.random())
                # Only the main process saves; the others' steps are hit as well.
                rank = draw.randrange(processes) if phase == "a step" else 0
                code = Started([*words, "--resume", "auto"], processes, plant_kill, arguments, rank).wait().code
                assert code in (0, -signal.SIGKILL), code
                kills += code != 0  # the run may have passed this phase
            resume(words, processes=processes)
            assert_same(outcome(folder), lab.alone(kind, processes))
        return kills

    return trial


def stopped(
    numbers: list[int], code: int, phase: str = "a step", processes: int = 1, workers: int = 0
) -> Callable[[Lab, int], int]:
    """Signals in a phase end the run with ``code`` and a checkpoint or a store to go on from."""

    def trial(lab: Lab, seed: int) -> int:
        call = random.Random(seed).randint(1, 11) if phase == "a step" else 1
        with lab.room() as folder:
            kind = "student" if phase == "a step" else "judged"
            words = lab.words(folder, "--num_workers", workers, kind=kind, processes=processes)
            ended = Started(words, processes, plant_signal, (phase, call, numbers), on_rank=seed % processes).wait()
            assert ended.code == code, ended.output
            assert "interrupted" in ended.output if code == 130 else "continue with --resume" in ended.output
            if code == REQUEUE_EXIT_CODE and phase == "a step":
                assert checkpoints(folder)[-1].name == f"checkpoint-{call:07d}"
            resume(words, processes=processes)
            assert_same(outcome(folder), lab.alone(kind, processes))
        return 1

    return trial


def full_disk(lab: Lab, seed: int) -> int:
    """Full from some checkpoint on: training goes on, its end says what is missing; with room the run resumes."""
    call = 2 + seed % 3
    with lab.room() as room:
        folder = room / "run"
        words = lab.words(folder)
        if _may_mount():
            with small_disk(folder, 24):
                ballast = folder / "ballast"
                fill = ["sh", "-c", f"cat /dev/zero > {ballast} 2>/dev/null || true"]
                ended = Started(words, 1, plant_command, ("a save", call, fill)).wait()
                _check_full(ended.code, ended.output, folder)
                ballast.unlink()
                resume(words)
                assert_same(outcome(folder), lab.alone())
        else:
            room.mkdir()
            ended = Started(words, 1, plant_small_files, ("a save", call, 100_000)).wait()
            _check_full(ended.code, ended.output, folder)
            resume(words)
            assert_same(outcome(folder), lab.alone())
    return 1


def _check_full(code: int, output: str, folder: Path) -> None:
    assert code == 2, output
    assert "was not written" in output and "the last good one stands" in output
    assert "Traceback" not in output and output.strip().splitlines()[-1].startswith("error: ")
    assert "--resume" in output.splitlines()[-1] and "final_model" in output.splitlines()[-1]


def full_disk_for_a_while(lab: Lab, seed: int) -> int:
    """Room comes back before the end: one checkpoint is missing, no row is."""
    if not _may_mount():
        return 0
    with lab.room() as room:
        folder = room / "run"
        with small_disk(folder, 24):
            ballast = folder / "ballast"
            script = f"cat /dev/zero > {ballast} 2>/dev/null; (sleep {0.1 + 0.1 * (seed % 4)}; rm {ballast}) & true"
            output = run(*lab.words(folder), fault=plant_command, arguments=("a save", 2, ["sh", "-c", script]))
            assert "was not written" in output
            assert_same(outcome(folder), lab.alone())
    return 1


def full_disk_in_data_generation(lab: Lab, seed: int) -> int:
    if not _may_mount():
        return 0
    with lab.room() as room:
        folder = room / "run"
        words = lab.words(folder, kind="teacher")
        with small_disk(folder, 24):
            ballast = folder / "ballast"
            fill = ["sh", "-c", f"cat /dev/zero > {ballast} 2>/dev/null || true"]
            ended = Started(words, 1, plant_command, ("data generation", 1 + seed % 2, fill)).wait()
            assert ended.code == 2 and "no space left" in ended.output.splitlines()[-1].lower(), ended.output
            ballast.unlink()
            resume(words)
            assert_same(outcome(folder), lab.alone("teacher"))
    return 1


def read_only_output(lab: Lab, seed: int) -> int:
    """A folder that cannot be written is refused in one line, a new run's as a resumed one's."""
    with lab.room() as folder:
        words = lab.words(folder)
        if seed % 2:
            run(*words, "--max_steps", 3 * (1 + seed % 3))
        else:
            folder.mkdir(parents=True)
        with unlocked_in_the_end(folder):
            subprocess.run(lock_command(folder, True), check=True)
            last = run(*words, "--resume", "auto", code=2).strip().splitlines()[-1]
            assert last.startswith(f"error: --output_dir {folder}: cannot be written"), last
        resume(words)
        if seed % 2 == 0:
            assert_same(outcome(folder), lab.alone())
    return 1


def lost_permission(lab: Lab, seed: int) -> int:
    """The folder becomes unwritable at some checkpoint; what was there loads when it is writable again."""
    with lab.room() as folder:
        words = lab.words(folder)
        with unlocked_in_the_end(folder):
            lock = lock_command(folder, True)
            ended = Started(words, 1, plant_command, ("a save", 2 + seed % 3, lock)).wait()
            _check_full(ended.code, ended.output, folder)
        resume(words)
        assert_same(outcome(folder), lab.alone())
    return 1


def nan_batch(lab: Lab, seed: int) -> int:
    """One step is skipped and told, and the model stays finite."""
    import torch
    from safetensors.torch import load_file

    first = seed % 6
    with lab.room() as folder:
        output = run(*lab.words(folder), fault=plant_nan, arguments=(first, first))
        assert f"step {first + 1}: non-finite loss or gradient, step skipped" in output
        weights = load_file(folder / "final_model" / "model.safetensors")
        assert all(bool(torch.isfinite(value).all()) for value in weights.values())
        rows = table(folder / "step_metrics.csv")
        assert [row["step"] for row in rows if row["focal_loss_raw"] == "nan"] == [str(first + 1)]
        state = json.loads((checkpoints(folder)[-1] / "state.json").read_text())
        assert state["progress"]["nonfinite_total"] == 1
    return 1


def nan_batches(lab: Lab, seed: int) -> int:
    """Five steps in a row end the run with the batch kept; what was saved before them goes on as if nothing were."""
    import torch

    first = seed % 6
    with lab.room() as folder:
        words = lab.words(folder)
        last = run(*words, code=2, fault=plant_nan, arguments=(first, 99)).strip().splitlines()[-1]
        assert last.startswith("error: 5 steps in a row had a non-finite loss; the last batch is in "), last
        batch = torch.load(folder / f"nonfinite_step_{first + 5}.pt", weights_only=True)
        assert {"input_ids", "labels", "row_ids"} <= set(batch[0])
        # A checkpoint within the five would keep their skips: go back to the one before.
        good = [path for path in checkpoints(folder) if int(path.name.partition("-")[2]) <= first]
        for path in checkpoints(folder):
            if path not in good:
                shutil.rmtree(path)
        resume(words)
        assert_same(outcome(folder), lab.alone())
    return 1


def dying_worker(lab: Lab, seed: int) -> int:
    row = random.Random(seed).randrange(90)
    with lab.room() as folder:
        words = lab.words(folder, "--num_workers", 2)
        output = run(*words, code=2, fault=plant_dying_worker, arguments=(row,))
        # Another worker may have complained of the end after this line.
        told = [line for line in output.splitlines() if line.startswith("error: ")]
        assert len(told) == 1 and "a data worker died" in told[0] and "--resume" in told[0], output
        resume(words)
        assert_same(outcome(folder), lab.alone())
    return 1


def jumping_clock(lab: Lab, seed: int) -> int:
    with lab.room() as folder:
        words = lab.words(folder, "--save_minutes", 0.005)
        run(*words, fault=plant_clock_jumps, arguments=(seed,))
        assert_same(outcome(folder), lab.alone())
        with open(folder / "step_metrics.csv", newline="") as handle:
            assert all(0 < float(row["seconds"]) < 60 for row in csv.DictReader(handle))
    return 1


def bad_rows(kinds: Sequence[str], processes: int = 1) -> Callable[[Lab, int], int]:
    """1 % of each kind is named and left out, 50 % end the run with one line that says what is wrong."""

    def trial(lab: Lab, seed: int) -> int:
        from tests.helpers.bad_rows import BAD_ROWS

        draw = random.Random(f"{kinds} {seed}")
        source = lab.teacher_run / "distillation_data_training.jsonl"
        header, *rows = source.read_text().splitlines()
        rows *= 5
        few, many = max(1, len(rows) // 100 // len(kinds)), len(rows) // 2 // len(kinds)
        for count in (few, many):
            bad = draw.sample(range(len(rows)), count * len(kinds))
            reasons, lines = {}, list(rows)
            for place, number in enumerate(bad):
                spoil, reasons[number] = BAD_ROWS[kinds[place % len(kinds)]]
                lines[number] = spoil(json.loads(lines[number]))
            with lab.room() as folder:
                folder.mkdir()
                path = folder / source.name
                path.write_text("\n".join([header, *lines]) + "\n")
                shared = f"{source.name}.shared.safetensors"
                shutil.copy(source.with_name(shared), folder / shared)
                words = lab.words(
                    folder / "run",
                    "--train_data_path",
                    path,
                    "--epochs",
                    1,
                    "--validation_frequency",
                    0,
                    processes=processes,
                )
                if count == many:
                    output = run(*words, code=2, processes=processes)
                    told = [line for line in output.splitlines() if line.startswith("error: ")]
                    assert told and any(reason in told[0] for reason in reasons.values()), output
                    continue
                run(*words, processes=processes)
                listed = [json.loads(x) for x in (folder / "run" / "rejected.jsonl").read_text().splitlines()]
                assert sorted(entry["row"] for entry in listed) == sorted(bad)
                assert all(reasons[entry["row"]] in entry["reason"] for entry in listed), listed
                steps = table(folder / "run" / "step_metrics.csv")
                assert sum(int(row["samples"]) for row in steps) == len(rows) - len(bad)
        return 2 * len(kinds)

    return trial


def crash_between_file_operations(lab: Lab, seed: int) -> int:
    """A folder that is replaced is the old or the new one, whole, at whichever file operation the process dies."""
    from utils import atomic_io

    tried = 0
    with lab.room() as folder:
        for operation in range(1000):
            shutil.rmtree(folder, ignore_errors=True)
            target = folder / "model"
            target.mkdir(parents=True)
            (target / "a").write_text("old")
            (target / "b").write_text("old")
            child = os.fork()
            if child == 0:
                _die_at(operation)
                with atomic_io.atomic_directory(target) as temporary:
                    for name in "ab":
                        (temporary / name).write_text("new")
                os._exit(0)
            finished = os.waitpid(child, 0)[1] == 0
            atomic_io.recover(folder)
            assert [path.name for path in folder.iterdir()] == ["model"]
            contents = {(target / name).read_text() for name in "ab"}
            assert contents == {"new"} if finished else contents in ({"old"}, {"new"}), (operation, contents)
            if finished:
                assert operation > 10
                break
            tried += 1
    return tried


def _die_at(operation: int) -> None:
    """Kill this process before its ``operation``-th call that changes the file system."""
    calls = 0

    def counted(original: Callable, args: tuple, kwargs: dict) -> Any:
        nonlocal calls
        if calls == operation:
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return original(*args, **kwargs)

    for name in ("rename", "replace", "fsync", "mkdir", "rmdir", "unlink", "open"):
        _wrap(f"os:{name}", counted)
    _wrap("io:open", counted)


@dataclass(frozen=True)
class Fault:
    """``trial(lab, seed)`` returns how often the fault was tried; it raises where something was lost."""

    trial: Callable[[Lab, int], int]
    tests: int  # trials of the tests
    soak: int  # trials of ``make soak``


def _faults() -> dict[str, Fault]:
    from tests.helpers.bad_rows import BAD_ROWS

    term, usr1, interrupt = signal.SIGTERM, signal.SIGUSR1, signal.SIGINT
    student = ["a step", "a save", "the best model's save", "a validation", "a step", "a step", "the final evaluation"]
    teacher = ["data generation", "joining the generated data", "data generation"]
    faults = {}
    for n, processes in ((1, "1 process"), (2, "2 processes")):
        # Ten moments in the tests; in the soak each phase for itself.
        faults |= {
            f"kill -9, seven in one student, {processes}": Fault(killed(student, "judged", n), 1, 2),
            f"kill -9, three in one teacher, {processes}": Fault(killed(teacher, "teacher", n), 1, 2),
        } | {
            f"kill -9 in {phase}, {processes}": Fault(killed([phase] * 3, kind, n), 0, 4)
            for kind, phases in (("judged", student), ("teacher", teacher))
            for phase in dict.fromkeys(phases)
        }
    return (
        faults
        | {
            "death at each file operation of a save": Fault(crash_between_file_operations, 1, 2),
            "SIGTERM in a step": Fault(stopped([term], 85, workers=2), 1, 5),
            "SIGTERM to one of two processes": Fault(stopped([term], 85, processes=2), 1, 4),
            "SIGUSR1 in the final evaluation": Fault(stopped([usr1], 85, "the final evaluation"), 1, 4),
            "SIGINT once": Fault(stopped([interrupt], 85), 1, 4),
            "SIGINT twice": Fault(stopped([interrupt, interrupt], 130), 1, 5),
            "disk full from a save on": Fault(full_disk, 1, 5),
            "disk full for a while": Fault(full_disk_for_a_while, 1, 5),
            "disk full in data generation": Fault(full_disk_in_data_generation, 1, 4),
            "output folder read-only": Fault(read_only_output, 1, 4),
            "permission lost in mid-run": Fault(lost_permission, 1, 5),
            "NaN in one batch": Fault(nan_batch, 1, 4),
            "NaN in all batches": Fault(nan_batches, 1, 4),
            "data worker killed": Fault(dying_worker, 1, 5),
            "clock jumps": Fault(jumping_clock, 1, 4),
            "bad rows of all kinds": Fault(bad_rows(list(BAD_ROWS)), 1, 2),
            "bad rows of all kinds, 2 processes": Fault(bad_rows(list(BAD_ROWS), 2), 1, 2),
        }
        | {f"bad rows: {kind}": Fault(bad_rows([kind]), 0, 2) for kind in BAD_ROWS}
    )


FAULTS = _faults()


def make_lab(folder: Path) -> Lab:
    """A lab of its own, for the soak; what is there already is used again while the code is the same."""
    digest = hashlib.sha256()
    folders = ("config", "data", "models", "evaluation", "utils")
    files = [*ROOT.glob("*.py"), *(path for folder in folders for path in ROOT.glob(f"{folder}/**/*.py"))]
    for file in sorted(files):
        digest.update(file.read_bytes())
    mark = folder / f"code_{digest.hexdigest()[:16]}"
    if not mark.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        mark.touch()
    teacher = folder / "teacher"
    raw = (folder / "train.jsonl", folder / "val.jsonl")
    if not (teacher / "done").exists():
        write_rows(raw[0], make_rows(90, 1))
        write_rows(raw[1], make_rows(20, 2))
        run(
            "train_codet5_assertions.py",
            "--train_data_path",
            raw[0],
            "--val_data_path",
            raw[1],
            "--model_name",
            "scratch:tiny",
            "--scratch_vocab_size",
            400,
            "--epochs",
            2,
            "--output_dir",
            teacher,
            "--overwrite",
            "--compression_workers",
            0,
            *SMALL,
        )
        (teacher / "done").touch()
    return Lab(folder, teacher, raw)
