"""What a wish for half precision becomes on a CPU; in processes of their own, since accelerate keeps its state."""

import os
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


def test_settings_of_accelerate_in_the_environment_decide_nothing():
    """Such variables are left behind by accelerate launch and by shell profiles; one divides every gradient."""
    program = """
import torch
from utils.device import build_accelerator
accelerator, notes = build_accelerator("cpu", fp16=False, bf16=False)
weight = torch.ones(1, requires_grad=True)
accelerator.backward(3 * weight.sum())
print(weight.grad.item(), accelerator.mixed_precision, accelerator.gradient_accumulation_steps, len(notes), notes[0])
"""
    left = {"ACCELERATE_GRADIENT_ACCUMULATION_STEPS": "4", "ACCELERATE_MIXED_PRECISION": "bf16"}
    environment = {**os.environ, **left, "ACCELERATE_DYNAMO_BACKEND": "EAGER", "ACCELERATE_USE_FSDP": "true"}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout.startswith("3.0 no 1 4 ACCELERATE_DYNAMO_BACKEND=EAGER in the environment is set aside")


def test_settings_of_the_environment_are_set_aside_before_a_library_reads_them(tmp_path):
    """oneDNN, for one, would multiply in bf16 from its first product on."""
    program = """
import os, sys
from utils.errors import run_main
def main():
    import torch
    torch.manual_seed(0)
    a = torch.randn(64, 64)
    print((a @ a - (a.double() @ a.double())).abs().max().item() < 1e-4, sorted(os.environ.keys() & {NAMES}))
run_main(main)
"""
    left = dict.fromkeys(("ONEDNN_DEFAULT_FPMATH_MODE", "DNNL_DEFAULT_FPMATH_MODE"), "BF16")
    left |= {"NVIDIA_TF32_OVERRIDE": "1", "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE": "1", "FSDP_OFFLOAD_PARAMS": "true"}
    done = subprocess.run(
        [sys.executable, "-c", program.replace("{NAMES}", str(set(left)))],
        cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, **left},
    )  # fmt: skip
    assert done.stdout == "True []\n"
    told = done.stderr.splitlines()
    assert [line.split("=")[0] for line in told] == [f"warning: {name}" for name in sorted(left)]
    other = subprocess.run(
        [sys.executable, "-c", "from utils.errors import run_main; run_main(lambda: 0)"],
        cwd=ROOT, capture_output=True, text=True, check=True, env={**os.environ, **left, "RANK": "1"},
    )  # fmt: skip
    assert other.stderr == ""  # one of several processes tells
