#!/usr/bin/env python
"""Does this installation work? A teacher, its knowledge, a student and an evaluation, tiny, in about a minute.

With --versions it first makes an environment of the newest, oldest or pinned versions that requirements.txt and
constraints.txt allow, or of the newest of the core packages alone, for any Python, and runs there:

    python scripts/smoke.py
    python scripts/smoke.py --versions oldest --python python3.10
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from utils.arguments import ArgumentParser
from utils.errors import UserError, run_main

NAMED = ("torch", "transformers", "accelerate", "tokenizers", "numpy", "scikit-learn")
VERSIONS = f"""
import platform
from importlib.metadata import version
print("Python", platform.python_version(), *(f"{{name}} {{version(name)}}" for name in {NAMED!r}), sep=", ")
"""
RESOLVE = {"newest": "highest", "oldest": "lowest-direct", "pinned": "highest", "core": "highest"}
LENGTHS = ["--max_input_len", 96, "--max_output_len", 24, "--batch_size", 8, "--gradient_accumulation_steps", 2]
SHORT = [*LENGTHS, "--num_workers", 0, "--epochs", 1, "--lr", 2e-3, "--device", "cpu", "--no_run_report",
         "--no_tensorboard", "--embedding_model", "none"]  # fmt: skip


def main() -> int:
    """Run the road, here or in a new environment; an exit code other than 0 means that something is broken."""
    parser = ArgumentParser(__doc__)
    parser.add_argument(
        "--versions", choices=tuple(RESOLVE), help="make an environment of these versions and run there"
    )
    parser.add_argument("--python", default=sys.executable, help="its interpreter (default: the one that runs this)")
    parser.add_argument("--environment", help="its folder, kept afterwards; default: a temporary one")
    parser.add_argument("--torch", help="a wheel to install instead of the index's torch, such as one for CPUs only")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="smoke-") as folder:
        python = sys.executable
        if args.versions:
            place = Path(args.environment or folder).resolve() / "venv"
            torch = str(Path(args.torch).resolve()) if args.torch and Path(args.torch).is_file() else args.torch
            python = make_environment(args.versions, args.python, place, torch)
        run(python, "-c", VERSIONS)
        for words in road(Path(folder)):
            run(python, *words)
        check(Path(folder))
    print("smoke: everything works together")
    return 0


def run(*words: object) -> None:
    """A command, from the root of the repository; UserError where it fails."""
    print("+", *words[:2], "..." if len(words) > 2 else "", flush=True)
    done = subprocess.run([str(word) for word in words], cwd=ROOT)
    if done.returncode:
        raise UserError(f"smoke: {words[1]} ended with exit code {done.returncode}; its message is above")


def make_environment(versions: str, interpreter: str, folder: Path, torch: str | None) -> Path:
    """An environment with these versions of what requirements.txt names ("core": in its first block); returns its
    Python."""
    run(interpreter, "-m", "venv", "--clear", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--quiet", "uv")
    install = [python, "-m", "uv", "pip", "install", "--quiet", "--python", python, "--only-binary", ":all:"]
    if torch:
        run(*install, "--no-deps", torch)
    pins = ["--constraints", "constraints.txt"] if versions == "pinned" else []
    named = ["-r", "requirements.txt"] if versions != "core" else core_requirements()
    run(*install, "--resolution", RESOLVE[versions], *named, *pins, *([torch] if torch else []))
    return python


def core_requirements() -> list[str]:
    """The requirements of the first block, which training and text scores need."""
    first = (ROOT / "requirements.txt").read_text(encoding="utf-8").split("\n#")[0]
    return [line for line in first.splitlines() if not line.startswith("#")]


def road(folder: Path) -> list[list[object]]:
    """The four commands on a few rows."""
    for name, count in (("train", 48), ("val", 8)):
        lines = [json.dumps(make_row(number)) for number in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    teacher, student = folder / "teacher", folder / "student"
    knowledge = [teacher / f"distillation_data_{part}.jsonl" for part in ("training", "validation")]
    return [
        ["train_codet5_assertions.py", "--train_data_path", folder / "train.jsonl", "--val_data_path",
         folder / "val.jsonl", "--model_name", "scratch:tiny", "--scratch_vocab_size", 400, "--output_dir", teacher,
         *SHORT],
        ["knowledge_distillation.py", "--train_data_path", knowledge[0], "--val_data_path", knowledge[1],
         "--model_name", teacher / "final_model", "--student_decoder_layers", 1, "--output_dir", student,
         "--loss_components", "focal", "jsd", "--save_steps", 1, "--max_steps", 1, *SHORT],
        ["knowledge_distillation.py", "--train_data_path", knowledge[0], "--val_data_path", knowledge[1],
         "--model_name", teacher / "final_model", "--student_decoder_layers", 1, "--output_dir", student,
         "--loss_components", "focal", "jsd", "--save_steps", 1, "--max_steps", 2, "--resume", "auto", *SHORT],
        ["evaluation/evaluate_assertions.py", "--student_model_path", student / "final_model", "--teacher_data",
         knowledge[1], "--embedding_model", "none", "--num_beams", 2, "--output_dir", folder / "evaluation"],
    ]  # fmt: skip


def make_row(number: int) -> dict[str, object]:
    """A getter, and a test that sets its value."""
    name, value = ("Count", "Size", "Age")[number % 3], 7 * number % 100
    return {
        "focal_method": f"public int get{name}() {{ return {name.lower()}; }}",
        "test_method_masked": f"@Test public void test{name}() {{ box.set{name}({value}); <AssertPlaceHolder> }}",
        "assertions": [f"assertEquals({value}, box.get{name}());"],
    }


def check(folder: Path) -> None:
    """Every stage has left its result."""
    summary = json.loads((folder / "evaluation" / "metrics_summary_final.json").read_text(encoding="utf-8"))
    for who in ("teacher", "student"):
        value = summary[who]["token_accuracy"]["value"]
        if value is None:
            raise UserError(f"smoke: the evaluation measured no token accuracy of the {who}")


if __name__ == "__main__":
    run_main(main)
