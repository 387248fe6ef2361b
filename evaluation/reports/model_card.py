"""The model card, README.md of a model folder: how to load the model, its data, losses and scores with intervals."""

from __future__ import annotations

from pathlib import Path

from huggingface_hub import EvalResult, ModelCard, ModelCardData, try_to_load_from_cache

from data.rows.tokenization import TaskEncoder, TextFormat
from evaluation.reports.agreement import Agreement, describe_agreement
from evaluation.reports.model_program import write_program
from evaluation.reports.run_data import RunData, load_run, read_json
from models.exported.folder import ExportNote
from models.seq2seq.loading import load_tokenizer
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

LOADING = "## How to load it"


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
    how = "distilled from a larger teacher" if role == "student" else "fine-tuned as a teacher"
    parts = [
        f"---\n{_describe_for_the_hub(data, base, role).to_yaml()}\n---",
        f"# {data.name}",
        f"Writes the assertion that a Java unit test lacks, given the test and the method under test. A sequence-to-"
        f"sequence model {how}, starting from `{_shorten(base)}`.",
        LOADING,
        _write_program(folder, config.get("max_input_len", 512), config.get("max_output_len", 128)),
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


def _describe_for_the_hub(data: RunData, base: str, role: str) -> ModelCardData:
    """The front matter, in the form that the hub reads."""
    scores = (data.summary.get(role) or {}).items()
    data_name = Path(str(data.config.get("data_path") or data.config.get("val_data_path"))).name
    found = [
        EvalResult(
            task_type="text2text-generation",
            task_name="assertion generation",
            dataset_type="assertions",
            dataset_name=data_name,
            metric_type=name,
            metric_value=round(metric["value"], 4),
        )
        for name, metric in scores
        if metric and metric.get("value") is not None
    ]
    # A path on somebody's disk is of no use to others as a base model.
    hub = base.count("/") == 1 and not base.startswith((".", "/")) and not Path(base).exists()
    tags = ["java", "unit-tests", "test-oracle", "assertion-generation", "knowledge-distillation"]
    return ModelCardData(
        model_name=data.name,
        library_name="transformers",
        language="code",
        license=_find_license(base),
        base_model=base if hub else None,
        tags=tags,
        metrics=[result.metric_type for result in found] or None,
        eval_results=found or None,
    )


def _find_license(base: str) -> str:
    """That of the model that this one started from, if its card is on this machine."""
    try:
        card = Path(base) / "README.md" if Path(base).is_dir() else try_to_load_from_cache(base, "README.md")
        if isinstance(card, (str, Path)) and Path(card).is_file():
            return ModelCard.load(card, ignore_metadata_errors=True).data.license or "unknown"
    except Exception:  # no name of the hub, or a card in which somebody wrote anything
        pass
    return "unknown"


def _write_program(folder: Path, max_input_len: int, max_output_len: int, note: ExportNote | None = None) -> str:
    """The program that loads the model in ``folder``, which is an export if there is a ``note`` of it."""
    if not (folder / "tokenizer_config.json").is_file():
        return "The folder holds no tokenizer."
    text_format = note.text_format if note else read_json(folder / "config.json").get("text_format")
    encoder = TaskEncoder(load_tokenizer(str(folder)), TextFormat.read(text_format))
    return write_program(encoder, max_input_len, max_output_len, note.quantization if note else None)


def write_export_card(folder: Path, note: ExportNote, original: Path, agreement: Agreement) -> None:
    """Write README.md of an exported model: the card of its original, if there is one, with what an export changes."""
    loading = (
        f"{LOADING}\n\nThis is an export to CTranslate2 in {note.quantization}; it needs `ctranslate2` and `tokenizers`"
        f" alone.\n\n{_write_program(folder, note.max_input_len, note.max_output_len, note)}\n\n"
        f"## Agreement with the original\n\n{describe_agreement(agreement)}\n\n"
    )
    file = original / "README.md"
    card = file.read_text(encoding="utf-8") if file.is_file() else f"# {note.source}\n\n{LOADING}\n\n"
    before, _, rest = card.partition(LOADING)
    text = before + loading + rest[rest.find("## ") :] if "## " in rest else before + loading
    with atomic_writer(folder / "README.md") as handle:
        handle.write(text.replace("library_name: transformers", "library_name: ctranslate2"))


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
