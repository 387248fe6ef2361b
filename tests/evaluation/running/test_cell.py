"""What a cell leaves on the machine."""

from __future__ import annotations

import os
import subprocess

import pytest

from evaluation.running import cell
from evaluation.running.cell import build_cell
from utils.errors import UserError


def test_only_old_empty_control_groups_without_an_owner_are_removed(tmp_path, monkeypatch):
    gone = subprocess.Popen(["true"])
    gone.wait()
    folders = {
        "left over": tmp_path / "pids" / f"assertion-cell-{gone.pid}-1",
        "left over, version 2": tmp_path / f"assertion-cell-{gone.pid}-2",
        "in use": tmp_path / "pids" / f"assertion-cell-{gone.pid}-3",
        "young": tmp_path / "memory" / f"assertion-cell-{gone.pid}-4",
        "its owner lives": tmp_path / "pids" / f"assertion-cell-{os.getppid()}-5",
        "another's": tmp_path / "pids" / "user.slice",
    }
    for name, folder in folders.items():
        folder.mkdir(parents=True)
        if name == "in use":
            (folder / "cgroup.procs").write_text("1")
        if name != "young":
            os.utime(folder, (1000.0, 1000.0))
    monkeypatch.setattr(cell, "CGROUPS", tmp_path)
    monkeypatch.setattr(cell, "GONE_SECONDS", 0)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    build_cell("auto", tmp_path, (), 64, 64).remove()
    kept = {name for name, folder in folders.items() if folder.is_dir()}
    assert kept == {"in use", "young", "its owner lives", "another's"}


def test_a_refused_cell_leaves_no_control_group(tmp_path, monkeypatch):
    monkeypatch.setattr(cell, "CGROUPS", tmp_path)
    monkeypatch.setattr(cell, "_find_kind", lambda: ("", {"network": "refused"}))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "pids").mkdir()
    (tmp_path / "memory").mkdir()
    # A control group is an empty folder that holds the kernel's own files; those of this folder are removed with it.
    monkeypatch.setattr(cell.Path, "write_text", lambda *_: 0)
    with pytest.raises(UserError, match=r"^--sandbox require: .*network: refused"):
        build_cell("require", tmp_path, (), 64, 64)
    assert not list(tmp_path.glob("*/*"))
