#!/bin/bash
# Is CUDA usable on a node of this partition? Ends with 0 and a report, or with one sentence that says what is missing.
# DEVICE=cpu checks the same arithmetic without a GPU.
#SBATCH --job-name=test-cuda
#SBATCH --partition=gpu-a100
#SBATCH --time=00:30:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem-per-cpu=2G
#SBATCH --output=logs/slurm-%j.out
set -euo pipefail
cd "${PROJECT_DIR:-${SLURM_SUBMIT_DIR:-.}}"
source slurm_scripts/common.sh || {
    echo "error: submit from the repository root, or set PROJECT_DIR to it" >&2
    exit 2
}

DEVICE=${DEVICE:-cuda}
require_gpus 1
prepare_environment
[[ $DEVICE == cpu ]] || nvidia-smi

DEVICE=$DEVICE python - <<'PY'
import os
import sys
import time

import torch


def check(name: str, device: torch.device) -> None:
    """Multiply matrices in fp32 and bf16 there, forward and backward, against float64 on the CPU."""
    torch.manual_seed(0)
    size = 512
    a, b = torch.randn(size, size, dtype=torch.float64), torch.randn(size, size, dtype=torch.float64)
    expected = a @ b
    for dtype, tolerance in ((torch.float32, 1e-2), (torch.bfloat16, 2e-2)):
        left = a.to(device, dtype).requires_grad_()
        started = time.perf_counter()
        product = left @ b.to(device, dtype)
        product.sum().backward()
        error = ((product.detach().cpu().double() - expected).abs().max() / expected.abs().max()).item()
        kind = str(dtype).removeprefix("torch.")
        if not error < tolerance or not bool(left.grad.isfinite().all()):
            sys.exit(f"error: {name} multiplies wrongly in {kind}: relative error {error:.1e}")
        print(f"{name}: {kind} matmul and gradient right to {error:.1e}, {time.perf_counter() - started:.3f} s with warm-up")


print(f"torch {torch.__version__}, built for CUDA {torch.version.cuda or 'none'}")
if os.environ["DEVICE"] == "cpu":
    check("CPU", torch.device("cpu"))
    print(f"CPU check passed: {torch.get_num_threads()} threads; CUDA was not asked for")
    sys.exit()
if torch.version.cuda is None:
    sys.exit("error: this torch was built without CUDA; install a CUDA build into the environment that VENV names")
if not torch.cuda.is_available():
    sys.exit("error: torch finds no usable GPU although nvidia-smi does; the driver above may be too old for this torch")
for index in range(torch.cuda.device_count()):
    card = torch.cuda.get_device_properties(index)
    print(f"cuda:{index}: {card.name}, {card.total_memory / 2**30:.0f} GiB, compute capability {card.major}.{card.minor}")
    print(f"cuda:{index}: bf16 {'native' if card.major >= 8 else 'emulated: use --fp16'}")
    check(f"cuda:{index}", torch.device("cuda", index))
print("CUDA check passed")
PY
[[ $DEVICE != cpu ]] || exit 0
# Does the same seed give the same bytes here, twice and after a resume?
exec python benchmarks/gpu_checks.py --checks fp32 bf16 fp16 --budget 600 --output logs/gpu_checks.json
