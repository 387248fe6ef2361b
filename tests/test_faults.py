"""Runs that are broken in every way of tests/faults.py: few of each here, the full counts by ``make soak``."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults import FAULTS, Lab


@pytest.fixture(scope="session")
def lab(teacher_run: Path, raw_data: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"), teacher_run, raw_data)


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if fault.tests])
def test_nothing_is_lost(lab: Lab, name: str) -> None:
    fault = FAULTS[name]
    for seed in range(fault.tests):
        fault.trial(lab, seed)
