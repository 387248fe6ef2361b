"""How a micro-batch goes through the model and back, so that its gradients add up on the trained parameters.

``WholePass`` runs the model as it is, in one process or several. ``SplitPass`` cuts it below its output head. All that
lies below may then compute in bfloat16 on a copy of the weights, and on CUDA be recorded as a graph for each shape,
which one launch replays. Head and loss, whose number of rows differs from batch to batch, stay as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from accelerate import Accelerator
from torch import Tensor
from transformers import PreTrainedModel

from config.defaults import RunConfig
from data.batches.buckets import pad_to_buckets
from data.batches.collate import Batch
from models.seq2seq.fast_parts import compile_blocks, use_fast_parts
from models.seq2seq.inputs import shift_right, to_device
from models.seq2seq.target_head import TargetHead, target_rows

MAX_GRAPHS = 96  # each holds some megabytes of kernels' arguments
OUT_OF_MEMORY = "the GPU's memory is too small to hold them"
Say = Callable[[str], None]
Pool = Any  # what torch.cuda.graph_pool_handle gives


class Pass(Protocol):
    """One way through the model; the gradients are on the trained parameters, in fp32, and add up until ``zero``."""

    def train(self) -> None:
        """Dropout on."""

    def prepare(self, batch: Batch) -> Batch:
        """The batch on the device, in a shape that the pass likes."""

    def logits(self, batch: Batch) -> Tensor:
        """[1, N, V] at the N target positions, or [B, T, V]."""

    def backward(self, loss: Tensor) -> None:
        """Add the gradients of ``loss``, made of the last ``logits``, scaled where --fp16 scales."""

    def zero(self) -> None:
        """Forget the gradients."""

    def weights_moved(self) -> None:
        """The trained parameters have new values."""

    def no_sync(self) -> AbstractContextManager:
        """Within it processes do not add up their gradients yet."""


class WholePass:
    """The model as ``accelerator.prepare`` or FSDP gives it; logits at the target positions alone, if wanted."""

    def __init__(
        self, accelerator: Accelerator, model: PreTrainedModel, bare_model: PreTrainedModel, targets_only: bool
    ) -> None:
        self.accelerator, self.model, self.bare_model = accelerator, model, bare_model
        self.head = TargetHead(bare_model) if targets_only else None

    def train(self) -> None:
        self.model.train()

    def prepare(self, batch: Batch) -> Batch:
        return to_device(batch, self.accelerator.device)

    def logits(self, batch: Batch) -> Tensor:
        few = self.head.only(target_rows(batch["labels"], batch.get("num_targets"))) if self.head else nullcontext()
        with self.accelerator.autocast(), few:
            return self.model(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                decoder_input_ids=shift_right(self.bare_model, batch["labels"]),
                use_cache=False,
            ).logits

    def backward(self, loss: Tensor) -> None:
        self.accelerator.backward(loss)

    def zero(self) -> None:
        for parameter in self.model.parameters():
            parameter.grad = None

    def weights_moved(self) -> None:
        """The model computes with the trained parameters themselves."""

    def no_sync(self) -> AbstractContextManager:
        return self.accelerator.no_sync(self.model)


class Graph:
    """A function as a CUDA graph. All graphs of a ``pool`` share memory: what one leaves there the next overwrites."""

    def __init__(self, function: Callable[[], Tensor | None], pool: Pool) -> None:
        self.graph = torch.cuda.CUDAGraph()
        # Other threads (page-locked memory for the next batches) may go on meanwhile.
        with torch.cuda.graph(self.graph, pool=pool, capture_error_mode="thread_local"):
            self.result = function()

    def replay(self) -> None:
        self.graph.replay()


class Recording:
    """Forward and backward below the head, for one shape of inputs."""

    def __init__(self, below: SplitPass, inputs: Sequence[Tensor], pool: Pool) -> None:
        self.inputs = [tensor.clone() for tensor in inputs]
        self._forward = Graph(lambda: below.states(*self.inputs), pool)
        states = self._forward.result
        assert states is not None
        self.states, self.gradient = states.detach(), torch.zeros_like(states)
        self._backward = Graph(lambda: below.write_below(states, self.gradient), pool)
        self._forward.result = None  # and with it the graph of autograd

    def forward(self, inputs: Sequence[Tensor]) -> Tensor:
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given)
        self._forward.replay()
        return self.states

    def backward(self, gradient: Tensor) -> None:
        self.gradient.copy_(gradient)
        self._backward.replay()


class SplitPass:
    """See the module. The same bytes with and without graphs: what is replayed is what would have run."""

    def __init__(
        self, accelerator: Accelerator, trained: PreTrainedModel, module: PreTrainedModel, say: Say, adds_up: bool
    ) -> None:
        """module: what computes, ``trained`` itself or its ``half_copy``. adds_up: over several micro-batches."""
        self.accelerator, self.module, self.say = accelerator, module, say
        self.halved = module is not trained
        self.head = TargetHead(module)
        self._pairs = list(zip(module.parameters(), trained.parameters(), strict=True))
        self._parameters = [mine for mine, theirs in self._pairs if theirs.requires_grad]
        self._trained = [theirs for _, theirs in self._pairs if theirs.requires_grad]
        of_head = {id(parameter) for parameter in self.head.head.parameters()}
        self._at_head = [place for place, mine in enumerate(self._parameters) if id(mine) in of_head]
        self.adds_up = adds_up
        # Place among the parameters -> gradient [fp32] of the last micro-batch, for those that have a part in the loss.
        # Where nothing adds up these are the trained parameters' own gradients.
        self._fresh: dict[int, Tensor] = {}
        self._sums: list[Tensor] = []  # the trained parameters' gradients, of the same places
        self._padded = False  # to few lengths
        self._pool: Pool | None = None
        self._seen: set[tuple] = set()
        self._recordings: dict[tuple, Recording] = {}
        self._states: Tensor | None = None
        self._leaf: Tensor | None = None
        self._current: Recording | None = None

    def record(self) -> None:
        """From now on replay each shape as a CUDA graph, from its second batch on."""
        self._padded = True
        self._pool = torch.cuda.graph_pool_handle()

    @property
    def graphs(self) -> int:
        """How many shapes are recorded."""
        return len(self._recordings)

    def train(self) -> None:
        self.module.train()

    def prepare(self, batch: Batch) -> Batch:
        if self._padded:
            batch = pad_to_buckets(batch, self.module.config.pad_token_id)
        return to_device(batch, self.accelerator.device)

    def _autocast(self) -> AbstractContextManager:
        return nullcontext() if self.halved else self.accelerator.autocast()

    def states(self, input_ids: Tensor, attention_mask: Tensor, decoder_input_ids: Tensor) -> Tensor:
        """The last states [B, T, d], as the head gets them."""
        with self._autocast(), self.head.catching():
            self.module(
                input_ids=input_ids,
                attention_mask=attention_mask,
                decoder_input_ids=decoder_input_ids,
                use_cache=False,
            )
        return self.head.caught()

    def logits(self, batch: Batch) -> Tensor:
        labels = batch["labels"]
        inputs = (batch["input_ids"], batch["attention_mask"], shift_right(self.module, labels))
        self._current = self._recording(inputs)
        states = self._current.forward(inputs) if self._current else self.states(*inputs)
        self._states, self._leaf = states, states.detach().requires_grad_()
        with self._autocast():
            return self.head.logits(self._leaf, target_rows(labels, batch.get("num_targets")))

    def backward(self, loss: Tensor) -> None:
        assert self._leaf is not None and self._states is not None
        if self.accelerator.scaler is not None:
            loss = self.accelerator.scaler.scale(loss)
        head = [self._parameters[place] for place in self._at_head]
        gradient, *at_head = torch.autograd.grad(loss, [self._leaf, *head], allow_unused=True)
        if gradient is None:  # a loss that does not depend on the model
            gradient = torch.zeros_like(self._leaf)
        if self._current:
            self._current.backward(gradient)
        else:
            self.write_below(self._states, gradient)
        for place, addend in zip(self._at_head, at_head, strict=True):
            if addend is not None:
                self._fresh[place] += addend
        if self.adds_up:
            torch._foreach_add_(self._sums, [*self._fresh.values()])
        self._states = self._leaf = None

    def write_below(self, states: Tensor, gradient: Tensor) -> None:
        """Overwrite ``_fresh`` with the gradients of all that made ``states``."""
        found = torch.autograd.grad(states, self._parameters, gradient, allow_unused=True)
        if not self._fresh:
            self._make_room([place for place, one in enumerate(found) if one is not None or place in self._at_head])
        targets, sources = [], []
        for place, fresh in self._fresh.items():
            if (source := found[place]) is None:
                fresh.zero_()
            else:
                targets.append(fresh)
                sources.append(source)
        torch._foreach_copy_(targets, sources)

    def _make_room(self, places: list[int]) -> None:
        for place in places:
            trained = self._trained[place]
            trained.grad = total = torch.zeros_like(trained)
            self._sums.append(total)
            self._fresh[place] = torch.zeros_like(trained) if self.adds_up else total

    def zero(self) -> None:
        # Not set to None: the graphs write to these very tensors, and where nothing adds up they overwrite them.
        if self.adds_up and self._sums:
            torch._foreach_zero_(self._sums)

    @torch.no_grad()
    def weights_moved(self) -> None:
        if self.halved:
            mine, theirs = zip(*self._pairs, strict=True)
            torch._foreach_copy_(mine, theirs)

    def no_sync(self) -> AbstractContextManager:
        return nullcontext()

    # -- graphs -------------------------------------------------------------------------------------------------------

    def _recording(self, inputs: Sequence[Tensor]) -> Recording | None:
        """The recording of this shape; None for its first batch, which warms up what a recording may not do."""
        if self._pool is None or not self._fresh:
            return None
        shape = tuple(tensor.shape for tensor in inputs)
        if shape in self._recordings or shape not in self._seen or len(self._recordings) == MAX_GRAPHS:
            self._seen.add(shape)
            return self._recordings.get(shape)
        try:
            self._recordings[shape] = Recording(self, inputs, self._pool)
        except RuntimeError as error:
            reason = str(error).partition("\n")[0]
            if isinstance(error, torch.cuda.OutOfMemoryError):
                reason = OUT_OF_MEMORY
            self.say(f"--cuda_graphs: the run goes on without ({reason}); the results are the same")
            self._stop_recording()
            self._current = None
            return None
        return self._recordings[shape]

    def _stop_recording(self) -> None:
        self._pool = None
        self._recordings.clear()
        # The generator still believes that it is being recorded; a copy of its state does not.
        generator = torch.cuda.default_generators[torch.cuda.current_device()]
        generator.graphsafe_set_state(generator.clone_state())
        torch.cuda.empty_cache()


def half_copy(model: PreTrainedModel) -> PreTrainedModel:
    """A bfloat16 copy of the model to compute with, while the fp32 weights are trained."""
    return copy.deepcopy(model).to(dtype=torch.bfloat16)  # type: ignore[call-arg]


def choose_pass(
    config: RunConfig,
    accelerator: Accelerator,
    bare_model: PreTrainedModel,
    prepare: Callable[[PreTrainedModel], PreTrainedModel],
    say: Say,
) -> tuple[PreTrainedModel, Pass]:
    """The prepared model, and how micro-batches go through it. ``say`` gets what the user may not expect."""
    hardware, on_cuda = config.hardware, accelerator.device.type == "cuda"
    alone = accelerator.num_processes == 1 and not hardware.fsdp
    halved = alone and accelerator.mixed_precision == "bf16"
    graphs = alone and on_cuda and hardware.cuda_graphs
    if graphs and config.model.gradient_checkpointing:
        say("--cuda_graphs: not with --gradient_checkpointing, whose second forward pass cannot be recorded")
        graphs = False
    if on_cuda and hardware.cuda_graphs and not alone:
        say("--cuda_graphs: one process only; the run goes on without")
    module = half_copy(bare_model) if halved else bare_model
    if (on_cuda or hardware.compile) and not hardware.fsdp:
        use_fast_parts(module, norms=on_cuda, attention="attention" not in config.given)
    if hardware.compile:
        compile_blocks(module, hardware.deterministic)
    model = prepare(bare_model)
    if not (halved or graphs):
        return model, WholePass(accelerator, model, bare_model, targets_only=not hardware.fsdp)
    split = SplitPass(accelerator, bare_model, module, say, adds_up=config.optimization.gradient_accumulation_steps > 1)
    if graphs:
        # Its dropout is another when it is recorded.
        torch.backends.cuda.enable_cudnn_sdp(False)
        split.record()
    return model, split
