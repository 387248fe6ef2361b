"""What measures on a GPU: that it runs at toy size, ends in time, and says what it did not do."""

from __future__ import annotations

import importlib
import json
import logging
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from benchmarks import gpu_checks, gpu_generation, gpu_step
from benchmarks.gpu_checks import SMALL, TIMED, Run, compare, compile_large, half_weights, tabulate, train
from benchmarks.measuring import NOT_RUN
from tests.helpers.toy_benchmarks import run_at_toy_size
from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "benchmarks" / "gpu.sh"
PARTS = ("checks", "step_220m", "step_48m", "step_770m", "generation", "compiled")
STORED = {f"{part}.json" for part in PARTS} | {"log.txt", "machine.txt"}


def run_everything(folder: Path, *flags: str, **variables: str) -> tuple[int, str]:
    command = ["bash", str(SCRIPT), "--toy", "--output", str(folder), *flags]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | variables, stdout=-1, stderr=subprocess.STDOUT, text=True)
    return done.returncode, done.stdout


def write_program(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/bash\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("name", ["gpu_step", "gpu_generation"])
def test_toy_size(name, monkeypatch, capsys):
    run_at_toy_size(name, (), monkeypatch, capsys)


def test_checks_take_as_many_steps_as_asked(monkeypatch, capsys):
    flags = ("--checks", "fp32", "half weights", "--steps", "3")
    checks = run_at_toy_size("gpu_checks", flags, monkeypatch, capsys)["checks"]
    assert len(checks["fp32"]["losses"]) == 3 == len(set(checks["fp32"]["losses"]))
    assert set(checks["fp32"]["hashes"]) == {"first", "again", "resumed"}
    means = checks["half weights"]["means"]
    assert {title: len(found) for title, found in means.items()} == {"no": 3, "bf16": 3, "bf16, resumed": 3}


@pytest.mark.slow
def test_everything_for_a_gpu_runs_at_toy_size(tmp_path):
    code, out = run_everything(tmp_path, "--limit", "3000")
    assert code == 0, out
    assert {path.name for path in tmp_path.iterdir()} == STORED
    first, second = json.loads((tmp_path / "compiled.json").read_text())["tables"]["starts with --compile"]
    assert first["MB cached before"] == 0.0 < second["MB cached before"]
    assert first["ms a step"] > 0.0


# -- gpu.sh, with stand-ins -------------------------------------------------------------------------------------------

STORE_WORDS = 'for word; do [[ $last != --output ]] || output=$word; last=$word; done; printf "%s\\n" "$@" >"$output"'


@pytest.mark.parametrize("broken", ["", "gpu_generation"])
def test_every_part_is_asked_for_what_there_is_and_an_error_stops_no_other(tmp_path, broken):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine.log").write_text("mine")
    (out / "generation.json").write_text("of an earlier run")
    python = write_program(
        tmp_path / "python", f"[[ $1 != - ]] || exit 0\n[[ $1 != benchmarks/{broken}.py ]] || exit 3\n{STORE_WORDS}"
    )
    code, printed = run_everything(out, "--limit", "400", PYTHON=str(python))
    missing = {"generation.json"} if broken else set()
    assert code == len(missing), printed
    assert {path.name for path in out.iterdir()} == (STORED - missing) | {"mine.log"}
    for part in {name for name in STORED - missing if name.endswith("json")}:
        words = (out / part).read_text().splitlines()
        module = importlib.import_module(words[0].removesuffix(".py").replace("/", "."))
        first, known = ("--checks", module.CHECKS) if "--checks" in words else ("--cases", getattr(module, "CASES", {}))
        if first in words:
            asked = words[words.index(first) + 1 : words.index("--toy")]
            assert asked and set(asked) <= set(known)
            assert set(asked) & set(module.TOY), "a toy run would leave this part out"


def test_all_ends_within_the_limit(tmp_path):
    """Each part ends when it is killed at the latest; what it takes is no longer there for those after it."""
    slow = 2
    python = write_program(
        tmp_path / "python",
        f'[[ $1 != - ]] || exit 0\n[[ "$*" != *checks.json* ]] || sleep {slow}\n{STORE_WORDS}',
    )
    as_told = f'echo "$@" >>{tmp_path}/calls; while [[ $1 != */python ]]; do shift; done; "$@"'
    write_program(tmp_path / "timeout", as_told)
    path = f"{tmp_path}:{os.environ['PATH']}"
    code, printed = run_everything(tmp_path / "out", "--limit", "480", PYTHON=str(python), PATH=path)
    assert code == 0, printed
    calls = [line for line in (tmp_path / "calls").read_text().splitlines() if "--budget" in line]
    assert len(calls) == len(PARTS)
    for place, call in enumerate(calls):
        grace, limit = (float(word) for word in re.match(r"--kill-after=(\d+) (\d+) ", call).groups())
        budget = float(re.search(r"--budget (\d+)", call)[1])
        assert budget == limit * 7 // 8 > 0
        assert (slow if place else 0) + limit + grace <= 470
    shares = {name: int(share) for share, name in re.findall(r"^part (\d+) (\w+)", SCRIPT.read_text(), re.MULTILINE)}
    assert set(shares) == set(PARTS) and sum(shares.values()) <= 98
    assert (0.01 * shares["compiled"] * 480 - 2) * 7 / 8 >= gpu_checks.MINUTE + 40  # a second start, two imports


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--limit"], "--limit needs a value"),
        (["--limit", "soon"], "--limit soon: must be a whole number"),
        (["--limit", "5"], "--limit 5: must be a whole number"),
        (["--fast"], "unknown argument --fast"),
        (["--output", "README.md/x"], "--output README.md/x"),
    ],
)
def test_wrong_words_are_refused(tmp_path, flags, words):
    code, printed = run_everything(tmp_path / "out", *flags, PYTHON="/bin/false")
    assert code == 2
    assert printed.splitlines()[-1].startswith("error: gpu.sh: ") and words in printed.splitlines()[-1]


