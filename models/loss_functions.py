"""The eight loss components. Each takes ``LossInputs`` and returns the sum over its unit: target tokens or sequences.

The caller divides by the number of units in the whole optimiser step (``models.multi_component_loss``), so the gradient
does not depend on how samples are split into micro-batches. Only target positions (label not -100) reach this file.
All arithmetic is on log-probabilities in float32 (float64 for float64 logits). Formulas, costs and sources:
docs/losses.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from config.defaults import DistillationConfig, LossConfig, SemanticConfig, TokenWeightingConfig, ValidationConfig
from data.distillation.signal import TeacherSignal, TopKSignal
from models.losses.divergences import symbol_divergence
from models.losses.teacher_rows import TeacherRows
from models.losses.vocabulary_pass import PassRequest, PassResult, vocabulary_pass
from utils.errors import UserError

if TYPE_CHECKING:
    from models.losses.ast_spans import SpanFinder
    from models.text_encoder.bridge import GoldQueue, SoftTextEncoder

EncoderComponent = Literal["semantic", "contrastive"]


@dataclass(frozen=True)
class LossSettings:
    """The sections of the configuration that the loss reads."""

    loss: LossConfig = field(default_factory=LossConfig)
    semantic: SemanticConfig = field(default_factory=SemanticConfig)
    distillation: DistillationConfig = field(default_factory=DistillationConfig)
    token_weighting: TokenWeightingConfig = field(default_factory=TokenWeightingConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    label_smoothing: float = 0.0  # of ce


@dataclass(frozen=True)
class LossResources:
    """What components need besides logits, labels and teacher; ``models.multi_component_loss.build_loss`` builds it.

    not_text [V] bool: ids that are not part of the text (padding, end of sequence). token_weights [V]: weight of each
    label in ce and focal. ``semantic``, ``contrastive``: the encoders of these components; ``queue``: past references
    for contrastive; ``spans``: for ast.
    """

    not_text: Tensor | None = None
    token_weights: Tensor | None = None
    semantic: SoftTextEncoder | None = None
    contrastive: SoftTextEncoder | None = None
    queue: GoldQueue | None = None
    spans: SpanFinder | None = None


@dataclass(frozen=True)
class TextLayout:
    """Where the N target positions go in [B, L] when each sample's text tokens come first, without gaps.

    cell [N]: row-major place in [B, L], no two alike; is_text [N] bool; mask [B, L] bool: True at text.
    """

    cell: Tensor
    is_text: Tensor
    mask: Tensor

    @classmethod
    def of(cls, is_text: Tensor, sample_index: Tensor, num_samples: int, length: int) -> TextLayout:
        """Lay out N positions: is_text [N] bool, sample_index [N] in ascending order. Never waits for the device."""
        text = is_text.long()

        def rank(flag: Tensor) -> tuple[Tensor, Tensor]:
            """The rank [N] of each flagged position within its sample, and the flagged positions [B] of each sample."""
            counts = flag.new_zeros(num_samples).index_add_(0, sample_index, flag)
            before = counts.cumsum(0) - counts
            return flag.cumsum(0) - 1 - before[sample_index], counts

        text_rank, text_count = rank(text)
        other_rank, _ = rank(1 - text)
        place = torch.where(is_text, text_rank, text_count[sample_index] + other_rank)
        mask = torch.arange(length, device=text.device) < text_count[:, None]
        return cls(sample_index * length + place, is_text, mask)

    def scatter(self, values: Tensor) -> Tensor:
        """Move values [N, ...] to [B, L, ...], with zeros where there is no text."""
        shape = values.shape[1:]
        values = values * self.is_text.view(-1, *[1] * len(shape)).to(values.dtype)
        grid = values.new_zeros(self.mask.numel(), *shape).index_copy(0, self.cell, values)
        return grid.view(*self.mask.shape, *shape)


@dataclass
class LossInputs:
    """One micro-batch without its padding: N target positions in row-major order of the labels, B samples.

    logits [M, V] of any float type; rows [N]: which of its rows are the target positions (None: all, M = N); labels [N]
    and sample_index [N] (0 to B - 1, ascending) int64; max_length: no sample has more target positions; teacher: N
    positions or None; temperature > 0; references: the B target texts. ``components`` names the components that will
    be computed: one pass over the vocabulary serves them all. Raises UserError if teacher and student do not match.
    """

    logits: Tensor
    labels: Tensor
    sample_index: Tensor
    num_samples: int
    max_length: int
    temperature: float
    components: frozenset[str]
    teacher: TeacherSignal | None = None
    references: Sequence[str] = ()
    rows: Tensor | None = None
    settings: LossSettings = field(default_factory=LossSettings)
    resources: LossResources = field(default_factory=LossResources)

    def __post_init__(self) -> None:
        if self.teacher is None:
            return
        if self.teacher.vocab_size != self.logits.shape[1]:
            raise UserError(
                f"the teacher's logits have {self.teacher.vocab_size} tokens, the student's {self.logits.shape[1]}: "
                "both must have the same vocabulary; distil again with a teacher that has the student's vocabulary"
            )
        if self.teacher.num_positions != self.labels.shape[0]:
            raise UserError(
                f"the teacher's logits cover {self.teacher.num_positions} target positions, the labels "
                f"{self.labels.shape[0]}; distil again with the same tokenizer and --max_output_len"
            )

    @cached_property
    def _bucket(self) -> TopKSignal | None:
        """The top-k teacher, if the divergences run over its k tokens and one bucket for the rest; else None."""
        if not isinstance(self.teacher, TopKSignal) or self.settings.distillation.topk_tail != "bucket":
            return None
        return self.teacher if self.components & {"kl", "jsd"} else None

    @cached_property
    def _pass(self) -> PassResult:
        divergences = tuple(sorted(self.components & {"kl", "jsd"}))
        bucket = self._bucket
        gather = [self.labels.unsqueeze(1)]
        if bucket is not None:
            gather.append(bucket.ids)
        if "pans" in self.components:
            gather.append(self.reference_ids.index_select(0, self.sample_index))
        soft = [encoder.tokens for encoder in self._soft_encoders]
        dense = divergences if bucket is None else ()
        request = PassRequest(
            gather_ids=torch.cat(gather, dim=1),
            temperatures=(1.0, self.temperature) if bucket is not None and self.temperature != 1.0 else (1.0,),
            rows=self.rows,
            excluded_ids=bucket.ids if bucket is not None else None,
            divergences=dense,
            divergence_temperature=self.temperature,
            teacher=TeacherRows(self.need_teacher(), self.temperature) if dense else None,
            soft_tokens=(soft[0] if len(soft) == 1 else torch.cat(soft, dim=1)) if soft else None,
            soft_temperature=self.settings.semantic.semantic_temperature,
        )
        return vocabulary_pass(self.logits, request)

    @cached_property
    def _soft_encoders(self) -> list[SoftTextEncoder]:
        """The encoders that read soft tokens; one that serves both components is listed once."""
        names: tuple[EncoderComponent, ...] = ("semantic", "contrastive")
        wanted = [self.encoder(name) for name in names if name in self.components]
        return wanted[:1] if len(wanted) == 2 and wanted[0] is wanted[1] else wanted

    def encoder(self, component: EncoderComponent) -> SoftTextEncoder:
        """The text encoder of a component."""
        encoder = self.resources.semantic if component == "semantic" else self.resources.contrastive
        assert encoder is not None  # MultiComponentLoss has checked
        return encoder

    def need_teacher(self) -> TeacherSignal:
        """The teacher's signal; raises UserError if the batch has none."""
        if self.teacher is None:
            raise UserError(
                "a sample has no teacher logits, but kl and jsd need them; distil again, or use ce or focal"
            )
        return self.teacher

    @cached_property
    def label_log_probs(self) -> Tensor:
        """log p(label) [N] at temperature 1."""
        return self._pass.gathered[:, 0] - self.log_normalizer

    @property
    def mean_log_probs(self) -> Tensor:
        """The mean over the vocabulary of log p [N] at temperature 1."""
        logits = self.logits if self.rows is None else self.logits[self.rows]
        return logits.to(self.log_normalizer.dtype).mean(dim=1) - self.log_normalizer

    @cached_property
    def log_normalizer(self) -> Tensor:
        """The logsumexp [N] of each row at temperature 1."""
        tail = self._pass.log_sum[:, :1]
        if self._bucket is None:
            return tail.squeeze(1)
        return torch.logsumexp(torch.cat([self._top_logits, tail], dim=1), dim=1)

    @property
    def _top_logits(self) -> Tensor:
        return self._pass.gathered[:, 1 : 1 + (self._bucket.ids.shape[1] if self._bucket is not None else 0)]

    @cached_property
    def layout(self) -> TextLayout:
        """Where the text tokens go: labels that are neither padding nor the end of the sequence."""
        not_text = self.resources.not_text
        is_text = torch.ones_like(self.labels, dtype=torch.bool) if not_text is None else ~not_text[self.labels]
        return TextLayout.of(is_text, self.sample_index, self.num_samples, self.max_length)

    @cached_property
    def reference_ids(self) -> Tensor:
        """The text tokens [B, L] of the references; 0 where ``layout.mask`` is False."""
        return self.layout.scatter(self.labels)

    @property
    def reference_probs(self) -> Tensor:
        """[B, L, L]: the probability at text position i of the token at position j of the reference."""
        start = 1 + self._top_logits.shape[1]
        probs = (self._pass.gathered[:, start:] - self.log_normalizer.unsqueeze(1)).exp()
        return self.layout.scatter(probs) * self.layout.mask.unsqueeze(1)

    @property
    def label_weights(self) -> Tensor | float:
        """Weight [N] of each label in ce and focal."""
        weights = self.resources.token_weights
        return 1.0 if weights is None else weights[self.labels].to(self._pass.gathered.dtype)

    def divergence(self, kind: str) -> Tensor:
        """Sum over positions of ``T^2 D(teacher, student)`` at the current temperature."""
        bucket = self._bucket
        if bucket is None:
            return self._pass.divergences[:, sorted(self.components & {"kl", "jsd"}).index(kind)].sum()
        tail = self._pass.log_sum[:, -1:] * self.temperature
        student = torch.cat([self._top_logits, tail], dim=1)
        tail = bucket.tail_log_mass_at(self.temperature).unsqueeze(1) * self.temperature
        target = torch.cat([bucket.logits, tail], dim=1).to(student.dtype)
        return symbol_divergence(kind, student, target, self.temperature).sum()

    def embed_predictions(self, component: EncoderComponent) -> Tensor:
        """Embed the soft predictions with the component's encoder: [B, d], rows of length 1."""
        encoder = self.encoder(component)
        start = 0
        for other in self._soft_encoders:
            if other is encoder:
                break
            start += other.tokens.shape[1]
        soft = self._pass.soft[:, start : start + encoder.tokens.shape[1]]
        return encoder.embed_soft(self.layout.scatter(soft), self.layout.mask).to(soft.dtype)


