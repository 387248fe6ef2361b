"""Every command that the documentation shows is executed, at a small size, in a copy of the repository's layout.

The convention: commands stand in blocks marked ``bash``, one a line, and can be copied as they are. A command is run
with flags appended that shrink it (the last one wins) and write elsewhere; inputs that it names and that are not there
are laid at that place. Commands that a test cannot run are checked as far as possible, for a reason given in NOT_RUN. A
command that nothing here knows fails.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import pytest

from tests.helpers import forked
from tests.helpers.commands import ROOT, student_words
from tests.helpers.java_project import junit_jars, need_jdk

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "slurm_scripts" / "README.md"]


def page_name(page: Path) -> str:
    return str(page.relative_to(ROOT))


FIRST_WORDS = ("python", "make", "sbatch", "torchrun", "accelerate", "tensorboard", "pip", "bash", "scripts/", "srun")

# Why a command is checked, and not run. Its flags and files are looked at where there is something to look at.
NOT_RUN = {
    "make": "minutes, or the tests themselves; its target must exist",
    "pip": "it would download; what it would install must be installed in a fitting version",
    "sbatch": "needs a cluster, see tests/slurm_scripts; here their syntax and variables",
    "torchrun": "two processes: tests/commands/test_runs.py; here the flags",
    "accelerate": "two processes: tests/commands/test_runs.py; here the flags",
    "tensorboard": "it serves until it is stopped; here its flags and its folder",
    "pytest": "the tests themselves; here the file and the marker",
    "benchmarks": "minutes on a quiet machine; here the flags",
    "fetch_java_corpus.sh": "downloads ten libraries; here its syntax",
    "suggest_assertions.py": "needs a Java project: tests/evaluation/test_suggest_assertions.py; here the flags",
    "--project": "runs Java, see tests/evaluation/running; here the flags",
    "--versions": "downloads an environment; here the flags, without them the command is run",
    "demo.py": "minutes; its steps are run here one by one",
    "a cluster's or a machine's own commands": "squeue, module, git clone, hf download, grep into a file and the like",
}
FOREIGN = (
    "cd",
    "git",
    "module",
    "source",
    "export",
    "squeue",
    "srun",
    "scontrol",
    "seff",
    "scancel",
    "sinfo",
    "hf",
    "sacctmgr",
    "nvidia-smi",
    "mkdir",
    "apt-get",
    "cp",
)

TINY = [
    "--epochs",
    "1",
    "--batch_size",
    "4",
    "--gradient_accumulation_steps",
    "2",
    "--max_input_len",
    "96",
    "--max_output_len",
    "32",
    "--num_workers",
    "0",
    "--device",
    "cpu",
    "--embedding_model",
    "embedded:minilm",
    "--max_train_samples",
    "8",
    "--max_val_samples",
    "4",
    "--model_name",
    "scratch:tiny",
]
STUDENT = [
    *TINY,
    "--contrastive_encoder",
    "embedded:minilm",
    "--bridge_fit_steps",
    "2",
    "--bridge_min_fidelity",
    "-1",
    "--no_final_evaluation",
    "--no_run_report",
]
TEACHER = [
    *TINY,
    "--scratch_vocab_size",
    "400",
    "--max_distill_samples",
    "4",
    "--compression_workers",
    "0",
    "--no_run_report",
]
EVALUATION = [
    "--teacher_limit",
    "4",
    "--student_limit",
    "4",
    "--latency_samples",
    "0",
    "--workers",
    "1",
    "--device",
    "cpu",
    "--embedding_model",
    "embedded:minilm",
]
DISTILLED = "teacher_models/codet5_teacher/distillation_data_{}.jsonl"


@dataclass(frozen=True)
class Command:
    """One line of a block: where it stands, and its words."""

    place: str
    text: str

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


def blocks(page: Path, language: str) -> Iterator[tuple[int, str]]:
    """(line number, text) of the fenced blocks of a language."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        if found[1] == language:
            yield text.count("\n", 0, found.start()) + 2, found[2]