def test_the_job_that_checks_a_node_asks_for_checks_there_are():
    job = (ROOT / "slurm_scripts" / "test_cuda.sh").read_text()
    words = shlex.split(job.splitlines()[-1])
    assert words[:3] == ["exec", "python", "benchmarks/gpu_checks.py"]
    asked = words[words.index("--checks") + 1 : words.index("--budget")]
    assert asked and set(asked) <= set(gpu_checks.CHECKS)
    minutes = int(re.search(r"--time=00:(\d+):00", job)[1])
    assert float(words[words.index("--budget") + 1]) < 60 * minutes / 2


# -- what ran and what did not ----------------------------------------------------------------------------------------

CASE_RESULT = {
    "step_seconds": 0.1,
    "first_step_seconds": 59.0,
    "peak_mb": 700.0,
    "loss": 0.5,
    "syncs": 1,
    "profile": None,
    "graphs": 1,
}


def start(monkeypatch, module, *flags: str) -> SimpleNamespace:
    """The module's clock, which stands still until a test moves it."""
    clock = SimpleNamespace(now=0.0)
    clock.perf_counter = lambda: clock.now
    monkeypatch.setattr(module, "time", clock)
    monkeypatch.setattr(sys, "argv", [f"{module.__name__}.py", "--toy", *flags])
    monkeypatch.setattr(logging, "disable", lambda level: None)
    return clock


def test_a_case_for_which_no_time_was_left_is_stored_and_said(tmp_path, monkeypatch, capsys):
    output, cases = tmp_path / "step.json", ["bf16", "fp32", "bf16, Trident"]
    clock = start(monkeypatch, gpu_step, "--budget", "100", "--output", str(output), "--cases", *cases)
    ran: list[str] = []
    not_run = {"error": NOT_RUN}

    def run_case(case, *_, precise):
        ran.append(case)
        if len(ran) == 2:  # as stored, should a limit of time end it here
            kept = json.loads(output.read_text())["cases"]
            assert kept == {"bf16": CASE_RESULT, "fp32": not_run, "bf16, Trident": not_run}
        clock.now += 60.0
        return CASE_RESULT

    monkeypatch.setattr(gpu_step, "run_case", run_case)
    assert gpu_step.main() == 1
    kept = json.loads(output.read_text())["cases"]
    assert kept == {"bf16": CASE_RESULT, "fp32": CASE_RESULT, "bf16, Trident": not_run}
    printed = capsys.readouterr().out
    first_cells = [line.split("|")[1].strip() for line in printed.splitlines() if line.startswith("| ")]
    assert first_cells == ["case", "bf16", "fp32"]
    assert printed.endswith("bf16, Trident: no time was left\n")


