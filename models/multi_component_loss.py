"""The weighted sum of any subset of the loss components, over the denominators of the whole optimiser step."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import torch
from torch import Tensor

from config.schedules import component_names, component_weights
from data.batches.collate import Batch
from models.loss_functions import COMPONENTS, LossInputs, LossResources, LossSettings
from models.losses.critical_tokens import find_critical_tokens
from models.losses.gradient_cap import SequenceRows, cap_leaf, with_gradient
from models.seq2seq.target_head import target_rows
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from models.losses.ast_spans import SpanFinder
    from models.text_encoder.bridge import QueueState, SoftTextEncoder


@dataclass(frozen=True)
class LossProgress:
    """Where training stands: share of optimiser steps done (0 to 1), temperature T > 0, alpha of the modes with one."""

    fraction: float = 1.0
    temperature: float = 1.0
    alpha: float = math.nan


@dataclass(frozen=True)
class Denominators:
    """Numbers of target tokens and sequences in the whole optimiser step: all micro-batches of all ranks."""

    tokens: float | Tensor
    sequences: float | Tensor


@dataclass(frozen=True)
class LossOutput:
    """A micro-batch's share of the step's loss: the shares of all micro-batches and ranks add up to the mean.

    total: the value for backward, which equals ``sum(weighted.values())`` (DDP averages over ranks: multiply it by
    their number); raw, weighted: each component, detached; weights: of the schedule, without the normaliser's scale.
    """

    total: Tensor
    raw: dict[str, Tensor]
    weighted: dict[str, Tensor]
    weights: dict[str, float]


class ScaleState(TypedDict):
    """What a resumed run needs of a ``RunningScale``."""

    mean: dict[str, float]
    steps: int


class LossState(TypedDict):
    """What a resumed run needs of a ``MultiComponentLoss``."""

    scale: ScaleState | None
    queue: QueueState | None


class RunningScale:
    """Running mean of each component over optimiser steps; dividing by it brings every component to size 1.

    Within a step the scales stay as the earlier steps left them, so that all micro-batches agree. The first step is not
    scaled. Everything stays on the device and nothing waits for it.
    """

    def __init__(self, names: Sequence[str], momentum: float) -> None:
        self.names = tuple(names)
        self.momentum = momentum
        self._mean: dict[str, Tensor] = {}
        self._steps = torch.zeros(())

    def __call__(self, name: str, like: Tensor) -> Tensor:
        """The factor on a component, with the type and device of ``like``."""
        mean = self._mean.get(name)
        if mean is None:
            return like.new_ones(())
        # Bias-corrected like Adam's moments; a component that has always been 0 (ast) is left alone.
        corrected = mean.to(like) / (1.0 - self.momentum**self._steps)
        return torch.where(corrected > 0, 1.0 / corrected, 1.0)

    def update(self, values: Mapping[str, Tensor]) -> None:
        """Add one optimiser step's raw values; a step with a non-finite value changes nothing."""
        raw = torch.stack([values[name].detach().float() for name in self.names])
        finite = raw.isfinite().all()
        self._steps = self._steps.to(raw) + finite
        for name, value in zip(self.names, raw, strict=True):
            old = self._mean.get(name, torch.zeros_like(value))
            self._mean[name] = torch.where(finite, self.momentum * old + (1.0 - self.momentum) * value, old)

    def state_dict(self) -> ScaleState:
        """Return the means and the number of steps as plain numbers."""
        return {"mean": {name: float(value) for name, value in self._mean.items()}, "steps": int(self._steps)}

    def load_state_dict(self, state: ScaleState) -> None:
        """Restore what ``state_dict`` returned."""
        self._mean = {name: torch.tensor(value, dtype=torch.float32) for name, value in state["mean"].items()}
        self._steps = torch.tensor(float(state["steps"]))


# What --semantic_gradient_share holds down: the terms that read the prediction through a text encoder.
CAPPED = ("semantic", "contrastive")


