"""The model card, README.md of a model folder: how to load the model, its data, losses and scores with intervals."""

from __future__ import annotations

import os
from pathlib import Path

from evaluation.reports.run_data import RunData, load_run
from utils.atomic_io import atomic_writer
from utils.metrics import EXECUTION_METRICS, TRAINING_METRICS
from utils.pages.html_page import format_number, interval

MEANING = {
    "ce": "cross-entropy on the reference",
    "focal": "focal cross-entropy on the reference: −α (1−p)^γ log p",
    "kl": "forward KL divergence from the teacher at temperature T, times T²",
    "jsd": "Jensen-Shannon divergence to the teacher at temperature T, times T²",
    "semantic": "β · (1 − cosine) between the embeddings of prediction and reference",
    "contrastive": "InfoNCE: the prediction close to its reference, far from other references",
    "pans": "position-aware n-gram similarity, one minus",
    "ast": "unlikelihood of the tokens that keep the prediction from parsing as Java",
}

USAGE = '''```python
# run in the root of the repository that trained the model
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from data.rows.readers import Sample
from data.rows.tokenization import TaskEncoder, TextFormat

folder = "{folder}"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()

test = """@Test public void add() {{
    List<String> list = new ArrayList<>();
    list.add("a");
    <AssertPlaceHolder>
}}"""
focal = "public boolean add(E e) {{ modCount++; add(e, elementData, size); return true; }}"

encoder = TaskEncoder(tokenizer, TextFormat.of_model(model))
ids = torch.tensor([encoder.source(Sample(test, focal, ()), max_len={max_input_len})])
output = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens={max_output_len})
print(tokenizer.decode(output[0], skip_special_tokens=True))
```'''


def write_model_card(run_folder: str | Path, role: str = "student") -> Path:
    """Write README.md into final_model, whose path is returned, and into best_model where there is one.

    ``role``: "student", or "teacher" for a fine-tuned teacher. Call it again once the model has been evaluated.
    """
    data = load_run(run_folder)
    final, best = data.folder / "final_model", data.folder / "best_model"
    for folder in (best, final) if best.is_dir() else (final,):
        with atomic_writer(folder / "README.md") as handle:
            handle.write(render_card(data, folder, role))
    return final / "README.md"


def render_card(data: RunData, folder: Path, role: str) -> str:
    """The text of the card."""
    config = data.config
    base = str(config.get("model_name", "unknown"))
    # A path on somebody's disk is of no use to others as a base model.
    hub = base.count("/") == 1 and not base.startswith((".", "/")) and not Path(base).exists()
    front = [
        "library_name: transformers",
        f"base_model: {base}" if hub else "",
        "language: code",
        "tags: [java, unit-tests, test-oracle, assertion-generation, knowledge-distillation]",
    ]
    how = "distilled from a larger teacher" if role == "student" else "fine-tuned as a teacher"
    parts = [
        "---\n" + "\n".join(filter(None, front)) + "\n---",
        f"# {data.name}",
        f"Writes the assertion that a Java unit test lacks, given the test and the method under test. A sequence-to-"
        f"sequence model {how}, starting from `{_shorten(base)}`.",
        "## How to load it",
        USAGE.format(
            folder=os.path.relpath(folder),
            max_input_len=config.get("max_input_len", 512),
            max_output_len=config.get("max_output_len", 128),
        ),
        "## Training data",
        _describe_data(data),
        "## Losses",
        _describe_losses(data),
        "## Scores",
        _describe_scores(data, role),
        "## What it cannot do",
        "The scores compare text with text, unless `compile_rate` and `pass_rate` are given. An assertion from the "
        "model may not compile, may fail on correct code, or may pass on wrong code: read it before you keep it. It "
        "was trained on Java tests like those of its training data and knows no other language.",
        "## How it was made",
        _describe_origin(data),
    ]
    return "\n\n".join(parts) + "\n"


def _shorten(model: str) -> str:
    return Path(model).name if Path(model).is_absolute() else model


def _format_table(headers: list[str], rows: list[list[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _describe_data(data: RunData) -> str:
    config = data.config
    drawn = "all samples" if config.get("max_train_samples") is None else "a part of it"
    seen = data.steps.get("samples")
    if seen is not None and len(seen):
        drawn = f"{int(seen[data.steps['epoch'] <= 1 + 1e-9].sum()):,} samples"
    if config.get("enable_epoch_sampling"):
        drawn += ", drawn again each epoch"
    whole = config.get("data_path")  # one file, from which both parts were split
    rows = [
        ["training", f"`{Path(str(whole or config.get('train_data_path'))).name}`, {drawn}"],
        ["validation", f"`{Path(str(whole or config.get('val_data_path'))).name}`"],
        ["longest input, output", f"{config.get('max_input_len')}, {config.get('max_output_len')} tokens"],
    ]
    if len(data.steps.get("samples", [])):
        rows.append(["samples seen", f"{int(data.steps['samples'].sum()):,} in {len(data.steps['step']):,} steps"])
    coverage = data.training.get("coverage")
    if coverage is not None and (known := coverage[coverage == coverage]).size:
        rows.append(["share of the training file seen", f"{known[-1]:.1%}"])
    return _format_table(["", ""], rows)


def _describe_losses(data: RunData) -> str:
    rows = []
    for name in data.components:
        weights = data.steps[f"{name}_weight"]
        first, last = format_number(float(weights[0])), format_number(float(weights[-1]))
        rows.append([name, MEANING.get(name, ""), first if first == last else f"{first} → {last}"])
    text = _format_table(["component", "what it is", "weight"], rows) if rows else "Cross-entropy."
    temperature = data.steps.get("temperature")
    if temperature is not None and len(temperature) and temperature[0] == temperature[0]:
        first, last = format_number(float(temperature[0])), format_number(float(temperature[-1]))
        text += f"\n\nTemperature {first} → {last} over training."
    return text


def _describe_scores(data: RunData, role: str) -> str:
    systems = {who: metrics for who, metrics in data.systems().items() if role == "student" or who == role}
    systems = dict(sorted(systems.items(), key=lambda pair: pair[0] != role))
    if not systems:
        return "Not evaluated yet."
    names = [n for n in (*TRAINING_METRICS, *EXECUTION_METRICS) if any(n in metrics for metrics in systems.values())]
    rows = [[f"`{name}`", *(interval(metrics.get(name)) for metrics in systems.values())] for name in names]
    counts = {
        metric["n"]
        for metrics in systems.values()
        for metric in metrics.values()
        if isinstance(metric, dict) and metric.get("n")
    }
    on = f" on {max(counts):,} samples" if counts else ""
    return _format_table(["metric", *systems], rows) + (f"\n\nIn brackets: 95 % intervals{on}.")


def _describe_origin(data: RunData) -> str:
    config, git = data.config, data.run.get("git") or {}
    settings = ", ".join(
        f"{name} {config[name]}"
        for name in ("batch_size", "gradient_accumulation_steps", "epochs", "lr", "weight_decay", "seed")
        if name in config
    )
    versions = ", ".join(f"{name} {version}" for name, version in (data.run.get("versions") or {}).items())
    changed = " with uncommitted changes" if git.get("modified") else ""
    lines = [
        f"Settings: {settings}." if settings else "",
        f"Libraries: {versions}." if versions else "",
        f"Code: {git['commit']}{changed}." if git.get("commit") else "",
        "`run_config.json` in the folder of the run holds every parameter: pass it to `--config` to train again.",
    ]
    return "\n".join(filter(None, lines))