def commands() -> list[Command]:
    """The commands of all pages, each once."""
    found: dict[str, Command] = {}
    for page in PAGES:
        for first, text in blocks(page, "bash"):
            number, pending = first, ""
            for line in text.splitlines():
                pending += line.removesuffix("\\").strip() + " "
                if not line.endswith("\\"):
                    for part in re.split(r" && | \| ", pending):
                        if shlex.split(part, comments=True):
                            found.setdefault(part.strip(), Command(f"{page.relative_to(ROOT)}:{number}", part.strip()))
                    pending = ""
                number += 1
    return list(found.values())


# ------------------------------------------------------------------------------------------------------------ the place


def enter(folder: str) -> None:
    """Called in the child before a script's ``main``: it then works where a reader of the documentation would."""
    os.chdir(folder)


@pytest.fixture(scope="module")
def place(teacher_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository's layout with the files that the commands build on: raw rows, a teacher, a student's run, Java."""
    folder = tmp_path_factory.mktemp("documented")
    for entry in ROOT.iterdir():
        if entry.name not in ("data", "results", "build", "logs", "teacher_models", "corpus", "mined"):
            (folder / entry.name).symlink_to(entry)
    for name in ("data", "results", "logs", "corpus"):
        (folder / name).mkdir()
    for entry in (ROOT / "data").glob("*.py"):
        (folder / "data" / entry.name).symlink_to(entry)
    split = {
        "training": Path(_config(teacher_run, "train_data_path")),
        "validation": Path(_config(teacher_run, "val_data_path")),
    }
    shutil.copytree(teacher_run, folder / "teacher_models" / "codet5_teacher")
    run = student_words(
        teacher_run,
        folder / "results" / "run",
        "--tensorboard",
        "--max_train_samples",
        16,
        "--epochs",
        1,
        "--final_evaluation",
        "--run_report",
        "--max_val_samples",
        4,
        "--embedding_model",
        "embedded:minilm",
    )
    forked.run(*run, fault=enter, arguments=(str(folder),))
    for seed, name in enumerate(("sample", "libcommons-codec-java", "libcommons-collections4-java")):
        forked.run(
            "data/sample_corpus.py",
            "--output",
            folder / "corpus" / name,
            "--classes",
            8,
            "--seed",
            seed,
            fault=enter,
            arguments=(str(folder),),
        )
    (folder / "lib").mkdir()
    for jar in junit_jars():
        (folder / "lib" / jar.name).symlink_to(jar)
    forked.run(
        "scripts/mine_assertions.py",
        "--source",
        folder / "corpus" / "sample",
        "--output",
        folder / "data" / "raw.jsonl",
        fault=enter,
        arguments=(str(folder),),
    )
    lines = (folder / "data" / "raw.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "mined_context").mkdir()
    for name, few in (("raw_training", lines[:-8]), ("ranked", lines[:-8]), ("raw_validation", lines[-8:])):
        (folder / "mined_context" / f"{name}.jsonl").write_text("".join(few), encoding="utf-8")
    for part, rows in split.items():
        shutil.copy(rows, folder / "data" / f"{part}.jsonl")
        shutil.copy(rows, folder / "data" / f"raw_{part}.jsonl")
    (folder / "logs" / "slurm-4711.out").write_text("CUDA check passed\n")
    for link, target in LINKS.items():
        (folder / link).parent.mkdir(parents=True, exist_ok=True)
        (folder / link).symlink_to(folder / target)
    return folder


# Other names under which the pages speak of the same things.
LINKS = {
    "results/run_name": "results/run",
    "results/student-4711": "results/run",
    "results/demo": "results/run",
    "build/demo/teacher": "teacher_models/codet5_teacher",
    "build/demo/project": "corpus/sample",
    "path/to/project": "corpus/sample",
    "mined/raw.jsonl": "data/raw.jsonl",
    "corpus/mined_context/unseen.jsonl": "data/raw.jsonl",
    "corpus/mined_context/first_80k.jsonl": "data/raw.jsonl",
    "mined/project.jsonl": "data/raw.jsonl",
    "teacher_models/first": "teacher_models/codet5_teacher",
    "results/first": "results/run",
    "results/first_without_teacher": "results/run",
}


def _config(run: Path, name: str) -> str:
    import json

    return json.loads((run / "run_config.json").read_text())["config"][name]


# --------------------------------------------------------------------------------------------------------- what runs it


def run(place: Path, *words: object) -> None:
    forked.run(*words, fault=enter, arguments=(str(place),))


def train_student(place: Path, words: list[str], output: Path) -> None:
    if {"--print_config", "--help"} & {*words} or ("--resume" in words and "--output_dir" not in words):
        run(place, *words)
    else:
        own = [] if "--config" in words else ["--output_dir", str(output)]
        run(place, *words, *STUDENT, *own)


def train_teacher(place: Path, words: list[str], output: Path) -> None:
    run(place, *words, *([] if "--help" in words else [*TEACHER, "--output_dir", str(output)]))


def evaluate(place: Path, words: list[str], output: Path) -> None:
    if "--project" in words:
        known_flags(words)
    else:
        run(place, *words, *EVALUATION, "--output_dir", str(output))


def mine(place: Path, words: list[str], output: Path) -> None:
    run(place, *words, "--output", str(output / "raw.jsonl"), "--workers", "1")


def sample_corpus(place: Path, words: list[str], output: Path) -> None:
    run(place, *words, "--output", str(output / "project"), "--classes", "5")


def as_it_stands(place: Path, words: list[str], output: Path) -> None:
    run(place, *[word for pattern in words for word in _expand(place, pattern)])


def smoke(words: list[str]) -> None:
    subprocess.run([sys.executable, *words], cwd=ROOT, check=True)


def convert(place: Path, words: list[str], output: Path) -> None:
    run(place, words[0], words[1], str(output / "converted.jsonl"), *words[3:])


EXPORTED = "_ctranslate2_int8"


def export(place: Path, words: list[str], output: Path) -> None:
    more = ["--val_samples", "4", "--num_beams", "2", "--embedding_model", "none", "--allow_worse"]
    run(place, *words, *more, "--output", str(output))


def _expand(place: Path, word: str) -> list[str]:
    found = sorted(str(path.relative_to(place)) for path in place.glob(word)) if "*" in word else []
    return found or [word]


SCRIPTS: dict[str, Callable[[Path, list[str], Path], None]] = {
    "knowledge_distillation.py": train_student,
    "train_codet5_assertions.py": train_teacher,
    "evaluation/evaluate_assertions.py": evaluate,
    "evaluation/suggest_assertions.py": lambda place, words, output: known_flags(words),
    "evaluation/real_bugs.py": lambda place, words, output: known_flags(words),
    "scripts/verify_predictions.py": lambda place, words, output: known_flags(words),
    "scripts/mine_assertions.py": mine,
    "data/sample_corpus.py": sample_corpus,
    "scripts/analyse_loss_scaling.py": as_it_stands,
    "scripts/compare_runs.py": as_it_stands,
    "scripts/make_run_report.py": as_it_stands,
    "scripts/inspect_distillation_data.py": as_it_stands,
    "scripts/convert_distillation_data.py": convert,
    "scripts/export_student.py": export,
    "scripts/demo.py": lambda place, words, output: None,
    "scripts/smoke.py": lambda place, words, output: (known_flags if "--versions" in words else smoke)(words),
}


@cache
def source_of(script: str) -> str:
    shared = "benchmarks/measuring.py" if script.startswith("benchmarks/") else "config/defaults.py"
    return (ROOT / script).read_text() + (ROOT / shared).read_text()


def known_flags(words: list[str]) -> None:
    """The script exists and knows each flag."""
    script, *rest = words
    for word in rest:
        if word.startswith("--"):
            name = word.split("=")[0]
            known = f'"{name}"' in source_of(script) or f"    {name[2:]}:" in source_of(script)
            assert known, f"{script} has no {name}"


def python(place: Path, words: list[str], output: Path) -> None:
    if words[:1] == ["-c"]:
        exec(words[1], {})
    elif words[:2] == ["-m", "pytest"]:
        check_pytest(words[2:])
    elif words[:2] == ["-m", "venv"]:
        return
    elif words[0].startswith("benchmarks/"):
        known_flags(words)
    else:
        assert words[0] in SCRIPTS, f"no executor for {words[0]}: add one to SCRIPTS"
        prepare(place, words)
        SCRIPTS[words[0]](place, words, output)


def prepare(place: Path, words: list[str]) -> None:
    """Lay a file at a place that a command reads from and that is not there yet."""
    for flag, value in pairwise(words):
        part = "training" if "train" in flag else "validation"
        if flag in ("--train_data_path", "--val_data_path", "--teacher_data", "--train_data"):
            raw = words[0].startswith("train_")
            target = place / (f"data/{part}.jsonl" if raw else DISTILLED.format(part))
            if not (place / value).exists():
                (place / value).parent.mkdir(parents=True, exist_ok=True)
                for suffix in ("", ".shared.safetensors"):
                    if Path(f"{target}{suffix}").exists():
                        Path(f"{place / value}{suffix}").symlink_to(f"{target}{suffix}")
        if flag == "--predictions":
            (place / value.rpartition("=")[2]).write_text('{"row": 0, "prediction": "fail();"}\n')
        if value.endswith(EXPORTED) and not (place / value).exists():
            export(place, ["scripts/export_student.py", value.removesuffix(EXPORTED)], place / value)
        if value == "data/parquet" and words[0] == "scripts/convert_distillation_data.py" and "--rows" in words:
            written = ["scripts/convert_distillation_data.py", DISTILLED.format("validation"), value]
            run(place, *written, "--encoding", "parquet", "--overwrite")


def check_pytest(words: list[str]) -> None:
    settings = (ROOT / "pyproject.toml").read_text()
    for flag, word in pairwise(["", *words]):
        if flag == "-m":
            assert f'"{word.removeprefix("not ")}:' in settings, f"no marker {word}"
        elif word.endswith(".py"):
            assert (ROOT / word).is_file(), word


def make(place: Path, words: list[str], output: Path) -> None:
    shown = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True)
    assert shown.returncode == 0, shown.stderr


def pip(place: Path, words: list[str], output: Path) -> None:
    from packaging.requirements import Requirement

    assert words[:2] == ["install", "-r"]
    for line in (ROOT / words[2]).read_text().splitlines():
        if text := line.split("#")[0].strip():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate():
                assert needed.specifier.contains(version(needed.name), prereleases=True), text


def shell_script(path: str, variables: list[str]) -> None:
    """Its syntax, and that it reads the variables that are set for it."""
    subprocess.run(["bash", "-n", ROOT / path], check=True)
    texts = (ROOT / path).read_text() + (ROOT / "slurm_scripts/common.sh").read_text()
    for name in variables:
        assert re.search(rf"\b{name}\b", texts), f"{path} does not read {name}"


def batch(place: Path, words: list[str], output: Path, variables: list[str]) -> None:
    options = [word.split("=")[0] for word in words if word.startswith("--")]
    there = shutil.which("sbatch")
    known = subprocess.run([there, "--help"], capture_output=True, text=True).stdout if there else ""
    for option in options:
        assert not known or re.search(rf"{option}\b", known), f"sbatch has no {option}"
    shell_script(next(word for word in words if word.endswith(".sh")), variables)


def launcher(place: Path, words: list[str], output: Path) -> None:
    script = next(i for i, word in enumerate(words) if word.endswith(".py"))
    known_flags(words[script:])


def tensorboard(place: Path, words: list[str], output: Path) -> None:
    from tensorboard import default, program

    server = program.TensorBoard(plugins=default.get_plugins())
    server.configure(["tensorboard", *words])
    assert list((place / server.flags.logdir).glob("events.*")), server.flags.logdir


def look(place: Path, words: list[str], output: Path) -> None:
    words = [one for word in words if word != "-f" for one in _expand(place, word)]
    done = subprocess.run(words, cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def execute(place: Path, command: Command, output: Path) -> None:
    inner = re.fullmatch(r"\w+=\$\((.*)\)", command.text)
    words = shlex.split(inner[1]) if inner else command.words
    variables = []
    while words and re.match(r"[A-Za-z_]+=", words[0]):
        variables.append(words.pop(0).split("=")[0])
    if not words:
        return  # an assignment
    first, rest = words[0], words[1:]
    runners = {
        "python": python,
        "make": make,
        "pip": pip,
        "torchrun": launcher,
        "accelerate": launcher,
        "tensorboard": tensorboard,
    }
    if first in FOREIGN or "<" in first or ">" in rest:
        return
    if first in ("tail", "head", "grep", "cat", "ls"):
        look(place, words, output)
    elif first == "sbatch":
        batch(place, rest, output, variables)
    elif first == "bash" or first.endswith(".sh"):
        shell_script(rest[0] if first == "bash" else first, variables)
    else:
        assert first in runners, f"no executor for {first}: add one, or a reason to NOT_RUN"
        runners[first](place, rest, output)


# ------------------------------------------------------------------------------------------------------------ the tests


@pytest.mark.parametrize("command", commands(), ids=lambda command: command.place)
def test_command(place: Path, command: Command, tmp_path: Path) -> None:
    assert "…" not in command.text, "a command that cannot be copied"
    execute(place, command, tmp_path / "output")


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_commands_stand_in_blocks_marked_bash(page: Path) -> None:
    for number, text in blocks(page, ""):
        for line in text.splitlines():
            assert not line.startswith(FIRST_WORDS), f"{page_name(page)}:{number}: mark the block with {line!r} as bash"


def test_a_command_that_nothing_knows_fails(place: Path, tmp_path: Path) -> None:
    for text in (
        "python scripts/no_such_script.py",
        "frobnicate --now",
        "make no-such-target",
        "python benchmarks/logging_overhead.py --no_such_flag",
    ):
        with pytest.raises((AssertionError, FileNotFoundError)):
            execute(place, Command("here", text), tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_python_blocks_run(place: Path, page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    for _, text in blocks(page, "python"):
        if "evaluation.running.execution" in text:
            need_jdk()
        exec(text, {})


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert target.startswith("http") or (page.parent / target).exists(), f"{page_name(page)}: {target}"


@cache
def all_sources() -> str:
    """The program's texts, literals in pieces put together, values of f-strings taken out."""
    texts = []
    folders = ("config", "data", "models", "evaluation", "utils", "scripts")
    for path in [*ROOT.glob("*.py"), *(path for folder in folders for path in (ROOT / folder).rglob("*.py"))]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(str(v.value) if isinstance(v, ast.Constant) else "\0" for v in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                texts.append(node.value)
    return "\n".join(texts)


def test_the_messages_of_troubleshooting_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    for message in re.findall(r"`(?:error|warning): ([^`]+)`", page):
        for piece in re.split(r"…|\d+%?|--\w+", message):
            words = piece.strip(" :;,()")
            assert len(words) < 8 or words in all_sources(), f"{message!r}: nothing says {words!r}"


@pytest.mark.parametrize("page", PAGES, ids=page_name)
def test_every_flag_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    sources = all_sources() + "\n".join(p.read_text() for p in (ROOT / "benchmarks").glob("*.py"))
    names = "\n".join(p.read_text() for p in (ROOT / "config").glob("*.py"))
    for flag in sorted(set(re.findall(r"`(--[a-z_]+)", text))):
        assert flag in sources or re.search(rf"\b{flag[2:].removeprefix('no_')}:", names) or flag in SLURM, flag


SLURM = ("--requeue", "--signal", "--output_dir", "--array", "--time", "--partition", "--dependency", "--parsable")


def test_reasons_are_given() -> None:
    assert all(len(reason) > 20 for reason in NOT_RUN.values()) and sys.version_info >= (3, 10)
