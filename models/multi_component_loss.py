"""Any subset of the loss components, weighted, over the denominators of the whole optimiser step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from config import schedules
from data.batches.collate import Batch
from models.loss_functions import COMPONENTS, LossInputs, LossResources, LossSettings
from models.seq2seq.target_head import target_rows
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
        self._steps = torch.zeros(())

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
        self._steps = self._steps.to(raw) + finite
        for name, value in zip(self.names, raw, strict=True):
            old = self._mean.get(name, torch.zeros_like(value))
            self._mean[name] = torch.where(finite, self.momentum * old + (1.0 - self.momentum) * value, old)

    def state_dict(self) -> dict[str, Any]:
        return {"mean": {name: float(value) for name, value in self._mean.items()}, "steps": int(self._steps)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._mean = {name: torch.tensor(value, dtype=torch.float32) for name, value in state["mean"].items()}
        self._steps = torch.tensor(float(state["steps"]))


def no_teacher(component: str) -> UserError:
    """The error of a component that finds no teacher."""
    return UserError(
        f"--loss_components {component}: needs the teacher's logits, which the training data do not hold; make "
        "distillation data with train_codet5_assertions.py, name a --teacher_model, or use ce or focal instead"
    )


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
        self.components = schedules.loss_components(schedules.MULTI_COMPONENT, components, COMPONENTS)
        self.weights = weights
        self.settings = settings or LossSettings()
        self.resources = resources or LossResources()
        self.scale = RunningScale(self.components, normalizer_momentum) if normalize else None
        for name in self.components:
            for need in COMPONENTS[name].needs:
                if need == "teacher" and not teacher_available:
                    raise no_teacher(name)
                if need != "teacher" and getattr(self.resources, need) is None:
                    raise UserError(f"--loss_components {name}: its {need} resource is not there; see build_loss")

    # -- one micro-batch ----------------------------------------------------------------------------------------------

    def inputs(self, logits: Tensor, batch: Batch, temperature: float) -> LossInputs:
        """Drop the padding of logits [B, T, V] and of the batch; logits [1, N, V] are of the target positions alone."""
        labels: Tensor = batch["labels"]
        if not temperature > 0:
            raise UserError(f"--temperature {temperature:g}: must be above 0")
        num_samples, length = labels.shape
        teacher = batch.get("teacher")
        whole = logits.shape[:2] == labels.shape
        count = logits.shape[1] if not whole else teacher.num_positions if teacher is not None else None
        rows = target_rows(labels, count)
        if not whole and logits.shape[:2] != (1, rows.shape[0]):
            raise ValueError(f"logits {tuple(logits.shape)} do not fit labels {tuple(labels.shape)}")
        flat = labels.reshape(-1)
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
            rows=rows if whole and not everything else None,
            settings=self.settings,
            resources=self.resources,
        )

    def __call__(self, logits: Tensor, batch: Batch, progress: LossProgress, denominators: Denominators) -> LossOutput:
        """Loss of logits [B, T, V] or [1, N, V] (see ``inputs``; any float type) against ``batch``. No sync on a GPU.

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
        self, logits: Tensor, batch: Batch, progress: LossProgress, denominators: Denominators
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
    loss_weights: Sequence[float] | None = None,
    enable_dynamic_weighting: bool = False,
    pans_weight: float = 0.1,
    ast_weight: float = 0.1,
) -> Callable[[LossProgress], dict[str, float]]:
    """The weights as a function of the progress; see ``config.schedules``. Raises UserError for bad weights."""
    if loss_weights is not None:
        fixed = schedules.fixed_weights(components, loss_weights)
        return lambda progress: fixed
    if loss_function == schedules.MULTI_COMPONENT:
        return lambda progress: schedules.loss_weights(components, progress.fraction, enable_dynamic_weighting)
    schedules.check_weight("--pans_weight", pans_weight)
    schedules.check_weight("--ast_weight", ast_weight)
    return lambda progress: schedules.alpha_weights(loss_function, progress.alpha, pans_weight, ast_weight)


def _distinct(texts: Iterable[str], limit: int) -> list[str]:
    found: dict[str, None] = {}
    for text in texts:
        if text.strip():
            found[text] = None
            if len(found) == limit:
                break
    return list(found)