def ce(inputs: LossInputs) -> Tensor:
    """``-w log p(label)``; smoothed by e: (1 - e) times that, and e times the mean over all tokens."""
    smoothing = inputs.settings.label_smoothing
    log_probs = inputs.label_log_probs
    if smoothing:
        log_probs = (1.0 - smoothing) * log_probs + smoothing * inputs.mean_log_probs
    return -(inputs.label_weights * log_probs).sum()


def focal(inputs: LossInputs) -> Tensor:
    """``-alpha w (1 - p)^gamma log p`` (Lin et al., Focal Loss for Dense Object Detection, 2017)."""
    log_p = inputs.label_log_probs
    gamma = inputs.settings.loss.focal_gamma
    # At p = 1 and p = 0 the factor is a constant (0^gamma, 1): its derivative would be 0 * inf.
    at_end = (log_p == 0) | (log_p == -torch.inf)
    inside = log_p.masked_fill(at_end, -1.0)
    ends = (log_p.detach() != 0).to(log_p.dtype).pow(gamma)
    factor = torch.where(at_end, ends, (-torch.expm1(inside)).pow(gamma))
    return -(inputs.label_weights * factor * log_p).sum() * inputs.settings.loss.focal_alpha


def kl(inputs: LossInputs) -> Tensor:
    """``T^2 KL(teacher || student)`` at temperature T (Hinton, Vinyals, Dean 2015)."""
    return inputs.divergence("kl")


