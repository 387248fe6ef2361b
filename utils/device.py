"""On which device to compute, and in which precision."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from typing import TYPE_CHECKING

import torch

from utils.allocator import keep_freed_memory
from utils.device_names import check_device_name
from utils.environment import set_aside
from utils.errors import UserError

if TYPE_CHECKING:
    from accelerate import Accelerator

# The other processes wait while the main one fits the bridge or evaluates the final model. NCCL's limit is 10 minutes.
PATIENCE = timedelta(hours=6)


def adopt_srun() -> None:
    """Set the environment variables of torchrun for a process that plain ``srun --ntasks=N python script`` started."""
    variables = os.environ
    processes = int(variables.get("SLURM_STEP_NUM_TASKS", 1))
    if processes == 1 or "RANK" in variables:
        return
    tasks = re.match(r"\d+", variables["SLURM_STEP_TASKS_PER_NODE"])
    # The first of "node[03-05,9]", "node3,node4" or "node3".
    first = re.match(r"([^\[,]+)(?:\[([^\],-]+))?", variables["SLURM_STEP_NODELIST"])
    job, step = int(variables["SLURM_JOB_ID"]), int(variables["SLURM_STEP_ID"])
    alone = variables["SLURM_STEP_NUM_NODES"] == "1"
    assert tasks and first
    variables |= {
        "RANK": variables["SLURM_PROCID"],
        "WORLD_SIZE": str(processes),
        "LOCAL_RANK": variables["SLURM_LOCALID"],
        "LOCAL_WORLD_SIZE": tasks[0],
        "MASTER_ADDR": variables.get("MASTER_ADDR", "127.0.0.1" if alone else first[1] + (first[2] or "")),
        # Each job step has its own port, so that it never connects to the remains of another one.
        "MASTER_PORT": variables.get("MASTER_PORT", str(20000 + (7 * job + step) % 10000)),
    }


def resolve_device(name: str) -> str:
    """``auto`` becomes cuda or cpu; for the CPU this process is told to reuse its memory.

    Raises UserError for a device that is unknown or not there.
    """
    check_device_name(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cpu" or re.fullmatch(r"cpu:\d+", name):  # as torch names the CPU of one of several processes
        keep_freed_memory()
        return "cpu"
    if name.startswith("cuda"):
        if not torch.cuda.is_available():
            raise UserError(f"--device {name}: no usable CUDA device here; use --device cpu or auto")
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            raise UserError(f"--device {name}: there are {torch.cuda.device_count()} CUDA devices, numbered from 0")
    if name == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: no Apple GPU that torch can use; use --device cpu or auto")
    return name


def build_accelerator(
    device: str, *, fp16: bool, bf16: bool, tf32: bool = True, cpu_threads: int | None = None
) -> tuple[Accelerator, list[str]]:
    """The accelerator for this process, and a note for each setting that differs from what was asked for."""
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs, InitProcessGroupKwargs

    notes = set_aside()
    device = resolve_device(device)
    wanted = "fp16" if fp16 else "bf16" if bf16 else "no"
    works = {"no": True, "fp16": device.startswith("cuda"), "bf16": device != "mps"}
    if not works[wanted]:
        notes.append(f"--{wanted} does not work on {device}; the run uses fp32")
        wanted = "no"
    if cpu_threads:
        torch.set_num_threads(cpu_threads)
    if device.startswith("cuda"):
        torch.backends.cuda.matmul.allow_tf32 = tf32
        if ":" in device:
            torch.cuda.set_device(device)
    accelerator = Accelerator(
        cpu=device == "cpu",
        mixed_precision=wanted,
        kwargs_handlers=[
            DistributedDataParallelKwargs(broadcast_buffers=False),
            InitProcessGroupKwargs(timeout=PATIENCE),
        ],
    )
    return accelerator, notes