def build_loss(
    *,
    loss_function: str,
    components: Sequence[str],
    tokenizer: PreTrainedTokenizerBase,
    vocab_size: int,
    device: torch.device | str,
    teacher_available: bool,
    texts: Iterable[str],
    settings: LossSettings | None = None,
    loss_weights: Sequence[float] | None = None,
    enable_dynamic_weighting: bool = False,
    pans_weight: float = 0.1,
    ast_weight: float = 0.1,
    normalize_components: bool = False,
    normalizer_momentum: float = 0.99,
    token_weights: Tensor | None = None,
    embedding_model: str = "embaas/codesearchnet-minilm-l6",
    contrastive_encoder: str = "microsoft/codebert-base",
    bridge_fit_steps: int = 300,
    bridge_batch_size: int = 32,
    bridge_min_fidelity: float = 0.85,
    contrastive_queue_size: int = 256,
    embedding_cache_size: int = 20000,
    embedding_cache_ttl: float = 86400.0,
    progress: bool = True,
    log: Callable[[str], None] = lambda text: None,
) -> MultiComponentLoss:
    """The loss that the command line describes, with all it needs; parameters are named as their flags.

    ``vocab_size``: width of the student's logits; ``texts``: the training targets, of which the vocabulary bridge reads
    what it needs; ``teacher_available``: whether the data hold teacher logits (or a teacher runs along); ``progress``:
    show the bar of the fit. Raises UserError, before any training, naming the flag to change: unknown component, wrong
    weights, no teacher, encoder or parser. With several processes let one build first: the bridge is then cached.
    """
    names = schedules.loss_components(loss_function, components, COMPONENTS)
    weights = weight_plan(
        loss_function,
        names,
        loss_weights=loss_weights,
        enable_dynamic_weighting=enable_dynamic_weighting,
        pans_weight=pans_weight,
        ast_weight=ast_weight,
    )
    needs = frozenset().union(*(COMPONENTS[name].needs for name in names))
    if "teacher" in needs and not teacher_available:
        raise no_teacher(next(name for name in names if "teacher" in COMPONENTS[name].needs))
    not_text = torch.zeros(vocab_size, dtype=torch.bool)
    ends = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id)
    not_text[[index for index in ends if index is not None]] = True
    resources: dict[str, Any] = {"not_text": not_text.to(device)}
    if token_weights is not None:
        resources["token_weights"] = token_weights.to(device)
    if "spans" in needs:
        try:
            from models.losses.ast_spans import SpanFinder
        except ImportError as error:
            raise UserError(
                f"--loss_components ast: the Java parser is missing ({error.name}); pip install tree-sitter "
                "tree-sitter-java, or leave ast out"
            ) from None
        resources["spans"] = SpanFinder(tokenizer)
    encoders = {"semantic": embedding_model, "contrastive": contrastive_encoder}
    if needs & encoders.keys():
        from models.text_encoder.bridge import MAX_TEXTS, GoldQueue, soft_text_encoder

        distinct = _distinct(texts, MAX_TEXTS)
        built: dict[str, Any] = {}
        for need, name in encoders.items():
            if need in needs:
                if name not in built:
                    built[name] = soft_text_encoder(
                        name,
                        tokenizer,
                        distinct,
                        device=device,
                        flag="--embedding_model" if need == "semantic" else "--contrastive_encoder",
                        vocab_size=vocab_size,
                        steps=bridge_fit_steps,
                        batch_size=bridge_batch_size,
                        min_fidelity=bridge_min_fidelity,
                        cache_size=embedding_cache_size,
                        cache_ttl=embedding_cache_ttl,
                        progress=progress,
                        log=log,
                    )
                resources[need] = built[name]
        if "contrastive" in needs and contrastive_queue_size:
            resources["queue"] = GoldQueue(contrastive_queue_size, resources["contrastive"].cache)
    return MultiComponentLoss(
        names,
        weights,
        settings=settings,
        resources=LossResources(**resources),
        teacher_available=teacher_available,
        normalize=normalize_components,
        normalizer_momentum=normalizer_momentum,
    )
