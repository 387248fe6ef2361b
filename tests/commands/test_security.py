"""Nothing that a run reads can run code or make it claim more memory than the file has bytes.

More tests of this: .bin weights in test_loading.py, archives in test_mining_flow.py, paths of test files in
test_execution.py, declared sizes in test_teacher_knowledge.py and test_faults.py, saved state in test_runs.py.
"""

from __future__ import annotations

import ast
import json
import shutil
from pathlib import Path

import pytest

from models.seq2seq.loading import load_model, load_tokenizer
from models.text_encoder.encoders import resolve_encoder
from tests.helpers.commands import ROOT
from utils.errors import UserError

FOLDERS = ("config", "data", "models", "evaluation", "utils", "scripts")
SOURCES = [*ROOT.glob("*.py"), *(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))]


def calls(tree: ast.AST) -> list[tuple[str, dict[str, object]]]:
    """Dotted name and constant keyword arguments of every call."""
    return [
        (ast.unparse(node.func), {k.arg: getattr(k.value, "value", None) for k in node.keywords if k.arg})
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
    ]


def test_no_source_unpickles_or_trusts_remote_code() -> None:
    assert len(SOURCES) > 100
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        assert not modules & {"pickle", "dill", "joblib", "shelve", "marshal"}, path
        for name, arguments in calls(tree):
            assert name not in ("eval", "exec"), path
            assert not arguments.get("trust_remote_code") and not arguments.get("allow_pickle"), path
            if name == "torch.load":
                assert arguments.get("weights_only") is True, path


@pytest.mark.parametrize("load", [load_model, load_tokenizer, lambda name: resolve_encoder(name, "cpu")])
def test_code_in_a_models_folder_is_not_run(teacher_run: Path, tmp_path: Path, load) -> None:
    folder = shutil.copytree(teacher_run / "final_model", tmp_path / "model")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\n")
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((folder / name).read_text())
        settings["auto_map"] = {
            "AutoConfig": "evil.C",
            "AutoModelForSeq2SeqLM": "evil.M",
            "AutoModel": "evil.M",
            "AutoTokenizer": "evil.T",
        }
        settings |= {"model_type": "evil"} if name == "config.json" else {"tokenizer_class": "Evil"}
        (folder / name).write_text(json.dumps(settings))
    try:
        load(str(folder))
    except UserError as error:
        assert "\n" not in str(error)
    assert not (tmp_path / "pwned").exists()
