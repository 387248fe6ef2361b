"""A model in torch as a Writer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import LogitsProcessorList, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_outputs import BaseModelOutput

from data.batches.collate import IGNORED, Batch
from data.java.scope import JavaScope
from data.rows.tokenization import TextFormat
from models.decoding.constraints.build import build_constraints
from models.decoding.generate import GenerationOptions, pad_rows, rank_texts
from models.decoding.search import decode
from models.seq2seq.inputs import shift_right

MAX_TEXTS = 64  # of one pass through the decoder
SAMPLED = 32  # tokens that a sample is drawn from, where decoding has rules


class TorchWriter:
    """A Writer (models/decoding/generate.py). A model in training is back in training after each call."""

    steers = True

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.text_format = TextFormat.of_model(model)
        self.vocab_size: int = model.config.vocab_size

    @property
    def device(self) -> torch.device:
        return self.model.device

    def to(self, device: str) -> None:
        self.model.to(device)  # type: ignore[arg-type]

    @contextmanager
    def _evaluating(self) -> Iterator[None]:
        was_training = self.model.training
        self.model.eval()
        try:
            with torch.inference_mode():
                yield
        finally:
            self.model.train(was_training)

    def write(
        self, rows: Sequence[Sequence[int]], options: GenerationOptions, scopes: Sequence[JavaScope | None] = ()
    ) -> list[list[str]]:
        beams = options.num_beams
        input_ids, attention_mask = self._pad(rows)
        with self._evaluating():
            output = decode(
                self.model,
                input_ids,
                attention_mask,
                max_new_tokens=options.max_output_len,
                num_beams=beams,
                num_return_sequences=beams,
                constraints=self._constrain(rows, options, beams, scopes),
            )
        return [rank_texts(texts, options) for texts in self._read(output, beams)]

    def sample(
        self, rows: Sequence[Sequence[int]], options: GenerationOptions, count: int, temperature: float
    ) -> list[list[str]]:
        """``count`` texts for each row of input ids, drawn by torch's random numbers.

        Unless decoding is free, each token is drawn from the ``SAMPLED`` likeliest that fit.
        """
        input_ids, attention_mask = self._pad(rows)
        with self._evaluating():
            output = self.model.generate(  # type: ignore[operator]  # the generation mixin adds it
                input_ids=input_ids,
                attention_mask=attention_mask,
                do_sample=True,
                temperature=temperature,
                top_k=0,
                num_beams=1,
                num_return_sequences=count,
                max_new_tokens=options.max_output_len,
                logits_processor=self._constrain(rows, options, count, wanted=SAMPLED),
            )
        return self._read(output, count)

    def _pad(self, rows: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """Input ids and attention mask of a batch: [B, S] int64 each, on the model's device."""
        input_ids = pad_rows(rows, self.tokenizer.pad_token_id)
        attention_mask = torch.zeros_like(input_ids)
        for place, row in enumerate(rows):
            attention_mask[place, : len(row)] = 1
        return input_ids.to(self.device), attention_mask.to(self.device)

    def _constrain(
        self,
        rows: Sequence[Sequence[int]],
        options: GenerationOptions,
        texts: int,
        scopes: Sequence[JavaScope | None] = (),
        wanted: int = 0,
    ) -> LogitsProcessorList:
        """The constraints of ``texts`` continuations of each row."""
        ends = self.model.generation_config.eos_token_id
        return build_constraints(
            options.decoding,
            self.tokenizer,
            rows,
            texts,
            vocab_size=self.vocab_size,
            end_ids=[ends] if isinstance(ends, int) else ends,
            longest=options.max_output_len,
            scopes=scopes,
            wanted=wanted,
        )

    def _read(self, output: Tensor, count: int) -> list[list[str]]:
        """The texts of each input, ``count`` of them."""
        texts = self.tokenizer.batch_decode(output, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return [texts[start : start + count] for start in range(0, len(texts), count)]

    def logits(self, batch: Batch) -> Tensor:
        labels = batch["labels"].to(self.device)
        input_ids, mask = (batch[name].to(self.device) for name in ("input_ids", "attention_mask"))
        decoder_input_ids = shift_right(self.model, labels)  # the model's own shift may differ (PLBART, mBART)
        with self._evaluating():
            given: dict[str, object] = {"input_ids": input_ids}
            if len(input_ids) > 1 and bool((input_ids == input_ids[:1]).all() and (mask == mask[:1]).all()):
                # Candidates for one input share its encoding.
                encoded = self.model.get_encoder()(input_ids=input_ids[:1], attention_mask=mask[:1])[0]
                shared = encoded.expand(len(labels), -1, -1)
                given = {"encoder_outputs": BaseModelOutput(last_hidden_state=shared)}
            return self.model(**given, attention_mask=mask, decoder_input_ids=decoder_input_ids).logits

    def log_likelihoods(self, row: Sequence[int], texts: Sequence[Sequence[int]]) -> list[list[float]]:
        found: list[list[float]] = []
        for start in range(0, len(texts), MAX_TEXTS):
            some = texts[start : start + MAX_TEXTS]
            labels = pad_rows(some, IGNORED)
            input_ids = torch.tensor([list(row)]).expand(len(labels), -1)
            logits = self.logits(
                {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids), "labels": labels}
            )
            costs = cross_entropy(
                logits.float().transpose(1, 2), labels.to(logits.device), ignore_index=IGNORED, reduction="none"
            )
            found += [(-of_text[: len(ids)]).tolist() for of_text, ids in zip(costs, some, strict=True)]
        return found
