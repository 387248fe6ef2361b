"""The validation of a training run: the loss that is trained, and the quality of what the model writes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from transformers import PreTrainedModel

from data.batches.collate import IGNORED, Batch
from data.batches.loader import validation_batches
from data.dataset import AssertionDataset
from data.rows.readers import Sample
from evaluation.evaluators import evaluate_predictions
from models.decoding.generate import accuracy_per_sample, generate_predictions
from models.multi_component_loss import Denominators, LossProgress, MultiComponentLoss
from models.seq2seq.inputs import shift_right, to_device
from models.training.engine import TrainingEngine
from models.training.run import Run
from utils.logging_utils import DistillationLogger
from utils.metrics import BASIC_METRICS, METRICS


class Validator:
    """Call it with the model and the step; it returns metric -> value, the same in every process.

    batches: this process's share of the validation rows, the same at every call; each batch holds ``samples``.
    progress: the settings of the loss, fixed for the run, so that its values can be compared.
    """

    def __init__(
        self,
        batches: Callable[[], Iterable[Batch]],
        tokenizer: Any,
        loss: MultiComponentLoss,
        progress: LossProgress,
        accelerator: Accelerator,
        logger: DistillationLogger,
        *,
        enhanced: bool,
        encoder: Any = None,
        critical: torch.Tensor | None = None,
        max_output_len: int,
        batch_size: int,
        num_beams: int = 1,
        shown: int = 5,
    ) -> None:
        self.batches, self.tokenizer, self.loss, self.progress = batches, tokenizer, loss, progress
        self.accelerator, self.logger, self.encoder, self.critical = accelerator, logger, encoder, critical
        self.enhanced, self.max_output_len, self.batch_size = enhanced, max_output_len, batch_size
        self.num_beams, self.shown = num_beams, shown

    def one_batch_only(self) -> None:
        """From now on judge the first batch alone, as a dry run does."""
        batches = self.batches
        self.batches = lambda: islice(batches(), 1)

    @torch.no_grad()
    def __call__(self, model: PreTrainedModel, step: int) -> dict[str, float | None]:
        model.eval()
        device = self.accelerator.device
        rows: list[dict[str, Any]] = []
        weights = dict(self.loss.weights(self.progress))  # a process may have no batch to take them from
        totals = torch.zeros(2, dtype=torch.float64)
        components = dict.fromkeys(self.loss.components, 0.0)
        sources: list[list[int]] = []
        for batch in self.batches():
            on_device = to_device(batch, device)
            labels = on_device["labels"]
            with self.accelerator.autocast():
                logits = model(
                    input_ids=on_device["input_ids"],
                    attention_mask=on_device["attention_mask"],
                    decoder_input_ids=shift_right(model, labels),
                ).logits
            # Sums first: the denominators are those of the whole validation set.
            output = self.loss(logits, on_device, self.progress, Denominators(1.0, 1.0))
            for name, value in output.raw.items():
                components[name] += float(value)
            totals += torch.tensor([int((labels != IGNORED).sum()), len(labels)], dtype=torch.float64)
            right, count, critical_right, critical = accuracy_per_sample(logits.argmax(-1), labels, self.critical)
            for index, sample in enumerate(batch["samples"]):
                length = int(batch["attention_mask"][index].sum())
                sources.append(batch["input_ids"][index, :length].tolist())
                rows.append(
                    {
                        "row": int(batch["row_ids"][index]),
                        "sample": sample,
                        "token_accuracy": float(right[index] / count[index]),
                        "critical_token_accuracy": float(critical_right[index] / critical[index]),
                    }
                )
        texts = generate_predictions(
            model,
            self.tokenizer,
            sources,
            max_output_len=self.max_output_len,
            batch_size=self.batch_size,
            num_beams=self.num_beams,
        )
        for row, text in zip(rows, texts, strict=True):
            row["prediction"] = text
        gathered = gather_object([(rows, components, totals.tolist())])
        rows = sorted((row for part, _, _ in gathered for row in part), key=lambda row: row["row"])
        tokens, sequences = (sum(part[2][i] for part in gathered) for i in range(2))
        sums = {name: sum(part[1][name] for part in gathered) for name in components}
        return self._measure(rows, sums, weights, tokens, sequences, step)

    def _measure(
        self,
        rows: list[dict[str, Any]],
        sums: dict[str, float],
        weights: dict[str, float],
        tokens: float,
        sequences: float,
        step: int,
    ) -> dict[str, float | None]:
        from models.loss_functions import COMPONENTS

        units = {"token": tokens, "sequence": sequences}
        value = sum(weights[name] * sums[name] / units[COMPONENTS[name].unit] for name in sums)
        samples: list[Sample] = [row["sample"] for row in rows]
        predictions = [row["prediction"] for row in rows]
        measured = {"token_accuracy": np.array([row["token_accuracy"] for row in rows])}
        if self.critical is not None:
            measured["critical_token_accuracy"] = np.array([row["critical_token_accuracy"] for row in rows])
        evaluation = evaluate_predictions(
            predictions,
            [sample.assertions for sample in samples],
            samples=samples,
            encoder=self.encoder if self.enhanced else None,
            measured=measured,
        )
        names = [name for name in METRICS if name in evaluation.per_sample] if self.enhanced else list(BASIC_METRICS)
        if self.critical is not None and "critical_token_accuracy" not in names:
            names.append("critical_token_accuracy")
        exact = evaluation.per_sample["exact_match"]
        self.logger.sample_predictions(
            step,
            (
                {
                    "id": rows[i]["row"],
                    "reference": samples[i].target,
                    "prediction": predictions[i],
                    "teacher_prediction": samples[i].teacher_prediction,
                    "exact_match": bool(exact[i] == 1.0),
                }
                for i in range(min(self.shown, len(rows)))
            ),
        )
        return {"val_loss": value, **{name: evaluation.value(name) for name in names}}


def add_validation(
    run: Run,
    engine: TrainingEngine,
    validation_set: AssertionDataset,
    *,
    encoder: Any = None,
    critical: torch.Tensor | None = None,
    live_teacher: Callable | None = None,
) -> None:
    """Give the engine its validation, by the flags; all processes call it."""
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
            engine.final_progress(),
            accelerator,
            run.logger,
            enhanced=settings.use_enhanced_metrics,
            encoder=encoder,
            critical=critical,
            max_output_len=config.data.max_output_len,
            batch_size=batch_size,
            num_beams=settings.num_beams,
            shown=settings.sample_predictions,
        )
    accelerator.wait_for_everyone()  # rejected.jsonl is tidy before anyone adds to it