class MultiComponentLoss:
    """The weighted sum of the components that ``settings.loss`` names; call it with logits and a batch.

    Raises UserError if a resource that a component needs is missing. ``build_loss`` makes them all.
    """

    def __init__(self, settings: LossSettings, resources: LossResources | None = None) -> None:
        self.settings = settings
        self.resources = resources or LossResources()
        self.components = component_names(settings.loss)
        momentum = settings.loss.normalizer_momentum
        self.scale = RunningScale(self.components, momentum) if settings.loss.normalize_components else None
        share = settings.semantic.semantic_gradient_share
        self._token_terms = [name for name in self.components if COMPONENTS[name].unit == "token"]
        # What --semantic_gradient_share holds down; without a token term there is no measure for it.
        self.capped = [name for name in self.components if share and self._token_terms and name in CAPPED]
        for name in self.components:
            for need in COMPONENTS[name].needs - {"teacher"}:
                if getattr(self.resources, need) is None:
                    raise UserError(f"--loss_components {name}: its {need} resource is missing; see build_loss")

    def weights(self, progress: LossProgress) -> dict[str, float]:
        """The weight of each component, by the schedule."""
        return component_weights(self.settings.loss, progress.fraction, progress.alpha)

    # -- one micro-batch ----------------------------------------------------------------------------------------------

    def inputs(self, logits: Tensor, batch: Batch, temperature: float) -> LossInputs:
        """Drop the padding of logits [B, T, V] and of the batch.

        Logits [1, N, V] belong to the N target positions alone. Raises ValueError if the logits have neither shape.
        """
        labels: Tensor = batch["labels"]
        if not temperature > 0:
            raise UserError(f"--temperature {temperature:g}: must be above 0")
        num_samples, length = labels.shape
        teacher = batch.get("teacher")
        whole = logits.shape[:2] == labels.shape
        count = logits.shape[1] if not whole else batch.get("num_targets")
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
        """The loss of logits [B, T, V] or [1, N, V] (see ``inputs``; any float type) on ``batch``.

        It does not wait for the GPU, with two exceptions: ``ast`` reads the greedy tokens, and an encoder reads texts
        on the host.
        """
        weights = self.weights(progress)
        capped = logits.requires_grad and torch.is_grad_enabled() and self._caps(weights)
        source = cap_leaf(logits) if capped else logits
        with torch.autocast(logits.device.type, enabled=False):
            inputs = self.inputs(source, batch, progress.temperature)
            raw = {name: self._mean(name, inputs, denominators) for name in self.components}
            weighted = {
                name: weights[name] * (value if self.scale is None else value * self.scale(name, value))
                for name, value in raw.items()
            }
            total = torch.stack(list(weighted.values())).sum()
            if capped:
                total = with_gradient(logits, total, self._capped_gradient(weighted, source, inputs))
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

    def _caps(self, weights: Mapping[str, float]) -> bool:
        """Whether --semantic_gradient_share holds something down now: a token term of weight 0 is no measure."""
        return bool(self.capped) and any(weights[name] > 0 for name in self._token_terms)

    def _capped_gradient(self, weighted: Mapping[str, Tensor], source: Tensor, inputs: LossInputs) -> Tensor:
        """The gradient of the sum of ``weighted`` on ``source``, in its shape, where the cap has been applied."""

        def gradient(names: Iterable[str]) -> Tensor:
            value = torch.stack([weighted[name] for name in names]).sum()
            return torch.autograd.grad(value, source, retain_graph=True)[0].flatten(0, 1)

        total = gradient(self._token_terms)
        sequences = SequenceRows(inputs.sample_index, inputs.num_samples, inputs.rows)
        limits = sequences.norms(total) * self.settings.semantic.semantic_gradient_share
        for name in self.capped:
            total += sequences.cap(gradient([name]), limits)
        if others := [name for name in self.components if name not in (*self._token_terms, *self.capped)]:
            total += gradient(others)
        return total.view_as(source)

    def gradient_norms(
        self, logits: Tensor, batch: Batch, progress: LossProgress, denominators: Denominators
    ) -> dict[str, Tensor]:
        """The L2 norm of each raw component's gradient on the logits; costs one backward pass for each component.

        With --semantic_gradient_share it is what the cap leaves of it.
        """
        weights = self.weights(progress)
        caps = self._caps(weights)
        leaf = cap_leaf(logits) if caps else logits.detach().requires_grad_()
        norms, tokens = {}, torch.zeros(())
        with torch.enable_grad(), torch.autocast(logits.device.type, enabled=False):
            inputs = self.inputs(leaf, batch, progress.temperature)
            values = {name: self._mean(name, inputs, denominators) for name in self.components}
            sequences = SequenceRows(inputs.sample_index, inputs.num_samples, inputs.rows)
            for name in sorted(self.components, key=self.capped.__contains__):  # after the terms that set their limit
                value = values[name]
                (gradient,) = torch.autograd.grad(value, leaf, retain_graph=True)
                factor = weights[name] * (1.0 if self.scale is None else self.scale(name, value))
                if caps and name in self._token_terms:
                    tokens = tokens + gradient * factor
                if caps and name in self.capped and weights[name]:
                    limits = sequences.norms(tokens.flatten(0, 1)) * self.settings.semantic.semantic_gradient_share
                    gradient = sequences.cap(gradient.flatten(0, 1), limits / factor)
                norms[name] = torch.linalg.vector_norm(gradient, dtype=torch.float32)
        return {name: norms[name] for name in self.components}

    # -- state between optimiser steps --------------------------------------------------------------------------------

    def end_step(self, raw: Mapping[str, Tensor]) -> None:
        """Call this after each optimiser step with its raw values, summed over micro-batches and ranks."""
        if self.scale is not None:
            self.scale.update(raw)
        if self.resources.queue is not None:
            self.resources.queue.end_step()

    def state_dict(self) -> LossState:
        """Return the state of normaliser and queue; the schedules follow from the progress alone."""
        queue = self.resources.queue
        return {
            "scale": self.scale.state_dict() if self.scale is not None else None,
            "queue": queue.state_dict() if queue is not None else None,
        }

    def load_state_dict(self, state: LossState) -> None:
        """Restore what ``state_dict`` returned."""
        if self.scale is not None and state["scale"] is not None:
            self.scale.load_state_dict(state["scale"])
        if self.resources.queue is not None and state["queue"] is not None:
            self.resources.queue.load_state_dict(state["queue"])


