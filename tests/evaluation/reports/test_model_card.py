"""The model card: its facts are those of the run, and the way to load the model works as printed."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from data.rows.context import list_items
from data.rows.readers import Sample
from data.rows.tokenization import TaskEncoder, TextFormat
from evaluation.reports.model_card import write_export_card, write_model_card
from evaluation.reports.model_program import EXAMPLE_METHOD, EXAMPLE_TEST
from models.decoding.generate import GenerationOptions, generate_predictions
from models.exported.convert import convert
from models.exported.folder import read_note
from models.exported.loading import open_model
from models.seq2seq.loading import build_scratch, load_model, load_tokenizer, save_model, train_tokenizer
from tests.helpers.model_families import make_family
from tests.helpers.synthetic_run import write_run

LONGEST = (60, 32)
ROOT = Path(__file__).resolve().parents[3]
DATA = {
    "train_data_path": "/home/somebody/secret/train.jsonl",
    "val_data_path": "val.jsonl",
    "max_train_samples": 1000,
    "enable_epoch_sampling": True,
    "max_input_len": 64,
    "max_output_len": 8,
}


@pytest.fixture
def card(tmp_path: Path) -> str:
    weights = {"focal": (0.3, 0.3), "jsd": (0.7, 0.35), "semantic": (0.0, 0.35)}
    write_run(tmp_path, weights=weights, steps=50, config={**DATA, "model_name": "Salesforce/codet5p-220m"})
    return write_model_card(tmp_path).read_text(encoding="utf-8")


def test_card_names_data_losses_scores_and_origin(card):
    for fact in (
        "160 samples, drawn again each epoch",  # what was seen in the first of five epochs, whatever the flag allows
        "`train.jsonl`",
        "800 in 50 steps",
        "Jensen-Shannon",
        "0.6",
        "0.532 (0.502 to 0.562)",
        "| `pass_rate` | not computed: no JDK |",
        "on 200 samples",
        "0123456789abcdef",
        "torch 2.0",
        "seed 0",
        "student without a teacher",
    ):
        assert fact in card, fact
    assert re.search(r"\| jsd \| .* \| 0\.69\d* → 0\.35 \|", card)
    assert "/home/somebody" not in card and "retrieval" not in card  # that baseline was not judged


def test_a_folder_is_not_published_as_base_model(tmp_path):
    write_run(tmp_path, steps=5, config={**DATA, "model_name": str(tmp_path)})
    text = write_model_card(tmp_path, role="teacher").read_text()
    assert "base_model" not in text and str(tmp_path.parent) not in text.replace(os.path.relpath(tmp_path), "")
    assert "fine-tuned as a teacher" in text


def test_a_run_without_evaluation_says_so(tmp_path):
    write_run(tmp_path, steps=5, config=DATA)
    (tmp_path / "metrics_summary_final.json").unlink()
    assert "Not evaluated yet." in write_model_card(tmp_path).read_text()


SAMPLES = [
    Sample("@Test void a() { x.set(1); <AssertPlaceHolder> }", "int get() { return x; }", ()),
    Sample(
        '@Test void b() { s = "é\\n"; <AssertPlaceHolder> close(); }',
        "String get() { return s; }",
        (),
        context={
            "style": ["import static org.junit.Assert.*;"],
            "siblings": [{"assertion": "assertEquals(1, x.get());", "test_name": "testA"}],
            "fields": ["int x", "String s"],
            "members": ["String get()" * 40, "int size()"],
        },
    ),
]


def save_trained(folder: Path, text_format: TextFormat, family: str | None = None) -> None:
    """A model as a run leaves it, with its card."""
    write_run(folder, steps=5, config={**DATA, "max_input_len": 96})
    if family:
        make_family(family, folder / "model")
        tokenizer, model = load_tokenizer(str(folder / "model")), load_model(str(folder / "model"))
    else:
        tokenizer = train_tokenizer([text for sample in SAMPLES for text in (sample.test, sample.focal)], 330)
        model = build_scratch("tiny", tokenizer, dropout_rate=0.0, attention="sdpa", seed=0)
    text_format.store_in(model)
    save_model(model, tokenizer, folder / "final_model")
    write_model_card(folder)


def read_program(folder: Path) -> str:
    found = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert found
    return found[1]


@pytest.mark.parametrize(
    ("text_format", "family"),
    [
        (TextFormat(), None),
        (TextFormat(context=("style", "siblings", "fields", "members"), max_context_tokens=40), None),
        (TextFormat("tokenizer", ("siblings",), 40), "codet5"),
        (TextFormat(context=("style", "siblings", "members"), max_context_tokens=40, nearest_apart=True), None),
        (TextFormat("tokenizer", ("siblings",), 40, nearest_apart=True), "codet5"),
        (TextFormat(context=("fields",), max_context_tokens=40, nearest_apart=True), None),
        (TextFormat("tokenizer"), "t5_v1.1"),
    ],
)
def test_the_program_in_the_card_builds_the_input_of_the_training(text_format, family, tmp_path, monkeypatch, capsys):
    save_trained(tmp_path, text_format, family)
    monkeypatch.chdir(tmp_path / "final_model")
    names: dict = {}
    exec(compile(read_program(tmp_path / "final_model"), "card", "exec"), names)
    assert capsys.readouterr().out.endswith("\n")
    encoder = TaskEncoder(names["tokenizer"], TextFormat.of_model(names["model"]))
    for sample in SAMPLES:
        items = list_items(sample.context, text_format.context, text_format.nearest_apart)
        lines = [item.text for item in items]
        shown: list = [lines] if text_format.context else []
        if text_format.shows_nearest_apart:
            shown = [lines[0], lines[1:]] if items and items[0].assertion else ["", lines]
        given = names["build_input"](sample.test, sample.focal, *shown)
        assert given == encoder.source(sample, 96)
    assert len(names["build_input"](SAMPLES[0].test, "x" * 2000)) == 96
    if text_format.shows_nearest_apart:
        long = names["build_input"](SAMPLES[0].test, "x", "y + " * 2000)
        assert long == names["build_input"](SAMPLES[0].test, "x")


def run_program(python: str | Path, folder: Path) -> str:
    """What the program of a card prints where nothing of this repository is in reach."""
    (folder / "program.py").write_text(read_program(folder), encoding="utf-8")
    done = subprocess.run([python, "-I", "program.py"], cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout.rstrip("\n").split("\n")[-1].strip()


def written_here(folder: Path) -> str:
    """The same by the code of this repository."""
    writer = open_model(str(folder), "MODEL", "cpu", LONGEST).writer
    context = {"siblings": [{"assertion": "assertEquals(1, stack.size());", "test_name": "pushes"}]}
    sample = Sample(EXAMPLE_TEST, EXAMPLE_METHOD, (), context=context)  # type: ignore[arg-type]
    ids = TaskEncoder(writer.tokenizer, writer.text_format).source(sample, 96)
    options = GenerationOptions(max_output_len=DATA["max_output_len"], num_beams=4, decoding="free")
    return generate_predictions(writer, [ids], options)[0]


@pytest.fixture
def trained_and_exported(tmp_path: Path) -> tuple[Path, Path]:
    save_trained(tmp_path, TextFormat(context=("siblings",), nearest_apart=True))
    exported = tmp_path / "exported"
    exported.mkdir()
    original = open_model(str(tmp_path / "final_model"), "MODEL", "cpu", LONGEST)
    convert(original, "final_model", exported, "float32", 96, 8)
    agreement = {"data": "val.jsonl", "tasks": 4, "decoding": "java", "num_beams": 4, "same_texts": 1.0, "scores": {}}
    agreement |= {"seconds": {"original": 0.2, "exported": 0.01}, "threads": 1}
    agreement |= {"size_bytes": {"original": 4e6, "exported": 1e6}}
    note = read_note(exported, "exported", "MODEL")
    write_export_card(exported, note, original.folder, agreement)  # type: ignore[arg-type]
    return tmp_path / "final_model", exported


def test_programs_run_without_the_repository(trained_and_exported):
    """That of a model needs transformers, that of its export ctranslate2 and tokenizers."""
    for folder in trained_and_exported:
        assert run_program(sys.executable, folder) == written_here(folder)
    card = (trained_and_exported[1] / "README.md").read_text(encoding="utf-8")
    assert "| milliseconds for one task | 200.0 | 10.0 |" in card and "library_name: ctranslate2" in card
    assert card.count("## How to load it") == 1 and "## Training data" in card
    assert "transformers" not in read_program(trained_and_exported[1])


@pytest.mark.slow
def test_programs_run_in_clean_environments(trained_and_exported, tmp_path):
    pins = ["-c", ROOT / "constraints.txt"]
    for folder, packages in zip(
        trained_and_exported, (["transformers", "torch"], ["ctranslate2", "tokenizers"]), strict=True
    ):
        place = tmp_path / packages[0]
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        subprocess.run([place / "bin" / "pip", "install", "--quiet", *packages, *pins], check=True)
        assert run_program(place / "bin" / "python", folder) == written_here(folder)


def test_the_hub_can_read_the_front_matter(card, tmp_path):
    data = ModelCard(card).data
    assert data.library_name == "transformers" and data.language == "code" and data.license == "unknown"
    assert data.base_model == "Salesforce/codet5p-220m" and "test-oracle" in data.tags
    found = {result.metric_type: result for result in data.eval_results}
    assert set(data.metrics) == set(found) and "pass_rate" not in found  # which was not computed
    scores = json.loads((tmp_path / "metrics_summary_final.json").read_text())["student"]
    assert found["code_quality_score"].metric_value == round(scores["code_quality_score"]["value"], 4)
    assert found["code_quality_score"].dataset_name == "val.jsonl"


def test_the_licence_is_that_of_the_model_it_started_from(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    (base / "README.md").write_text("---\nlicense: bsd-3-clause\n---\n# Base\n", encoding="utf-8")
    write_run(tmp_path / "run", steps=5, config={**DATA, "model_name": str(base)})
    assert ModelCard(write_model_card(tmp_path / "run").read_text(encoding="utf-8")).data.license == "bsd-3-clause"
    (base / "README.md").write_text("---\nlicense: [\n---\n", encoding="utf-8")  # not YAML
    assert ModelCard(write_model_card(tmp_path / "run").read_text(encoding="utf-8")).data.license == "unknown"
    write_run(tmp_path / "other", steps=5, config={**DATA, "model_name": "./gone"})
    assert ModelCard(write_model_card(tmp_path / "other").read_text(encoding="utf-8")).data.license == "unknown"
