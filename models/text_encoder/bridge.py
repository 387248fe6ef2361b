"""From the student's vocabulary into a text encoder's input space, so that the encoder can read soft predictions.

``bridge`` gives a frozen matrix [V, d]: row v stands for student token v among the encoder's input embeddings. It
starts as the mean of the pieces into which the encoder's tokenizer cuts the token, and is then fitted so that a text
bridged token by token embeds as the encoder embeds the text. Its fidelity is the mean cosine of the two on texts left
out.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from data.rows.tokenization import tokenizer_fingerprint
from models.text_encoder.encoders import EmbeddingCache, Encoder, resolve_encoder
from utils.atomic_io import atomic_writer
from utils.cache import cache_dir
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

VERSION = 1
MAX_TEXTS = 4096
HELD_OUT = 128
# Held-out fidelity at which fitting stops early, and the steps between two looks at it.
ENOUGH = 0.95
CHECK_STEPS = 25
LEARNING_RATE = 1e-2
WARMUP = 10


@dataclass(frozen=True)
class Bridge:
    """tokens [V, d] float32; fidelity: mean cosine on held-out texts, before (``initial``) and after fitting."""

    tokens: Tensor
    fidelity: float
    initial: float
    steps: int
    cached: bool = False


def initial_tokens(encoder: Encoder, tokenizer: PreTrainedTokenizerBase, vocab_size: int) -> Tensor:
    """[V, d]: each token's text cut by the encoder's tokenizer, its pieces averaged; 0 where there is no text."""
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
    """Texts as the student's token ids, and the embeddings they should have, made when first asked for."""

    def __init__(self, encoder: Encoder, texts: Sequence[str], ids: Sequence[list[int]]) -> None:
        self.encoder = encoder
        self.texts = texts
        self.ids = ids
        self._targets: dict[int, np.ndarray] = {}

    def batch(self, chosen: Sequence[int]) -> tuple[Tensor, Tensor, Tensor]:
        """ids [B, L], mask [B, L], targets [B, d]."""
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
        """For ever: shuffled batches of texts of similar length."""
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
    order = sorted(range(len(texts.ids)), key=lambda i: len(texts.ids[i]))
    total = 0.0
    for start in range(0, len(order), 64):
        ids, mask, targets = texts.batch(order[start : start + 64])
        total += (texts.encoder.embed_soft(tokens[ids], mask).float() * targets).sum().item()
    return total / len(order)


def fit_bridge(
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    vocab_size: int,
    steps: int = 300,
    batch_size: int = 32,
    seed: int = 0,
    progress: bool = True,
) -> Bridge:
    """Fit the rows of the tokens that occur in ``texts`` by Adam on ``1 - cos``; others keep their start.

    ``texts``: distinct, not empty; up to a tenth of them is held out. Stops early at a held-out fidelity of ``ENOUGH``.
    """
    rng = np.random.default_rng(seed)
    kept = [text for text in texts if tokenizer(text, add_special_tokens=False)["input_ids"]]
    if len(kept) < 2:
        raise UserError(
            f"the vocabulary bridge needs 2 distinct assertions or more, the training data have {len(kept)}"
        )
    kept = [kept[i] for i in rng.permutation(len(kept))]
    ids = [tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] for text in kept]
    held = min(HELD_OUT, max(1, len(kept) // 10))
    held_out = _Texts(encoder, kept[:held], ids[:held])
    training = _Texts(encoder, kept[held:], ids[held:])
    tokens = initial_tokens(encoder, tokenizer, vocab_size).to(encoder.device)
    initial = fidelity = _fidelity(tokens, held_out)
    used = torch.tensor(sorted({token for row in training.ids for token in row}), device=encoder.device)
    place = torch.zeros(vocab_size, dtype=torch.long, device=encoder.device)
    place[used] = torch.arange(len(used), device=encoder.device)
    fitted = tokens[used].requires_grad_()
    optimizer = torch.optim.Adam([fitted], lr=LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / WARMUP) * (1.0 - step / max(1, steps))
    )
    batches = training.batches(batch_size, rng)
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
    return Bridge(tokens.cpu(), fidelity, initial, done)


def _cache_file(encoder: Encoder, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], key: Sequence[Any]) -> Path:
    digest = hashlib.sha256(repr((VERSION, tokenizer_fingerprint(tokenizer), encoder.fingerprint, *key)).encode())
    for text in texts:
        digest.update(text.encode() + b"\0")
    return cache_dir("bridges") / f"{digest.hexdigest()[:24]}.safetensors"


