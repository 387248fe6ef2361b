"""Renewing the pins: what stays out, what is kept, and a failure that leaves the old ones."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from utils.errors import UserError

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def script(monkeypatch, tmp_path):
    spec = importlib.util.spec_from_file_location("renew_pins", ROOT / "scripts" / "renew_pins.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name, text in (
        ("requirements.txt", "# core\ntorch>=2.6\nhuggingface-hub>=0.30\n"),
        ("requirements-optional.txt", "peft>=0.17  # --lora_rank\n"),
        ("requirements-dev.txt", 'pandas>=2; python_version >= "3.11"\n'),
        ("constraints.txt", "huggingface_hub==1.0\npeft==0.17\ntorch==2.13.0\n"),
    ):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "PINS", tmp_path / "constraints.txt")
    return module


RESOLVED = """\
huggingface-hub==2.4.0
numpy==2.4.6
pandas==2.3.3 ; python_full_version < '3.11'
pandas==3.1.1 ; python_full_version >= '3.11'
peft==0.21.2
    # via nothing
torch==2.14.0
"""


def test_pins_are_those_of_the_named_packages(script, monkeypatch, capsys):
    asked = []

    def uv(words, **_):
        asked.append([*words, Path(words[words.index("--constraints") + 1]).read_text()])
        return subprocess.CompletedProcess(words, 0, RESOLVED, "")

    monkeypatch.setattr(subprocess, "run", uv)
    monkeypatch.setattr(sys, "argv", ["renew_pins.py", "--keep", "torch"])
    assert script.main() == 0
    assert script.PINS.read_text() == (
        "huggingface-hub==2.4.0\npandas==2.3.3 ; python_full_version < '3.11'\n"
        "pandas==3.1.1 ; python_full_version >= '3.11'\npeft==0.21.2\ntorch==2.13.0\n"
    )
    assert asked[0][-1] == "torch==2.13.0\n" and "--universal" in asked[0]
    shown = capsys.readouterr().out
    assert "- peft==0.17\n+ peft==0.21.2\n" in shown and "torch" not in shown and shown.endswith("5 pins\n")


def test_what_cannot_be_resolved_changes_nothing(script, monkeypatch):
    before = script.PINS.read_text()
    monkeypatch.setattr(sys, "argv", ["renew_pins.py"])
    monkeypatch.setattr(subprocess, "run", lambda words, **_: subprocess.CompletedProcess(words, 1, "", "no\nversion"))
    with pytest.raises(UserError, match=r"cannot be resolved \(no version\); constraints.txt is as it was"):
        script.main()
    monkeypatch.setattr(sys, "argv", ["renew_pins.py", "--keep", "nothing"])
    with pytest.raises(UserError, match="--keep nothing: constraints"):
        script.main()
    assert script.PINS.read_text() == before