def _mark_not_text(tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> Tensor:
    """[V] bool: True at the ids that are not part of a text."""
    not_text = torch.zeros(vocab_size, dtype=torch.bool)
    ends = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.bos_token_id)
    not_text[[index for index in ends if index is not None]] = True
    return not_text


def _build_span_finder(tokenizer: PreTrainedTokenizerBase) -> SpanFinder:
    try:
        from models.losses.ast_spans import SpanFinder
    except ImportError as error:
        raise UserError(
            f"--loss_components ast: the Java parser is missing ({error.name}); pip install tree-sitter "
            "tree-sitter-java, or leave ast out"
        ) from None
    return SpanFinder(tokenizer)


def build_loss(
    settings: LossSettings,
    tokenizer: PreTrainedTokenizerBase,
    vocab_size: int,
    texts: Iterable[str],
    device: torch.device | str,
    *,
    teacher_available: bool,
    progress: bool = True,
    log: Callable[[str], None] = lambda text: None,
) -> MultiComponentLoss:
    """Build the loss that the settings describe, with everything its components need.

    ``vocab_size``: width of the student's logits; ``texts``: the training targets; the vocabulary bridge reads as
    many as it needs; ``teacher_available``: whether the data hold teacher logits or a teacher runs alongside;
    ``progress``: show a bar while the bridge is fitted. Raises UserError, before any training, if a component lacks its
    teacher, encoder or parser. With several processes let one build first: the others find the bridge in the cache.
    """
    token_weights = None
    if settings.token_weighting.enable_token_weighting:
        critical = find_critical_tokens(tokenizer, settings.token_weighting.critical_token_categories)
        token_weights = critical.weights(vocab_size, settings.token_weighting.critical_token_weight).to(device)
        log(critical.describe())
    needing = {need: name for name in reversed(component_names(settings.loss)) for need in COMPONENTS[name].needs}
    if "teacher" in needing and not teacher_available:
        raise UserError(
            f"--loss_components {needing['teacher']}: needs the teacher's logits, but the training data hold none; "
            "make distillation data with train_codet5_assertions.py, give a --teacher_model, or use ce or focal instead"
        )
    not_text = _mark_not_text(tokenizer, vocab_size).to(device)
    spans = _build_span_finder(tokenizer) if "spans" in needing else None
    encoders: dict[str, SoftTextEncoder] = {}
    queue = None
    if needing.keys() & {"semantic", "contrastive"}:
        from models.text_encoder.bridge import GoldQueue, collect_texts, load_soft_encoder
        from models.text_encoder.encoders import resolve_encoder

        texts, loaded = collect_texts(texts), {}
        for need, flag, name in (
            ("semantic", "--embedding_model", settings.validation.embedding_model),
            ("contrastive", "--contrastive_encoder", settings.semantic.contrastive_encoder),
        ):
            if need in needing and name not in loaded:
                encoder = resolve_encoder(name, device, flag)
                loaded[name] = load_soft_encoder(
                    encoder, tokenizer, vocab_size, texts, settings.semantic, flag=flag, progress=progress, log=log
                )
            if need in needing:
                encoders[need] = loaded[name]
        size = settings.semantic.contrastive_queue_size
        if "contrastive" in needing and size:
            queue = GoldQueue(size, encoders["contrastive"].cache)
    resources = LossResources(not_text, token_weights, queue=queue, spans=spans, **encoders)
    return MultiComponentLoss(settings, resources)