def test_generation_for_which_no_time_was_left_is_stored_and_said(tmp_path, monkeypatch, capsys):
    output = tmp_path / "generation.json"
    clock = start(monkeypatch, gpu_generation, "--budget", "100", "--output", str(output))
    monkeypatch.setattr(gpu_generation, "time_loading", lambda *_: [[0, 1.0, 1.0]])

    def generate(model, tokenizer, rows, way):
        clock.now += 40.0
        return [way[0], 1.0, 1.0, 1.0]

    monkeypatch.setattr(gpu_generation, "time_generation", generate)
    assert gpu_generation.main() == 1
    stored = json.loads(output.read_text())
    assert [row["what"] for row in stored["tables"]["generation"]] == ["greedy, free", "greedy, java", "4 beams, free"]
    assert stored["not_run"] == {"4 beams, java": NOT_RUN, "distillation data, topk": NOT_RUN}
    said = [f"{name}: no time was left" for name in stored["not_run"]]
    assert capsys.readouterr().out.splitlines()[-2:] == said


@pytest.mark.parametrize("words", [["--steps", "1"], ["--steps", "-3"]])
def test_too_few_steps_to_resume_are_refused(monkeypatch, words):
    start(monkeypatch, gpu_checks, *words)
    with pytest.raises(UserError, match=f"--steps {words[1]}: a training that is resumed takes at least 2"):
        gpu_checks.main()


@pytest.mark.parametrize(("module", "flag", "name"), [(gpu_checks, "--checks", "fp16"), (gpu_step, "--cases", "fp16")])
def test_what_no_toy_runs_is_refused(monkeypatch, module, flag, name):
    start(monkeypatch, module, flag, name)
    with pytest.raises(UserError, match=f"{flag} must name one of: "):
        module.main()


# -- the checks -------------------------------------------------------------------------------------------------------


def test_a_resumed_training_keeps_the_losses_of_all_its_steps(tmp_path):
    run = Run("bf16", components=("ce",), steps=3)
    whole, facts = train(run, tmp_path / "whole", shape=SMALL)
    resumed, others = train(run, tmp_path / "resumed", stop=1, shape=SMALL)
    assert whole == resumed
    assert len(facts["losses"]) == 3 and others["losses"] == facts["losses"]


def test_equal_weights_by_other_losses_are_not_the_same():
    first = ("hash", {"losses": [0.5, 0.25, 0.125]})
    for other, place in (([0.5, 0.25, 0.126], 3), ([0.5, 0.25], None), ([0.4, 0.25, 0.125], 1)):
        found = compare({"first": first, "resumed": ("hash", {"losses": other})})
        assert not found["ok"] and found["first_other_loss"] == place
    assert not compare({"first": first, "again": ("other", first[1])})["ok"]
    assert compare({"first": first, "again": first}) == {
        "ok": True,
        "hashes": {"first": "hash", "again": "hash"},
        "first_other_loss": None,
        **first[1],
    }


@pytest.mark.parametrize(("steps", "means"), [(2, 2), (10, 10), (33, 33), (59, 30), (300, 20)])
@pytest.mark.parametrize("break_later", [False, True])
def test_half_weights_for_any_number_of_steps(monkeypatch, steps, means, break_later):
    def trained(run, folder, stop, **_):
        losses = [1.0] * run.steps
        if stop and break_later:
            losses[-1] = 1.001
        return "hash", {"losses": losses}

    monkeypatch.setattr(gpu_checks, "train", trained)
    monkeypatch.setattr(gpu_checks, "make_chains", lambda shape, count: [])
    found = half_weights(Run(components=("ce",), steps=steps))
    assert found["ok"] is found["resumed_equal"] is not break_later
    assert found["means"]["bf16"] == [1.0] * means and found["largest_gap"] == 0.0


