"""Any subset of the loss components, weighted, over the denominators of the whole optimiser step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from config.schedules import (
    MULTI_COMPONENT,
    alpha_weights,
    check_weight,
    fixed_weights,
    loss_components,
    loss_weights,
)
from models.loss_functions import COMPONENTS, LossInputs, LossResources, LossSettings
from utils.errors import UserError

IGNORED = -100


@dataclass(frozen=True)
class LossProgress:
    """Where training stands: share of optimiser steps done (0 to 1), temperature T > 0, alpha (modes that have one)."""

    fraction: float = 1.0
    temperature: float = 1.0
    alpha: float = 0.5


@dataclass(frozen=True)
class Denominators:
    """Target tokens and sequences of the whole optimiser step: all micro-batches of all ranks. Numbers or tensors."""

    tokens: float | Tensor
    sequences: float | Tensor


@dataclass(frozen=True)
class LossOutput:
    """A micro-batch's share of the step's loss: over all micro-batches and ranks the shares add up to the mean.

    total: for backward (with DDP, whose reduction is a mean, times the number of ranks); raw, weighted: detached, as is
    ``total.detach() == sum(weighted.values())``; weights: of the schedule, without the normaliser's scale.
    """

    total: Tensor
    raw: dict[str, Tensor]
    weighted: dict[str, Tensor]
    weights: dict[str, float]


class RunningScale:
    """Running mean of each component over optimiser steps; dividing by it gives all components the size 1.

    Scales stand still within a step and are those of the steps before, so micro-batches agree; the first step is not
    scaled. All on the device, without a sync.
    """

    def __init__(self, names: Sequence[str], momentum: float) -> None:
        self.names = tuple(names)
        self.momentum = momentum
        self._mean: dict[str, Tensor] = {}
        self._steps = 0

    def __call__(self, name: str, like: Tensor) -> Tensor:
        """Factor on the component, of ``like``'s type and device."""
        mean = self._mean.get(name)
        if mean is None:
            return like.new_ones(())
        # Bias-corrected like Adam's moments; a component that is 0 all along (ast) is left alone.
        corrected = mean.to(like) / (1.0 - self.momentum**self._steps)
        return torch.where(corrected > 0, 1.0 / corrected, 1.0)

    def update(self, values: Mapping[str, Tensor]) -> None:
        """Take in one optimiser step's raw values; a step with a non-finite one changes nothing."""
        raw = torch.stack([values[name].detach().float() for name in self.names])
        finite = raw.isfinite().all()
        self._steps += 1
        for name, value in zip(self.names, raw, strict=True):
            old = self._mean.get(name, torch.zeros_like(value))
            self._mean[name] = torch.where(finite, self.momentum * old + (1.0 - self.momentum) * value, old)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": {name: float(value) for name, value in self._mean.items()}, "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._mean = {name: torch.tensor(value, dtype=torch.float32) for name, value in state["mean"].items()}
        self._steps = state["steps"]


