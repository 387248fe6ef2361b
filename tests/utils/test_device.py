"""What a wish for half precision becomes on a CPU; in processes of their own, since accelerate keeps its state."""

import subprocess
import sys

import pytest

from tests.helpers.commands import ROOT

PROGRAM = """
import torch
from utils.device import build_accelerator
accelerator, notes = build_accelerator("cpu", fp16={fp16}, bf16={bf16})
with accelerator.autocast():
    print((torch.ones(2, 2) @ torch.ones(2, 2)).dtype, accelerator.scaler, *notes)
"""


@pytest.mark.parametrize(
    ("wish", "said"), [("bf16", "torch.bfloat16 None"), ("fp16", "torch.float32 None --fp16 does not work on cpu")]
)
def test_half_precision_on_a_cpu(wish, said):
    program = PROGRAM.format(fp16=wish == "fp16", bf16=wish == "bf16")
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(said)
