"""--deterministic is strict where torch can be, and says so where it cannot."""

from __future__ import annotations

import pytest
import torch

from utils.seeding import seed_everything


@pytest.fixture(autouse=True)
def as_before():
    filled = torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)
    torch.utils.deterministic.fill_uninitialized_memory = filled


def test_an_operation_without_a_deterministic_kernel_raises():
    assert seed_everything(1, deterministic=True, device="cuda") == []
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.is_deterministic_algorithms_warn_only_enabled()
    assert not torch.utils.deterministic.fill_uninitialized_memory
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        torch.zeros(3).put_(torch.tensor([0, 0]), torch.ones(2), accumulate=False)


def test_without_it_nothing_raises():
    seed_everything(1, deterministic=True)
    seed_everything(1, deterministic=False)
    assert not torch.are_deterministic_algorithms_enabled()


def test_an_apple_gpu_is_told_and_computes_as_it_can():
    (note,) = seed_everything(1, deterministic=True, device="mps")
    assert "mps" in note and "may differ" in note
    assert not torch.are_deterministic_algorithms_enabled()