def jsd(inputs: LossInputs) -> Tensor:
    """``T^2 / 2 [KL(P || M) + KL(Q || M)]``, M = (P + Q) / 2: between 0 and T^2 ln 2 (Lin 1991)."""
    return inputs.divergence("jsd")


def _ngram_matches(match: Tensor, max_ngram: int, decay: float) -> Iterator[Tensor]:
    """The score [B, L - n + 1] of each n-gram of the reference, for n = 1 ... max_ngram.

    match [B, L, L]: how well token i of a text matches token j of the reference. An n-gram is a run on a diagonal.
    """
    length = match.shape[1]
    place = torch.arange(length, device=match.device, dtype=match.dtype)
    nearness = (-decay * (place[:, None] - place[None, :]).abs()).exp()
    run = match
    for n in range(1, min(max_ngram, length) + 1):
        if n > 1:
            run = run[:, :-1, :-1] * match[:, n - 1 :, n - 1 :]
        size = length - n + 1
        yield (run * nearness[:size, :size]).sum(1)


def pans(inputs: LossInputs) -> Tensor:
    """1 - position-aware n-gram similarity (0 to 1); a match counts as much as its probability.

    ``1 - sum_nj min(C_nj, S_nj) / sum_nj S_nj`` with ``C_nj = sum_i exp(-decay |i - j|) prod_k<n p_(i+k)(ref_(j+k))``
    and S the same for the reference against itself. A reference without text gives 0. For one-hot predictions this is
    1 - ``evaluation.scores.text.pans``.
    """
    reference, mask = inputs.reference_ids, inputs.layout.mask
    probs = inputs.reference_probs
    same = (reference.unsqueeze(2) == reference.unsqueeze(1)) & mask.unsqueeze(2) & mask.unsqueeze(1)
    constants = (inputs.settings.loss.pans_max_ngram, inputs.settings.loss.pans_decay)
    collected, possible = probs.new_zeros(len(mask)), probs.new_zeros(len(mask))
    for got, most in zip(
        _ngram_matches(probs, *constants), _ngram_matches(same.to(probs.dtype), *constants), strict=True
    ):
        collected = collected + torch.minimum(got, most).sum(1)
        possible = possible + most.sum(1)
    empty = possible == 0
    return (1.0 - collected / possible.masked_fill(empty, 1.0)).masked_fill(empty, 0.0).sum()


