"""The vocabulary bridge: it maps the student's tokens into a text encoder's input space.

With it the encoder can read soft predictions. The bridge is a frozen matrix [V, d]: row v stands for student token v
among the encoder's input embeddings. Each row starts as the mean of the pieces into which the encoder's tokenizer
splits the token. The rows are then fitted so that a text that is bridged token by token embeds as the encoder embeds
the text itself. The fidelity of a bridge is the mean cosine of the two embeddings on held-out texts.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from torch import Tensor

from config.defaults import SemanticConfig
from data.dataset import AssertionDataset
from data.rows.readers import RowError
from data.rows.tokenization import tokenizer_fingerprint
from models.text_encoder.encoders import EmbeddingCache, Encoder
from utils.atomic_io import atomic_writer
from utils.cache import cache_dir
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 1
SEED = 0
TARGET_ROWS = 8192
MAX_TEXTS = 4096
HELD_OUT = 128
# The held-out fidelity at which fitting stops early, and the steps between two measurements of it.
ENOUGH = 0.95
CHECK_STEPS = 25
LEARNING_RATE = 1e-2
WARMUP = 10


@dataclass(frozen=True)
class Bridge:
    """tokens [V, d] float32; initial, fidelity: mean cosine on held-out texts before and after fitting."""

    tokens: Tensor
    fidelity: float
    initial: float
    steps: int
    cached: bool = False


def target_texts(dataset: AssertionDataset) -> Iterator[str]:
    """The targets of evenly spaced training rows, on which the bridge is fitted; bad rows are skipped."""
    for row in np.unique(np.linspace(0, len(dataset) - 1, min(TARGET_ROWS, len(dataset))).astype(int)):
        try:
            yield dataset.sample(int(row)).target
        except RowError:
            continue


def collect_texts(texts: Iterable[str]) -> list[str]:
    """The first ``MAX_TEXTS`` distinct texts that are not blank; reads no further than it must."""
    found: dict[str, None] = {}
    for text in texts:
        if text.strip():
            found[text] = None
            if len(found) == MAX_TEXTS:
                break
    return list(found)


def initial_tokens(encoder: Encoder, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> Tensor:
    """[V, d]: the mean of the encoder's pieces of each token's text; 0 if the token has no text."""
    texts = tokenizer.batch_decode([[index] for index in range(min(len(tokenizer), vocab_size))])
    pieces = encoder.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    words = encoder.word_embeddings.float().cpu()
    tokens = torch.zeros(vocab_size, words.shape[1])
    special = set(tokenizer.all_special_ids)
    for index, ids in enumerate(pieces):
        if ids and index not in special:
            tokens[index] = words[ids].mean(0)
    return tokens


class _Texts:
    """Texts as the student's token ids, and the embeddings they should have, computed on first use."""

    def __init__(self, encoder: Encoder, texts: Sequence[str], ids: Sequence[list[int]]) -> None:
        self.encoder = encoder
        self.texts = texts
        self.ids = ids
        self._targets: dict[int, np.ndarray] = {}

    def batch(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """Return ids [B, L], mask [B, L] and targets [B, d] of the chosen texts."""
        length = max(len(self.ids[i]) for i in chosen)
        ids = torch.zeros(len(chosen), length, dtype=torch.long)
        mask = torch.zeros(len(chosen), length, dtype=torch.bool)
        for row, index in enumerate(chosen):
            ids[row, : len(self.ids[index])] = torch.tensor(self.ids[index])
            mask[row, : len(self.ids[index])] = True
        new = [i for i in chosen if i not in self._targets]
        self._targets.update(zip(new, self.encoder.encode([self.texts[i] for i in new]), strict=True))
        targets = torch.from_numpy(np.stack([self._targets[i] for i in chosen]))
        device = self.encoder.device
        return ids.to(device), mask.to(device), targets.to(device)

    def batches(self, size: int, rng: np.random.Generator) -> Iterator[list[int]]:
        """Yield shuffled batches of texts of similar length, without end."""
        while True:
            order = rng.permutation(len(self.ids))
            found = []
            for start in range(0, len(order), size * 16):
                window = sorted(order[start : start + size * 16].tolist(), key=lambda i: len(self.ids[i]))
                found += [window[i : i + size] for i in range(0, len(window), size)]
            for index in rng.permutation(len(found)):
                yield found[index]


@torch.no_grad()
def _fidelity(tokens: Tensor, texts: _Texts) -> float:
    """The mean cosine between bridged and encoded text."""
    order = sorted(range(len(texts.ids)), key=lambda i: len(texts.ids[i]))
    total = 0.0
    for start in range(0, len(order), 64):
        ids, mask, targets = texts.batch(order[start : start + 64])
        total += (texts.encoder.embed_soft(tokens[ids], mask).float() * targets).sum().item()
    return total / len(order)


def _split_texts(
    encoder: Encoder, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], rng: np.random.Generator
) -> tuple[_Texts, _Texts]:
    """Shuffle the texts and hold out up to a tenth of them: the texts to train on, and those held out."""
    kept = [text for text in texts if tokenizer(text, add_special_tokens=False)["input_ids"]]
    if len(kept) < 2:
        raise UserError(
            f"the vocabulary bridge needs at least 2 distinct assertions, but the training data have {len(kept)}"
        )
    kept = [kept[i] for i in rng.permutation(len(kept))]
    ids = [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in kept]
    held = min(HELD_OUT, max(1, len(kept) // 10))
    return _Texts(encoder, kept[held:], ids[held:]), _Texts(encoder, kept[:held], ids[:held])


def fit_bridge(
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerBase,
    vocab_size: int,
    texts: Sequence[str],
    config: SemanticConfig,
    *,
    progress: bool = True,
    log: Callable[[str], None] = lambda text: None,
) -> Bridge:
    """Fit the rows of the tokens that occur in ``texts`` by Adam on ``1 - cos``; the other rows keep their start.

    ``texts``: distinct and not blank. Fitting stops early at a held-out fidelity of ``ENOUGH``. Raises UserError if
    there are fewer than 2 texts.
    """
    log(
        f"fitting the vocabulary bridge to {encoder.name}: up to {config.bridge_fit_steps} steps, a minute or two on a"
        " CPU; it is kept, so later runs on these data start at once"
    )
    rng = np.random.default_rng(SEED)
    training, held_out = _split_texts(encoder, tokenizer, texts, rng)
    tokens = initial_tokens(encoder, tokenizer, vocab_size).to(encoder.device)
    initial = fidelity = _fidelity(tokens, held_out)
    used = torch.tensor(sorted({token for row in training.ids for token in row}), device=encoder.device)
    place = torch.zeros(vocab_size, dtype=torch.long, device=encoder.device)
    place[used] = torch.arange(len(used), device=encoder.device)
    fitted = tokens[used].requires_grad_()
    steps = config.bridge_fit_steps
    optimizer = torch.optim.Adam([fitted], lr=LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARMUP) * (1.0 - step / max(1, steps))
    )
    batches = training.batches(config.bridge_batch_size, rng)
    done = 0
    from tqdm import tqdm

    with torch.enable_grad(), tqdm(total=steps, desc="fitting the vocabulary bridge", disable=not progress) as bar:
        while done < steps and fidelity < ENOUGH:
            token_ids, mask, wanted = training.batch(next(batches))
            found = encoder.embed_soft(torch.nn.functional.embedding(place[token_ids], fitted), mask)
            loss = (1.0 - (found * wanted.to(found.dtype)).sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            done += 1
            bar.update()
            if done % CHECK_STEPS == 0 or done == steps:
                tokens[used] = fitted.detach()
                fidelity = _fidelity(tokens, held_out)
                bar.set_postfix(fidelity=f"{fidelity:.3f}")
                if not progress and done % (4 * CHECK_STEPS) == 0:
                    log(f"vocabulary bridge: step {done} of {steps}, fidelity {fidelity:.3f}")
    return Bridge(tokens.cpu(), fidelity, initial, done)


def _cache_file(encoder: Encoder, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], key: Sequence[int]) -> Path:
    digest = hashlib.sha256(repr((VERSION, tokenizer_fingerprint(tokenizer), encoder.fingerprint, *key)).encode())
    for text in texts:
        digest.update(text.encode() + b"\0")
    return cache_dir("bridges") / f"{digest.hexdigest()[:24]}.safetensors"


def _read_cached(file: Path) -> Bridge | None:
    """The bridge in a cache file; None if the file does not exist or is damaged, with a warning in the latter case."""
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        return None
    try:
        with safe_open(file, framework="pt") as stored:
            values = stored.metadata()
            return Bridge(
                stored.get_tensor("tokens"),
                float(values["fidelity"]),
                float(values["initial"]),
                int(values["steps"]),
                cached=True,
            )
    except (SafetensorError, KeyError) as error:
        warnings.warn(f"{file} is damaged ({error}); fitting the bridge again", stacklevel=3)
        return None


def load_bridge(
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerBase,
    vocab_size: int,
    texts: Iterable[str],
    config: SemanticConfig,
    *,
    flag: str,
    progress: bool = True,
    log: Callable[[str], None] = lambda text: None,
) -> Bridge:
    """Load the bridge for this tokenizer, encoder and these texts from the cache, or fit it and store it there.

    The ``texts`` (see ``collect_texts``) are part of the cache key, so that a run does not depend on what was fitted
    before it. ``flag`` is the flag that named the encoder, for messages. Raises UserError if the fidelity is below
    ``--bridge_min_fidelity``.
    """
    from safetensors.torch import save

    texts = collect_texts(texts)
    key = (vocab_size, config.bridge_fit_steps, config.bridge_batch_size, SEED)
    file = _cache_file(encoder, tokenizer, texts, key)
    result = _read_cached(file)
    if result is None:
        result = fit_bridge(encoder, tokenizer, vocab_size, texts, config, progress=progress, log=log)
        metadata = {name: repr(getattr(result, name)) for name in ("fidelity", "initial", "steps")}
        with atomic_writer(file, "wb") as handle:
            handle.write(save({"tokens": result.tokens}, metadata))
    if result.fidelity < config.bridge_min_fidelity:
        raise UserError(
            f"{flag} {encoder.name}: the vocabulary bridge reaches a fidelity of {result.fidelity:.3f} on held-out "
            f"assertions, below --bridge_min_fidelity {config.bridge_min_fidelity:g}; raise --bridge_fit_steps (now "
            f"{config.bridge_fit_steps}), give more training rows, or choose another encoder"
        )
    return result


@dataclass(frozen=True)
class SoftTextEncoder:
    """An encoder that reads both texts and soft predictions over the student's vocabulary.

    tokens [V, d_e]: the bridge, with the device and type of the encoder.
    """

    encoder: Encoder
    tokens: Tensor
    cache: EmbeddingCache
    fidelity: float

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: [n, d], rows of length 1, without a gradient."""
        return self.cache(texts)

    def embed_soft(self, soft_tokens: Tensor, mask: Tensor) -> Tensor:
        """Embed soft_tokens [B, L, d_e], mixtures of rows of ``tokens``: [B, d], rows of length 1; differentiable."""
        return self.encoder.embed_soft(soft_tokens, mask)


def load_soft_encoder(
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerBase,
    vocab_size: int,
    texts: Iterable[str],
    config: SemanticConfig,
    *,
    flag: str,
    progress: bool,
    log: Callable[[str], None],
) -> SoftTextEncoder:
    """Bridge the tokenizer's vocabulary into the encoder; the parameters are those of ``load_bridge``."""
    found = load_bridge(encoder, tokenizer, vocab_size, texts, config, flag=flag, progress=progress, log=log)
    origin = "from the cache" if found.cached else f"fitted in {found.steps} steps"
    log(
        f"{flag} {encoder.name}: vocabulary bridge {origin}, fidelity {found.fidelity:.3f} on held-out assertions "
        f"({found.initial:.3f} before fitting)"
    )
    tokens = found.tokens.to(device=encoder.device, dtype=encoder.dtype)
    return SoftTextEncoder(encoder, tokens, EmbeddingCache(encoder, config), found.fidelity)


class QueueState(TypedDict):
    """What a resumed run needs of a ``GoldQueue``."""

    texts: list[str]


class GoldQueue:
    """The embeddings of the ``size`` latest distinct references: negatives of the contrastive loss.

    References enter at the end of their step, from all ranks and in the same order, so that every micro-batch on every
    rank sees the same queue.
    """

    def __init__(self, size: int, cache: EmbeddingCache) -> None:
        self.size = size
        self.cache = cache
        self._rows: dict[str, np.ndarray] = {}
        self._pending: list[str] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def texts(self) -> list[str]:
        return list(self._rows)

    @cached_property
    def embeddings(self) -> Tensor:
        """The embeddings [len, d] on the encoder's device."""
        rows = torch.from_numpy(np.stack(list(self._rows.values())))
        return rows.to(device=self.cache.encoder.device, dtype=self.cache.encoder.dtype, non_blocking=True)

    def push(self, texts: Sequence[str]) -> None:
        """Remember the references of a micro-batch until the step ends."""
        self._pending += texts

    def end_step(self) -> None:
        """Add the references pushed since the last call, on all ranks together."""
        texts = list(dict.fromkeys(self._pending))
        self._pending = []
        found = dict(zip(texts, self.cache.rows(texts), strict=True))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered: list[dict[str, np.ndarray]] = [{}] * torch.distributed.get_world_size()
            torch.distributed.all_gather_object(gathered, found)
            found = {text: row for part in gathered for text, row in part.items()}
        self._admit({text: found[text] for text in sorted(found)})

    def _admit(self, rows: dict[str, np.ndarray]) -> None:
        for text, row in rows.items():
            self._rows.pop(text, None)
            self._rows[text] = row
        for text in list(self._rows)[: max(0, len(self._rows) - self.size)]:
            del self._rows[text]
        self.__dict__.pop("embeddings", None)

    def state_dict(self) -> QueueState:
        """Return the texts; their embeddings can be computed again."""
        return {"texts": self.texts}

    def load_state_dict(self, state: QueueState) -> None:
        """Restore what ``state_dict`` returned."""
        self._rows = {}
        self._pending = []
        self._admit(dict(zip(state["texts"], self.cache.rows(state["texts"]), strict=True)))
