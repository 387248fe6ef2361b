"""The GitHub Action step and the pre-commit hook of docs/suggestions.md: run as they stand, in a project, offline."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from models.seq2seq.loading import build_scratch, save_model, train_tokenizer
from tests.commands.test_documented_commands import blocks, known_flags
from tests.helpers.commands import ROOT
from tests.helpers.java_project import CART, junit_jars, need_jdk

TEST = """package shop;

import static org.junit.Assert.assertEquals;

import org.junit.Test;

public class CartTest {
    @Test
    public void testTotal() {
        Cart cart = new Cart();
        cart.add(3);
        assertEquals(3, cart.total());
    }

    @Test
    public void testTotalOfMore() {
        Cart cart = new Cart();
        cart.add(3);
        cart.add(4);
    }
}
"""
FILE = "src/test/java/shop/CartTest.java"
# What a test of a command that needs no network puts in the way of one.
NO_NETWORK = """import socket
def refuse(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6):
        open("asked_for_a_network", "a").write(f"{address}")
        raise OSError("no network")
    return connect(self, address)
connect, socket.socket.connect = socket.socket.connect, refuse
"""


def read_pieces() -> tuple[dict[str, Any], dict[str, Any]]:
    """The step and the hook."""
    step, hook = (yaml.safe_load(text) for _, text in blocks(ROOT / "docs" / "suggestions.md", "yaml"))
    return step[0], hook[0]["hooks"][0]


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    for name, text in {"pom.xml": "<project/>", "src/main/java/shop/Cart.java": CART, FILE: TEST}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / "tools").mkdir()
    (root / "tools" / "distil").symlink_to(ROOT)
    tokenizer = train_tokenizer([TEST, CART], 300)
    student = build_scratch("tiny", tokenizer, dropout_rate=0.1, attention="sdpa", seed=0)
    save_model(student, tokenizer, root / "models" / "student")
    (root / "classpath.txt").write_text(os.pathsep.join(map(str, junit_jars())) + "\n")
    (tmp_path / "guard").mkdir()
    (tmp_path / "guard" / "sitecustomize.py").write_text(NO_NETWORK)
    return root


def run(project: Path, script: str, **env: str) -> subprocess.CompletedProcess[str]:
    """As a runner does: with bash, in the project, and the first command that fails ends it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    own = {"PATH": path, "PYTHONPATH": str(project.parent / "guard"), "DISTIL_CACHE": str(project.parent / "cache")}
    words = ["bash", "-e", "-c", script]
    done = subprocess.run(words, cwd=project, capture_output=True, text=True, env={**os.environ, **own, **env})
    assert not (project / "asked_for_a_network").exists()
    return done


def test_both_name_flags_that_exist():
    step, hook = read_pieces()
    for text in (step["run"], hook["entry"]):
        words = shlex.split(text)
        known_flags([words[1].removeprefix("tools/distil/"), *words[2:]])


@pytest.mark.slow
@pytest.mark.jdk
def test_the_action_fails_and_leaves_a_file_to_upload(project):
    need_jdk()
    model = pytest.importorskip("pydantic_sarif.model")
    step, _ = read_pieces()
    done = run(project, step["run"], **step["env"])
    assert done.returncode == 1, done.stderr
    log = json.loads((project / "assertions.sarif").read_text())
    model.StaticAnalysisResultsFormatSarifVersion210JsonSchema.model_validate(log)
    (result,) = log["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] == FILE
    assert result["message"]["text"].startswith("testTotalOfMore asserts nothing about Cart.total.")
    assert (project / FILE).read_text() == TEST


def test_the_hook_fails_with_a_diff_where_a_test_checks_nothing(project):
    _, hook = read_pieces()
    changed = [name for name in (FILE, "src/main/java/shop/Cart.java", "pom.xml") if re.search(hook["files"], name)]
    assert changed == [FILE] and hook["language"] == "system"
    done = run(project, shlex.join([*shlex.split(hook["entry"]), *changed]))
    assert done.returncode == 1, done.stderr
    assert f"+++ b/{FILE}\n" in done.stdout and (project / FILE).read_text() == TEST
    subprocess.run(["git", "apply", "--check"], cwd=project, input=done.stdout, text=True, check=True)
