"""Decoding of a batch that spends nothing on finished rows and does not copy what beams share."""

from __future__ import annotations

from inspect import signature

import torch
from torch import LongTensor, Tensor
from transformers import DynamicCache, EncoderDecoderCache, LogitsProcessorList, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from models.decoding.constraints.names import NameConstraint
from models.decoding.constraints.readable import ReadableConstraint

# Settings of a model's generation config that do not change greedy decoding.
HARMLESS = {
    "bos_token_id",
    "cache_implementation",
    "decoder_start_token_id",
    "do_sample",
    "eos_token_id",
    "max_length",
    "max_new_tokens",
    "num_beams",
    "num_return_sequences",
    "output_attentions",
    "output_hidden_states",
    "pad_token_id",
    "return_dict_in_generate",
    "temperature",
    "top_k",
    "top_p",
    "transformers_version",
    "use_cache",
    "early_stopping",
    "length_penalty",
    "_from_model_config",
}
# Finished rows leave the batch once at most this share still writes, because each time costs a copy of the cache.
ROOM = 0.75


class SharedEncoding(EncoderDecoderCache):
    """Keeps the encoder's part as it is when beams are reordered: all beams of one input share it."""

    def reorder_cache(self, beam_idx: LongTensor) -> None:
        self.self_attention_cache.reorder_cache(beam_idx)


def decode(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    max_new_tokens: int,
    num_beams: int,
    num_return_sequences: int,
    constraints: LogitsProcessorList | None = None,
) -> Tensor:
    """Write texts: [B * num_return_sequences, at most max_new_tokens + 1] int64, start token first, padded.

    The same result as the model's own ``generate``, without sampling.
    """
    if num_beams == 1 and not set(model.generation_config.to_diff_dict()) - HARMLESS:
        return greedy(model, input_ids, attention_mask, max_new_tokens, constraints or LogitsProcessorList())
    return model.generate(  # type: ignore[operator]  # the generation mixin adds it
        input_ids=input_ids,
        attention_mask=attention_mask,
        max_new_tokens=max_new_tokens,
        num_beams=num_beams,
        num_return_sequences=num_return_sequences,
        do_sample=False,
        logits_processor=constraints or LogitsProcessorList(),
        **{_name_of_cache(model): SharedEncoding(DynamicCache(), DynamicCache()) if num_beams > 1 else None},
    )


def _name_of_cache(model: PreTrainedModel) -> str:
    """The argument that takes it: transformers renames it in 5.24 and will no longer know the old name in 5.40."""
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


@torch.inference_mode()
def greedy(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor,
    max_new_tokens: int,
    constraints: LogitsProcessorList,
) -> Tensor:
    """Write the most likely token at each step: [B, steps + 1] int64. Finished rows leave the batch."""
    settings, device = model.generation_config, input_ids.device
    ends = torch.tensor(settings.eos_token_id, device=device).reshape(-1)
    written = torch.full((len(input_ids), max_new_tokens + 1), settings.pad_token_id, device=device)
    written[:, 0] = settings.decoder_start_token_id
    rows, tokens = torch.arange(len(input_ids), device=device), written[:, :1]
    encoded = model.get_encoder()(input_ids=input_ids, attention_mask=attention_mask)[0]
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    keep = {_name_of_cache(model): cache}
    for step in range(1, max_new_tokens + 1):
        logits = model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=attention_mask,
            decoder_input_ids=tokens,
            use_cache=True,
            **keep,
        ).logits
        scores = constraints(written[rows, :step], logits[:, -1])  # type: ignore[arg-type]
        tokens = scores.argmax(-1, keepdim=True)
        written[rows, step] = tokens[:, 0]
        going = ~torch.isin(written[rows, 1 : step + 1], ends).any(1)
        left = int(going.sum())
        if not left:
            break
        if left <= ROOM * len(rows):
            kept = going.nonzero()[:, 0]
            rows = rows[kept]
            tokens = tokens[kept]
            encoded = encoded[kept]
            attention_mask = attention_mask[kept]
            cache.batch_select_indices(kept)
            for one in constraints:
                if isinstance(one, NameConstraint | ReadableConstraint):  # they know their rows
                    one.keep(kept)
    # The start token does not end a row, even if it is the end token too (BART).
    ended = torch.isin(written, ends)
    ended[:, 0] = False
    after_end = ended.cumsum(1).roll(1, 1) > 0
    after_end[:, 0] = False
    return written[:, : step + 1].masked_fill(after_end[:, : step + 1], settings.pad_token_id)
