"""Loader processes stay from epoch to epoch, give what no processes give, and their end is noticed."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

from benchmarks.workload import build_tokenizer, list_texts, make_rows
from config.command_line import parse_config
from config.defaults import StudentConfig
from data.batches.loader import JsonlTrainingData
from data.batches.sampling import micro_batches
from data.dataset import AssertionDataset
from data.rows.rejected import RejectedRows


@pytest.fixture
def make_data(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("benchmarks.workload.KEPT", tmp_path)
    path = tmp_path / "raw.jsonl"
    path.write_text("".join(f"{line}\n" for line in map(json.dumps, make_rows(40))))
    dataset = AssertionDataset(path, build_tokenizer(list_texts(make_rows(40)), "loader", 300), teacher=False)

    def make(workers: int, *flags: str) -> JsonlTrainingData:
        config = parse_config(StudentConfig, ["--num_workers", str(workers), "--batch_size", "8", *flags])
        return JsonlTrainingData(dataset, config, RejectedRows(tmp_path / "rejected", path, 40, 0.1))

    return make


def ids(batches) -> list[list[int]]:
    return [batch["row_ids"].tolist() for batch in batches]


def test_processes_stay_and_give_what_none_give(make_data):
    alone, data = make_data(0), make_data(2)
    others = set(multiprocessing.active_children())
    assert ids(data.batches(0, 0)) == ids(alone.batches(0, 0))
    workers = set(multiprocessing.active_children()) - others
    assert len(workers) == 2
    left = data.batches(1, 0)
    next(left)  # left in the middle, as at a signal
    beside = ids(data.batches(0, 3))  # a second reader beside it
    assert beside == ids(alone.batches(0, 3))
    left.close()
    assert ids(data.batches(1, 2)) == ids(alone.batches(1, 2))
    assert set(multiprocessing.active_children()) - others == workers
    assert data.lost_worker(0.0) is None and alone.lost_worker() is None
    os.kill(next(iter(workers)).pid, signal.SIGKILL)
    with pytest.raises(RuntimeError):
        ids(data.batches(2, 0))
    assert data.lost_worker() == "killed by signal 9"


def test_a_process_that_dies_while_its_end_is_awaited_is_told(make_data):
    """Its socket breaks before its parent hears of its death; torch's handler then raises in the midst of the wait."""
    data = make_data(1)
    others = set(multiprocessing.active_children())
    reading = data.batches(0, 0)
    next(reading)
    (worker,) = set(multiprocessing.active_children()) - others
    with subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -KILL {worker.pid}"]):
        assert data.lost_worker(30) == "killed by signal 9"


def test_rows_are_told_from_as_many_others(make_data, tmp_path):
    first = make_data(0)
    assert make_data(2).fingerprint() == first.fingerprint()
    path = tmp_path / "raw.jsonl"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([*rows[1:], rows[0]]) + "\n")
    again = AssertionDataset(path, first.dataset.tokenizer, teacher=False)
    assert len(again) == 40 and again.fingerprint() != first.fingerprint()
    assert AssertionDataset(path, first.dataset.tokenizer, teacher=False, max_samples=39).fingerprint() not in (
        first.fingerprint(),
        again.fingerprint(),
    )


def test_batches_are_filled_up_to_their_tokens_and_no_row_is_lost(make_data):
    data = make_data(0, "--max_batch_tokens", "600")
    batches = list(data.batches(0, 0))
    assert len(batches) == data.micro_batches(0)
    assert sorted(row for batch in ids(batches) for row in batch) == list(range(40))
    sizes = [batch["input_ids"].numel() for batch in batches]
    assert max(sizes) <= 600
    assert len({len(batch["input_ids"]) for batch in batches}) > 1
    # No two neighbours of one window would have fitted into one.
    assert sum(sizes) > 600 * (len(batches) - 2) / 2
    assert ids(data.batches(1, 0)) != ids(batches) and ids(data.batches(0, 2)) == ids(batches)[2:]


def test_a_row_longer_than_the_tokens_has_a_batch_of_its_own(make_data):
    batches = list(make_data(0, "--max_batch_tokens", "1").batches(0, 0))
    assert [len(batch["input_ids"]) for batch in batches] == [1] * 40


@pytest.mark.parametrize("group", [True, False])
def test_filling_keeps_each_row_once_within_the_tokens(group):
    lengths = np.random.default_rng(1).integers(10, 200, 103)
    plan = micro_batches(np.arange(103), lengths, 4, seed=3, epoch=1, window=4, group=group, max_tokens=700)
    assert sorted(np.concatenate(plan).tolist()) == list(range(103))
    assert all(len(part) * lengths[part].max() <= 700 for part in plan)


def test_a_signal_to_all_processes_of_a_job_ends_no_loader_process(make_data):
    """The run heeds it, finishes its step and ends them; before, it was told that memory had been lacking."""
    alone, data = make_data(0), make_data(2)
    others = set(multiprocessing.active_children())
    reading = data.batches(0, 0)
    first = next(reading)
    workers = set(multiprocessing.active_children()) - others
    for worker, number in itertools.product(workers, (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)):
        subprocess.run(["kill", f"-{number:d}", str(worker.pid)], check=True)  # not from their parent
    assert [first["row_ids"].tolist(), *ids(reading)] == ids(alone.batches(0, 0))
    assert data.lost_worker(0.0) is None
    for worker in workers:
        worker.terminate()
        worker.join(30)
        assert worker.exitcode == 0
