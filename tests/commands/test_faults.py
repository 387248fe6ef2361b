"""Runs that are broken in every way of tests/helpers/faults.py: few of each here, the full counts by ``make soak``."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.helpers.faults import FAULTS, Lab, assert_same, outcome, plant_command, plant_impatience, plant_kill
from tests.helpers.forked import Started, run


@pytest.fixture(scope="session")
def lab(teacher_run: Path, raw_data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), teacher_run, raw_data)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.tests])
def test_nothing_is_lost(lab: Lab, name: str) -> None:
    fault = FAULTS[name]
    for seed in range(fault.tests):
        fault.trial(lab, seed)


def test_a_second_run_in_the_folder_of_one_that_goes_on_is_refused(lab: Lab, tmp_path: Path) -> None:
    reached = tmp_path / "reached"
    pause = ["sh", "-c", f"touch {reached}; while [ -e {reached} ]; do sleep 0.05; done"]
    with lab.room() as folder:
        words = lab.words(folder)
        first = Started(words, 1, plant_command, ("a step", 5, pause))
        while not reached.exists():
            assert first.processes[0].is_alive(), first.text()
            time.sleep(0.05)
        last = run(*words, "--resume", "auto", code=2, fault=plant_impatience).strip().splitlines()[-1]
        assert last.startswith(f"error: --output_dir {folder}: another process writes into it"), last
        reached.unlink()
        assert first.wait().code == 0
        assert_same(outcome(folder), lab.alone())


def test_a_killed_run_does_not_keep_the_folder_through_its_workers(lab: Lab) -> None:
    with lab.room() as folder:
        words = lab.words(folder, "--num_workers", 2)
        assert Started(words, 1, plant_kill, ("a step", 5, 0.0)).wait().code == -signal.SIGKILL
        run(*words, "--resume", "auto", fault=plant_impatience)
        assert_same(outcome(folder), lab.alone())
