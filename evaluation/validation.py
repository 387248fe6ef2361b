"""The validation of a training run: the loss that is trained, and the quality of what the model writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from data.batches.collate import IGNORED, Batch
from data.batches.loader import validation_batches
from data.dataset import AssertionDataset
from data.distillation.signal import TeacherSignal
from data.rows.readers import Sample
from evaluation.evaluators import TextEncoder, evaluate_predictions
from models.decoding.generate import GenerationOptions, generate_predictions
from models.decoding.torch_writer import TorchWriter
from models.loss_functions import COMPONENTS
from models.multi_component_loss import Denominators, LossProgress, MultiComponentLoss
from models.seq2seq.inputs import shift_right, to_device
from models.seq2seq.teacher_forced import accuracy_per_sample
from models.training.engine import TrainingEngine
from models.training.run import Run
from utils.logging_utils import DistillationLogger
from utils.metrics import BASIC_METRICS, METRICS


@dataclass(frozen=True)
class ValidationSettings:
    """``enhanced``: the full metric set, else BASIC_METRICS. ``shown``: predictions that are written to the log."""

    enhanced: bool
    max_output_len: int
    batch_size: int
    num_beams: int = 1
    shown: int = 5


@dataclass
class ValidatedRow:
    """A validation row, what the model wrote for it, and its teacher-forced accuracies (NaN: no such token)."""

    row: int
    sample: Sample
    token_accuracy: float
    critical_token_accuracy: float
    prediction: str = ""


@dataclass
class LossSums:
    """Sums of the loss components over rows, and the numbers of target tokens and of rows to divide them by."""

    components: dict[str, float]
    tokens: int = 0
    sequences: int = 0

    def add(self, other: LossSums) -> None:
        """Add what another part of the rows gave."""
        for name, value in other.components.items():
            self.components[name] += value
        self.tokens += other.tokens
        self.sequences += other.sequences

    def mean(self, weights: dict[str, float]) -> float:
        """The weighted loss; each component is a mean over its unit, tokens or sequences."""
        units = {"token": self.tokens, "sequence": self.sequences}
        return sum(weights[name] * value / units[COMPONENTS[name].unit] for name, value in self.components.items())


@dataclass
class Validator:
    """Call it with the model and the step; it returns metric -> value, the same in every process.

    ``batches``: this process's share of the validation rows, the same at every call; each batch holds ``samples``.
    ``progress``: the settings of the loss, fixed for the run, so that its values can be compared.
    ``critical`` [V] bool: the critical tokens, where their accuracy is wanted. ``begin``: labels before the text.
    """

    batches: Callable[[], Iterable[Batch]]
    tokenizer: PreTrainedTokenizerBase
    loss: MultiComponentLoss
    progress: LossProgress
    accelerator: Accelerator
    logger: DistillationLogger
    settings: ValidationSettings
    encoder: TextEncoder | None = None
    critical: torch.Tensor | None = None
    begin: int = 0

    def one_batch_only(self) -> None:
        """From now on judge the first batch alone, as a dry run does."""
        batches = self.batches
        self.batches = lambda: islice(batches(), 1)

    @torch.no_grad()
    def __call__(self, model: PreTrainedModel, step: int) -> dict[str, float | None]:
        model.eval()
        weights = dict(self.loss.weights(self.progress))  # a process may have no batch to take them from
        rows: list[ValidatedRow] = []
        sources: list[list[int]] = []
        sums = LossSums(dict.fromkeys(self.loss.components, 0.0))
        for batch in self.batches():
            rows += self._forced(model, batch, sums)
            for index, length in enumerate(batch["attention_mask"].sum(1).tolist()):
                sources.append(batch["input_ids"][index, :length].tolist())
        texts = generate_predictions(
            TorchWriter(model, self.tokenizer),
            sources,
            GenerationOptions(
                max_output_len=self.settings.max_output_len,
                batch_size=self.settings.batch_size,
                num_beams=self.settings.num_beams,
            ),
        )
        for row, text in zip(rows, texts, strict=True):
            row.prediction = text
        total = LossSums(dict.fromkeys(self.loss.components, 0.0))
        everyone: list[ValidatedRow] = []
        for part, part_sums in gather_object([(rows, sums)]):
            everyone += part
            total.add(part_sums)
        everyone.sort(key=lambda row: row.row)
        return {"val_loss": total.mean(weights), **self._measure(everyone, step)}

    def _forced(self, model: PreTrainedModel, batch: Batch, sums: LossSums) -> list[ValidatedRow]:
        """The rows of a batch with the accuracies of the forward pass; its loss is added to ``sums``."""
        on_device = to_device(batch, self.accelerator.device)
        labels = on_device["labels"]
        with self.accelerator.autocast():
            logits = model(
                input_ids=on_device["input_ids"],
                attention_mask=on_device["attention_mask"],
                decoder_input_ids=shift_right(model, labels),
            ).logits
        # Sums: the denominators are those of the whole validation set, which are not known yet.
        output = self.loss(logits, on_device, self.progress, Denominators(1.0, 1.0))
        raw = {name: float(value) for name, value in output.raw.items()}
        sums.add(LossSums(raw, int((labels != IGNORED).sum()), len(labels)))
        right, count, critical_right, critical = accuracy_per_sample(
            logits.argmax(-1), labels, self.critical, self.begin
        )
        return [
            ValidatedRow(
                int(batch["row_ids"][index]),
                sample,
                float(right[index] / count[index]),
                float(critical_right[index] / critical[index]),
            )
            for index, sample in enumerate(batch["samples"])
        ]

    def _measure(self, rows: list[ValidatedRow], step: int) -> dict[str, float | None]:
        """The metrics of all rows; the first predictions go to the log."""
        measured = {"token_accuracy": np.array([row.token_accuracy for row in rows])}
        if self.critical is not None:
            measured["critical_token_accuracy"] = np.array([row.critical_token_accuracy for row in rows])
        evaluation = evaluate_predictions(
            [row.prediction for row in rows],
            [row.sample.assertions for row in rows],
            samples=[row.sample for row in rows],
            encoder=self.encoder if self.settings.enhanced else None,
            measured=measured,
        )
        names = list(BASIC_METRICS)
        if self.settings.enhanced:
            names = [name for name in METRICS if name in evaluation.per_sample]
        if self.critical is not None and "critical_token_accuracy" not in names:
            names.append("critical_token_accuracy")
        exact = evaluation.per_sample["exact_match"]
        self.logger.sample_predictions(
            step,
            (
                {
                    "id": row.row,
                    "reference": row.sample.target,
                    "prediction": row.prediction,
                    "teacher_prediction": row.sample.teacher_prediction,
                    "exact_match": bool(right == 1.0),
                }
                for row, right in zip(rows[: self.settings.shown], exact, strict=False)
            ),
        )
        return {name: evaluation.value(name) for name in names}


def add_validation(
    run: Run,
    engine: TrainingEngine,
    validation_set: AssertionDataset,
    *,
    encoder: TextEncoder | None = None,
    critical: torch.Tensor | None = None,
    live_teacher: Callable[[Batch], TeacherSignal] | None = None,
) -> None:
    """Give the engine its validation, as the flags say. Every process calls it.

    ``live_teacher``: gives the signal of a batch where the data hold none.
    """
    config, accelerator = run.config, run.accelerator
    settings = config.validation
    batch_size = settings.eval_batch_size or 4 * config.optimization.batch_size
    stored = validation_batches(
        validation_set,
        batch_size,
        run.rejected_rows(validation_set),
        rank=accelerator.process_index,
        world=accelerator.num_processes,
        device=accelerator.device,
    )

    def batches() -> Iterator[Batch]:
        for batch in stored():
            yield batch if live_teacher is None else {**batch, "teacher": live_teacher(batch)}

    if settings.validation_frequency or settings.eval_steps:
        engine.validate = Validator(
            batches,
            engine.tokenizer,
            engine.loss,
            engine.plan.final_progress(),
            accelerator,
            run.logger,
            ValidationSettings(
                enhanced=settings.use_enhanced_metrics,
                max_output_len=config.data.max_output_len,
                batch_size=batch_size,
                num_beams=settings.num_beams,
                shown=settings.sample_predictions,
            ),
            encoder,
            critical,
            len(validation_set.encoder.begin),
        )
    accelerator.wait_for_everyone()  # the main process first removes cut-off lines from rejected.jsonl