def ast(inputs: LossInputs) -> Tensor:
    """Unlikelihood ``-log(1 - p)``: the mean over the greedy tokens that keep a prediction from parsing, else 0.

    The parser works on text, so this is the only component that waits for the device. Source of the term: Welleck et
    al., Neural Text Generation with Unlikelihood Training, 2020.
    """
    spans = inputs.resources.spans
    assert spans is not None  # MultiComponentLoss has checked
    greedy = inputs.logits.detach().argmax(dim=1)
    if inputs.rows is not None:
        greedy = greedy[inputs.rows]
    flagged, weights = spans.flag(
        greedy.tolist(), inputs.labels.tolist(), inputs.sample_index.tolist(), inputs.num_samples
    )
    device = inputs.labels.device
    chosen = torch.tensor(flagged, dtype=torch.long, device=device)
    rows = chosen if inputs.rows is None else inputs.rows[chosen]
    tokens = greedy[chosen].unsqueeze(1)
    found = vocabulary_pass(inputs.logits, PassRequest(gather_ids=tokens, rows=rows, excluded_ids=tokens))
    # 1 - p comes from the mass of the other tokens: exact even if p rounds to 1.
    others = found.log_sum[:, 0]
    log_rest = others - torch.logaddexp(others, found.gathered[:, 0])
    return -(log_rest * torch.tensor(weights, dtype=log_rest.dtype, device=device)).sum()


def semantic(inputs: LossInputs) -> Tensor:
    """``beta (1 - cos)`` between the embeddings of soft prediction and reference text."""
    reference = inputs.encoder("semantic").embed_texts(inputs.references)
    prediction = inputs.embed_predictions("semantic")
    cosine = (prediction * reference.to(prediction.dtype)).sum(1)
    return inputs.settings.semantic.semantic_loss_scale * (1.0 - cosine).sum()


def contrastive(inputs: LossInputs) -> Tensor:
    """InfoNCE: anchor = gold, positive = the student's soft prediction, negatives = other golds of batch and queue.

    Golds with the same text as the anchor do not count as negatives. Source: van den Oord et al., Representation
    Learning with Contrastive Predictive Coding, 2018.
    """
    encoder, queue = inputs.encoder("contrastive"), inputs.resources.queue
    prediction = inputs.embed_predictions("contrastive")
    dtype, device = prediction.dtype, prediction.device
    gold = encoder.embed_texts(inputs.references).to(dtype)
    texts: list[str] = []
    others: list[Tensor] = []
    if inputs.settings.semantic.contrastive_batch_negatives:
        texts += inputs.references
        others.append(gold)
    if queue is not None and len(queue):
        texts += queue.texts
        others.append(queue.embeddings.to(device=device, dtype=dtype, non_blocking=True))
    scores = [(gold * prediction).sum(1, keepdim=True)]
    if others:
        same = torch.tensor([[text == own for text in texts] for own in inputs.references], device=device)
        scores.append((gold @ torch.cat(others).T).masked_fill(same, -torch.inf))
    logits = torch.cat(scores, dim=1) / inputs.settings.semantic.contrastive_temperature
    return (torch.logsumexp(logits, dim=1) - logits[:, 0]).sum()


@dataclass(frozen=True)
class Component:
    """A loss: its function, the unit its sum is divided by, and what it needs besides the labels."""

    function: Callable[[LossInputs], Tensor]
    unit: Literal["token", "sequence"]
    needs: frozenset[str] = frozenset()


COMPONENTS: dict[str, Component] = {
    "ce": Component(ce, "token"),
    "focal": Component(focal, "token"),
    "kl": Component(kl, "token", frozenset({"teacher"})),
    "jsd": Component(jsd, "token", frozenset({"teacher"})),
    "semantic": Component(semantic, "sequence", frozenset({"semantic"})),
    "contrastive": Component(contrastive, "sequence", frozenset({"contrastive"})),
    "pans": Component(pans, "sequence"),
    "ast": Component(ast, "sequence", frozenset({"spans"})),
}