class MultiComponentLoss:
    """Call it with logits and a batch; see ``build_loss`` for the parameters as the command line names them.

    weights: progress -> weight of each component. Raises UserError, at construction, where a component is unknown or
    lacks a resource; ``teacher_available`` tells whether the data hold teacher logits.
    """

    def __init__(
        self,
        components: Sequence[str],
        weights: Callable[[LossProgress], Mapping[str, float]],
        *,
        settings: LossSettings | None = None,
        resources: LossResources | None = None,
        teacher_available: bool = True,
        normalize: bool = False,
        normalizer_momentum: float = 0.99,
    ) -> None:
        self.components = loss_components(MULTI_COMPONENT, components, COMPONENTS)
        self.weights = weights
        self.settings = settings or LossSettings()
        self.resources = resources or LossResources()
        self.scale = RunningScale(self.components, normalizer_momentum) if normalize else None
        for name in self.components:
            for need in COMPONENTS[name].needs:
                if need == "teacher" and not teacher_available:
                    raise UserError(
                        f"--loss_components {name}: needs teacher logits, which the training data do not hold; make "
                        "distillation data with train_codet5_assertions.py, or use ce or focal"
                    )
                if need != "teacher" and getattr(self.resources, need) is None:
                    raise UserError(f"--loss_components {name}: its {need} resource is not there; see build_loss")

    # -- one micro-batch ----------------------------------------------------------------------------------------------

    def inputs(self, logits: Tensor, batch: Mapping[str, Any], temperature: float) -> LossInputs:
        """Drop the padding of logits [B, T, V] and of the batch."""
        labels: Tensor = batch["labels"]
        if logits.shape[:2] != labels.shape:
            raise ValueError(f"logits {tuple(logits.shape)} do not fit labels {tuple(labels.shape)}")
        if not temperature > 0:
            raise UserError(f"--temperature {temperature:g}: must be above 0")
        num_samples, length = labels.shape
        teacher = batch.get("teacher")
        flat = labels.reshape(-1)
        target = flat != IGNORED
        if teacher is not None and labels.device.type != "cpu":
            # The number of targets is known here: no need to ask the device.
            rows = torch.nonzero_static(target, size=teacher.num_positions, fill_value=0).squeeze(1)
        else:
            rows = target.nonzero().squeeze(1)
        everything = rows.shape[0] == flat.shape[0]
        return LossInputs(
            logits=logits.reshape(-1, logits.shape[-1]),
            labels=flat if everything else flat[rows],
            sample_index=torch.div(rows, length, rounding_mode="floor"),
            num_samples=num_samples,
            max_length=length,
            temperature=temperature,
            components=frozenset(self.components),
            teacher=teacher,
            references=batch.get("references", ()),
            rows=None if everything else rows,
            settings=self.settings,
            resources=self.resources,
        )

    def __call__(
        self, logits: Tensor, batch: Mapping[str, Any], progress: LossProgress, denominators: Denominators
    ) -> LossOutput:
        """Loss of logits [B, T, V] (any float type) against ``batch`` (data collator's keys). No host sync on a GPU.

        Exceptions: ``ast`` must read the greedy tokens; a batch without teacher must count its targets; an encoder
        reads texts on the host.
        """
        weights = dict(self.weights(progress))
        with torch.autocast(logits.device.type, enabled=False):
            inputs = self.inputs(logits, batch, progress.temperature)
            raw = {name: self._mean(name, inputs, denominators) for name in self.components}
            weighted = {
                name: weights[name] * (value if self.scale is None else value * self.scale(name, value))
                for name, value in raw.items()
            }
            total = torch.stack(list(weighted.values())).sum()
        if self.resources.queue is not None and torch.is_grad_enabled():
            self.resources.queue.push(inputs.references)
        return LossOutput(
            total,
            {name: value.detach() for name, value in raw.items()},
            {name: value.detach() for name, value in weighted.items()},
            weights,
        )

    @staticmethod
    def _mean(name: str, inputs: LossInputs, denominators: Denominators) -> Tensor:
        component = COMPONENTS[name]
        units = denominators.tokens if component.unit == "token" else denominators.sequences
        return component.function(inputs) / units

    def gradient_norms(
        self, logits: Tensor, batch: Mapping[str, Any], progress: LossProgress, denominators: Denominators
    ) -> dict[str, Tensor]:
        """L2 norm of each raw component's gradient on the logits of this micro-batch; costs a backward pass each."""
        leaf = logits.detach().requires_grad_()
        with torch.enable_grad(), torch.autocast(logits.device.type, enabled=False):
            inputs = self.inputs(leaf, batch, progress.temperature)
            values = {name: self._mean(name, inputs, denominators) for name in self.components}
            norms = {}
            for name, value in values.items():
                (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True)
                norms[name] = torch.linalg.vector_norm(gradient, dtype=torch.float32)
        return norms

    # -- state between optimiser steps --------------------------------------------------------------------------------

    def end_step(self, raw: Mapping[str, Tensor]) -> None:
        """Call after each optimiser step with the step's raw values, summed over micro-batches and ranks."""
        if self.scale is not None:
            self.scale.update(raw)
        if self.resources.queue is not None:
            self.resources.queue.end_step()

    def state_dict(self) -> dict[str, Any]:
        """Normaliser and queue; the schedules follow from the progress alone."""
        queue = self.resources.queue
        return {
            "scale": self.scale.state_dict() if self.scale is not None else None,
            "queue": queue.state_dict() if queue is not None else None,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        if self.scale is not None and state["scale"] is not None:
            self.scale.load_state_dict(state["scale"])
        if self.resources.queue is not None and state["queue"] is not None:
            self.resources.queue.load_state_dict(state["queue"])


def weight_plan(
    loss_function: str,
    components: Sequence[str],
    *,
    loss_weights_given: Sequence[float] | None = None,
    enable_dynamic_weighting: bool = False,
    pans_weight: float = 0.1,
    ast_weight: float = 0.1,
) -> Callable[[LossProgress], dict[str, float]]:
    """The weights as a function of the progress; see ``config.schedules``. Raises UserError for bad weights."""
    if loss_weights_given is not None:
        fixed = fixed_weights(components, loss_weights_given)
        return lambda progress: fixed
    if loss_function == MULTI_COMPONENT:
        return lambda progress: loss_weights(components, progress.fraction, enable_dynamic_weighting)
    check_weight("--pans_weight", pans_weight)
    check_weight("--ast_weight", ast_weight)
    return lambda progress: alpha_weights(loss_function, progress.alpha, pans_weight, ast_weight)
