"""Loops, against a search of all blocks, and a model that does nothing else."""

import pytest
import torch
from transformers import LogitsProcessorList, T5Config, T5ForConditionalGeneration

from models.decoding.constraints.loops import NoLoops
from models.decoding.search import decode

TIMES = {1: 8, 2: 7, 3: 6, 4: 5, 5: 4, 6: 4}  # how often a block of so many tokens must not stand in a row


def loops(ids: list[int], longest: int) -> bool:
    """Whether the ids end in a block that stands there too often in a row."""
    blocks = (ids[-length:] * times for length, times in TIMES.items() if length <= longest)
    return any(len(ids) >= len(block) and ids[-len(block) :] == block for block in blocks)


def test_only_what_completes_a_loop_is_forbidden():
    generator = torch.Generator().manual_seed(0)
    seen = 0
    for number in range(300):
        length = int(torch.randint(1, 7, (1,), generator=generator))
        block = torch.randint(0, 3, (length,), generator=generator).repeat(9)
        start = torch.randint(0, 3, (2,), generator=generator)
        ids = torch.cat([start, block])[: int(torch.randint(3 * length, 9 * length, (1,), generator=generator))]
        longest = 3 + number % 4
        found = NoLoops(longest)(ids[None], torch.zeros(1, 3))[0]
        expected = [loops([*ids.tolist(), token], longest) for token in range(3)]
        assert (found == -torch.inf).tolist() == expected, ids
        seen += any(expected)
    assert 50 < seen < 250


def test_a_loop_in_one_row_does_not_change_another_row():
    ids, scores = torch.tensor([[1, *[2] * 7], [1, *[2] * 6, 3]]), torch.zeros(2, 4)
    assert (NoLoops(4)(ids, scores) == -torch.inf).tolist() == [[False, False, True, False], [False] * 4]
    assert not scores.any()


@pytest.mark.parametrize("beams", [1, 4])
def test_a_model_that_loops_is_stopped_from_looping(beams):
    config = T5Config(vocab_size=12, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2, decoder_start_token_id=0)
    torch.manual_seed(3)
    model = T5ForConditionalGeneration(config).eval()
    inputs = torch.randint(2, 12, (4, 6))
    options = {"max_new_tokens": 40, "num_beams": beams, "num_return_sequences": 1}

    def ends_in_a_loop(*constraints):
        found = decode(model, inputs, torch.ones_like(inputs), constraints=LogitsProcessorList(constraints), **options)
        return [loops([one for one in ids if one], 6) for ids in found.tolist()]

    assert any(ends_in_a_loop()) and not any(ends_in_a_loop(NoLoops()))