def bridge(
    encoder: Encoder,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    vocab_size: int,
    steps: int = 300,
    batch_size: int = 32,
    min_fidelity: float = 0.85,
    seed: int = 0,
    progress: bool = True,
    flag: str = "--embedding_model",
) -> Bridge:
    """The bridge of this tokenizer, encoder and these texts: from the cache, or fitted and cached.

    ``texts`` are the training targets; the first ``MAX_TEXTS`` distinct ones count. They are part of the key, so that a
    run does not depend on what was fitted before it. Raises UserError where the fidelity is below ``min_fidelity``.
    """
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save

    texts = list(dict.fromkeys(text for text in texts if text.strip()))[:MAX_TEXTS]
    file = _cache_file(encoder, tokenizer, texts, (vocab_size, steps, batch_size, seed))
    result = None
    if file.is_file():
        try:
            with safe_open(file, framework="pt") as stored:
                values = stored.metadata()
                result = Bridge(
                    stored.get_tensor("tokens"),
                    float(values["fidelity"]),
                    float(values["initial"]),
                    int(values["steps"]),
                    cached=True,
                )
        except (SafetensorError, KeyError) as error:
            warnings.warn(f"{file} is damaged ({error}); fitting the bridge again", stacklevel=2)
    if result is None:
        result = fit_bridge(
            encoder,
            tokenizer,
            texts,
            vocab_size=vocab_size,
            steps=steps,
            batch_size=batch_size,
            seed=seed,
            progress=progress,
        )
        metadata = {name: repr(getattr(result, name)) for name in ("fidelity", "initial", "steps")}
        with atomic_writer(file, "wb") as handle:
            handle.write(save({"tokens": result.tokens}, metadata))
    if result.fidelity < min_fidelity:
        raise UserError(
            f"{flag} {encoder.name}: the vocabulary bridge reaches a fidelity of {result.fidelity:.3f} on held-out "
            f"assertions, below --bridge_min_fidelity {min_fidelity:g}; raise --bridge_fit_steps (now {steps}), give "
            "more training rows, or choose another encoder"
        )
    return result


@dataclass(frozen=True)
class SoftTextEncoder:
    """An encoder that reads both texts and soft predictions of the student's vocabulary.

    tokens [V, d_e]: the bridge, on the encoder's device and in its type.
    """

    encoder: Encoder
    tokens: Tensor
    cache: EmbeddingCache
    fidelity: float

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """[n, d], length 1, constant."""
        return self.cache(texts)

    def embed_soft(self, soft_tokens: Tensor, mask: Tensor) -> Tensor:
        """[B, L, d_e] mixtures of the rows of ``tokens``, [B, L] -> [B, d], length 1; differentiable."""
        return self.encoder.embed_soft(soft_tokens, mask)


def soft_text_encoder(
    name: str,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    device: torch.device | str,
    flag: str,
    cache_size: int,
    cache_ttl: float,
    log: Callable[[str], None],
    **options: Any,
) -> SoftTextEncoder:
    """Load encoder ``name`` and bridge the tokenizer's vocabulary into it; ``options`` as of ``bridge``."""
    encoder = resolve_encoder(name, device, flag)
    found = bridge(encoder, tokenizer, texts, flag=flag, **options)
    origin = "from the cache" if found.cached else f"fitted in {found.steps} steps"
    log(
        f"{flag} {name}: vocabulary bridge {origin}, fidelity {found.fidelity:.3f} on held-out assertions "
        f"({found.initial:.3f} before fitting)"
    )
    tokens = found.tokens.to(device=encoder.device, dtype=encoder.dtype)
    return SoftTextEncoder(encoder, tokens, EmbeddingCache(encoder, cache_size, cache_ttl), found.fidelity)


class GoldQueue:
    """The embeddings of the ``size`` latest distinct references: negatives of the contrastive loss.

    What a step pushes enters when it ends, from all ranks and in one order, so every micro-batch on every rank sees the
    same queue.
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
        """[len, d] on the encoder's device."""
        rows = torch.from_numpy(np.stack(list(self._rows.values())))
        return rows.to(device=self.cache.encoder.device, dtype=self.cache.encoder.dtype, non_blocking=True)

    def push(self, texts: Sequence[str]) -> None:
        """Remember the references of a micro-batch."""
        self._pending += texts

    def end_step(self) -> None:
        """Let in what was pushed since the last call, on all ranks together."""
        texts = list(dict.fromkeys(self._pending))
        self._pending = []
        found = dict(zip(texts, self.cache.rows(texts), strict=True))
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            gathered: list[Any] = [None] * torch.distributed.get_world_size()
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

    def state_dict(self) -> dict[str, Any]:
        """The texts; their embeddings can be made again."""
        return {"texts": self.texts}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what ``state_dict`` gave."""
        self._rows = {}
        self._pending = []
        self._admit(dict(zip(state["texts"], self.cache.rows(state["texts"]), strict=True)))
