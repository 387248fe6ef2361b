"""One optimiser step: forward, backward, clip, step. It logs nothing and knows nothing of the run around it.

All micro-batches of a step are at hand before the first forward pass, so every term of the loss is divided by the
tokens or sequences of the whole step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from torch import Tensor
from transformers import PreTrainedModel

from config.defaults import RunConfig
from data.batches.collate import IGNORED, Batch
from models.multi_component_loss import Denominators, LossProgress, MultiComponentLoss
from models.training.passes import Pass
from models.training.windows import Window
from utils.seeding import seed_step
from utils.training_utils import clip_gradients, measure_gradient_norms

LOWEST_SCALE = 1.0  # of --fp16: a smaller scale cannot be why gradients are still not finite


@dataclass(frozen=True)
class StepResult:
    """What an optimiser step did, summed over its micro-batches and processes."""

    raw: dict[str, float]  # component -> its value before weighting
    weighted: dict[str, float]
    weights: dict[str, float]
    norms: dict[str, float]  # of the gradient: total, encoder, decoder, and of each component where it was wanted
    target_tokens: int
    samples: int
    applied: bool  # the weights have moved
    nonfinite: bool  # they have not: loss or gradient is not finite; an --fp16 scale that was too large does not count
    hard_loss: Tensor | None  # raw cross-entropy, still on the device so that reading it waits for nothing

    @property
    def loss(self) -> float:
        """The value that was minimised."""
        return sum(self.weighted.values())


class TrainingStep:
    """Call it with a window, the number of steps done, the learning rate and the state of the schedules."""

    def __init__(
        self,
        config: RunConfig,
        accelerator: Accelerator,
        model: PreTrainedModel,
        through: Pass,
        optimizer: AcceleratedOptimizer,
        loss: MultiComponentLoss,
    ) -> None:
        """model: holds the trained parameters; through: how micro-batches go through it."""
        self.config = config
        self.accelerator = accelerator
        self.loss = loss
        self.model = model
        self.through = through
        self.optimizer = optimizer

    def __call__(
        self,
        window: Window,
        number: int,
        learning_rate: float,
        where: LossProgress,
        component_norms: bool = False,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> StepResult:
        """``number``: optimiser steps done before; ``component_norms``: measure each component's gradient as well.

        meanwhile: is called while the device computes.
        """
        seed_step(self.config.hardware.seed, number, self.accelerator.process_index)
        tokens, sequences = self._count(window)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        denominators = Denominators(max(1.0, tokens), max(1.0, sequences))
        values, norms_of_components = self._accumulate(window, where, denominators, component_norms)
        if self.accelerator.num_processes > 1:
            values = self.accelerator.reduce(values, "sum")
        if self.accelerator.scaler is not None and window:
            self.accelerator.unscale_gradients(self.optimizer)
        norms = measure_gradient_norms(self.model)
        together = torch.stack([*values, *norms.values(), *norms_of_components.values()])
        if together.device.type != "cpu":
            meanwhile()
        # The one wait for the device in a step: is everything finite, and what do the logs want.
        host = together.tolist()
        components = self.loss.components
        numbers, host = host[: len(values)], host[len(values) :]
        host_norms = dict(zip([*norms, *norms_of_components], host, strict=True))
        if tokens:
            finite_loss = all(map(math.isfinite, numbers))
            applied, nonfinite = self._apply(norms["total"], math.isfinite(host_norms["total"]), finite_loss)
        else:
            applied, nonfinite = False, False
            self._forget(gradients=bool(window))
        raw = dict(zip(components, values[: len(components)], strict=True))
        if applied:
            self.loss.end_step(raw)
        return StepResult(
            raw=dict(zip(components, numbers[: len(components)], strict=True)),
            weighted=dict(zip(components, numbers[len(components) :], strict=True)),
            weights=dict(self.loss.weights(where)),
            norms=host_norms,
            target_tokens=int(tokens),
            samples=int(sequences),
            applied=applied,
            nonfinite=nonfinite,
            hard_loss=raw["ce"].detach() if "ce" in raw else None,
        )

    def _count(self, window: Window) -> tuple[float, float]:
        """Target tokens and sequences of the whole step, over all processes."""

        def targets(labels: Tensor, known: int | None) -> int:
            return int((labels != IGNORED).sum()) if known is None else known

        totals = torch.tensor(
            [
                sum(targets(batch["labels"], batch.get("num_targets")) for batch, counts in window if counts),
                sum(len(batch["labels"]) for batch, counts in window if counts),
            ],
            dtype=torch.float64,
        )
        if self.accelerator.num_processes > 1:
            totals = self.accelerator.reduce(totals.float().to(self.accelerator.device), "sum").cpu().double()
        tokens, sequences = totals.tolist()
        return tokens, sequences

    def _accumulate(
        self, window: Window, where: LossProgress, denominators: Denominators, component_norms: bool
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Forward and backward of each micro-batch.

        Returns [2 x components] raw values, then weighted ones, of this process, and the gradient norms of the
        components on the first micro-batch.
        """
        values = torch.zeros(2 * len(self.loss.components), device=self.accelerator.device)
        norms: Mapping[str, Tensor] = {}
        self.through.train()
        for index, (batch, counts) in enumerate(window):
            with nullcontext() if index == len(window) - 1 else self.through.no_sync():
                found, norms_here = self._micro_batch(
                    batch, counts, where, denominators, component_norms and index == 0
                )
            values += found
            norms = norms or norms_here
        return values, norms

    def _micro_batch(
        self, batch: Batch, counts: bool, where: LossProgress, denominators: Denominators, component_norms: bool
    ) -> tuple[Tensor | float, Mapping[str, Tensor]]:
        """One micro-batch of ``_accumulate``. Its graph of autograd ends here: a recorded one must find none alive."""
        batch = self.through.prepare(batch)
        logits = self.through.logits(batch)
        norms: Mapping[str, Tensor] = {}
        if component_norms:
            norms = self.loss.gradient_norms(logits, batch, where, denominators)
        if not counts:
            # A stand-in takes part, with 0.
            self.through.backward(logits.sum() * 0.0)
            return 0.0, norms
        output = self.loss(logits, batch, where, denominators)
        # DDP averages over the processes; the denominators already span them.
        self.through.backward(output.total * self.accelerator.num_processes)
        return torch.stack([*output.raw.values(), *output.weighted.values()]), norms

    def _apply(self, norm: Tensor, finite_norm: bool, finite_loss: bool) -> tuple[bool, bool]:
        """Clip and step where loss and gradient are finite. Returns ``applied`` and ``nonfinite`` of the result."""
        if finite_norm and finite_loss:
            clip_gradients(self.model, norm, self.config.optimization.max_grad_norm)
            self.optimizer.step()
            self.through.weights_moved()
            self.through.zero()
            return True, False
        scaler = self.accelerator.scaler
        nonfinite = scaler is None or not finite_loss or scaler.get_scale() < LOWEST_SCALE
        self._forget(gradients=True)
        return False, nonfinite

    def _forget(self, gradients: bool) -> None:
        """Drop this step's gradients, if there are any; the scaler of --fp16 notes what it saw of them."""
        if self.accelerator.scaler is not None and gradients:
            self.accelerator.scaler.update()
        self.through.zero()