def test_half_weights_takes_300_steps_on_a_gpu(monkeypatch):
    monkeypatch.setattr(gpu_checks, "device_name", lambda: "cuda")
    taken: dict[str, int] = {}

    def trained(run, folder, stop, **_):
        taken[folder.name] = run.steps
        return "hash", {"losses": [1.0] * run.steps}

    monkeypatch.setattr(gpu_checks, "train", trained)
    monkeypatch.setattr(gpu_checks, "make_chains", lambda shape, count: [])
    assert half_weights(gpu_checks.CHECKS["half weights"][1])["ok"]
    assert taken == dict.fromkeys(["no", "bf16", "bf16, resumed", "fp16"], 300)


@pytest.mark.parametrize(("device", "first", "ok"), [("cuda", 59.9, True), ("cuda", 60.1, False), ("cpu", 344.0, True)])
def test_the_first_compiled_step_has_a_minute_on_a_gpu(tmp_path, monkeypatch, device, first, ok):
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path))
    (tmp_path / "compiled" / "ab").mkdir(parents=True)
    (tmp_path / "compiled" / "ab" / "kernel.so").write_bytes(b"0" * 2**20)
    monkeypatch.setattr(gpu_checks, "device_name", lambda: device)
    monkeypatch.setattr(gpu_checks, "make_batch", lambda shape, seed: {})
    monkeypatch.setattr(gpu_checks, "run_case", lambda *_, precise: CASE_RESULT | {"first_step_seconds": first})
    found = compile_large(Run("bf16"))
    assert found["ok"] is ok
    (row,) = tabulate({TIMED[0]: found})["starts with --compile"][1]
    assert row == [TIMED[0], 1.0, first, 100.0, None, None, 700.0]


def test_timed_starts_come_first_and_alone_with_one_cache_of_their_own(tmp_path, monkeypatch):
    write_program(
        tmp_path / "python",
        f"""cd {tmp_path}; touch running.$$; echo "$3" >>order
mkdir -p "$DISTIL_CACHE"; before=$(ls "$DISTIL_CACHE" | wc -l); touch "$DISTIL_CACHE/$$"; sleep 0.2
facts='{{"ok": true, "before": %d, "running": %d, "own": "%s"}}'
printf "RESULT $facts\\n" $before $(ls running.* | wc -l) "$TRITON_CACHE_DIR"
rm running.$$""",
    )
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("DISTIL_CACHE", str(tmp_path / "of_the_user"))
    monkeypatch.setenv("TRITON_CACHE_DIR", "/a/place/of/ones/own")
    clock = start(monkeypatch, gpu_checks)
    results = gpu_checks.run_apart(["fp32", *reversed(TIMED)], 100.0, None)
    assert (tmp_path / "order").read_text().splitlines() == [*TIMED, "fp32"]
    assert results == {
        name: {"ok": True, "before": before, "running": 1, "own": ""} for before, name in enumerate([*TIMED, "fp32"])
    }
    assert not (tmp_path / "of_the_user").exists()
    clock.now = 101.0
    assert gpu_checks.run_apart([TIMED[1]], 100.0, None) == {TIMED[1]: {"ok": False, "error": NOT_RUN}}


def test_a_check_that_is_not_done_in_time_ends_with_what_it_started():
    process = subprocess.Popen(["bash", "-c", "sleep 600 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
    compiler = psutil.Process(int(process.stdout.readline()))
    gpu_checks.end(process)
    process.stdout.close()
    assert process.returncode == -9
    gone, _ = psutil.wait_procs([compiler], timeout=30)
    assert gone or compiler.status() == psutil.STATUS_ZOMBIE
