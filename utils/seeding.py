"""Seeds for every random generator, set in time to have an effect. torch and NumPy are imported only when needed."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path


def _find_seed(argv: list[str]) -> str:
    """The seed on the command line, in its --config file or in the run that it resumes; else 42."""
    config: str | None = None
    for position, word in enumerate(argv):
        name, equals, value = word.partition("=")
        following = argv[position + 1] if position + 1 < len(argv) else ""
        if name == "--seed":
            return value if equals else following
        if name == "--config":
            config = value if equals else following
        if name == "--resume" and config is None:
            run = Path(value if equals else following)
            file = (run.parent if run.name.startswith("checkpoint-") else run) / "run_config.json"
            config = str(file) if file.is_file() else None
    if config:
        try:
            values = json.loads(Path(config).read_text(encoding="utf-8"))
            return str(values.get("config", values).get("seed", 42))
        except (OSError, ValueError, AttributeError):
            return "42"  # the configuration is read again later, and then reports what is wrong with the file
    return "42"


def fix_hash_seed() -> None:
    """Restart the interpreter with PYTHONHASHSEED and CUBLAS_WORKSPACE_CONFIG set, which it only reads at its start."""
    seed = _find_seed(sys.argv[1:])
    if not seed.isdigit():
        return  # refused later
    wanted = str(int(seed) % 2**32)
    if os.environ.get("PYTHONHASHSEED") != wanted:
        os.environ["PYTHONHASHSEED"] = wanted
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def seed_everything(seed: int, deterministic: bool, device: str = "cpu") -> list[str]:
    """Seed Python, NumPy and torch (CPU and CUDA); returns what the user should know about ``device``.

    deterministic: an operation without a deterministic kernel raises RuntimeError instead of giving other results.
    """
    import numpy as np
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)
    if deterministic and device == "mps":
        return ["--deterministic: torch has no deterministic kernels on mps; two runs of one seed may differ"]
    # Not warn_only: it keeps the faster kernels of attention, whose sums differ from run to run.
    torch.use_deterministic_algorithms(deterministic)
    # Nothing here reads memory that was not written, so filling every new tensor would only cost time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    return []


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for one optimiser step of one process.

    Dropout then depends on (seed, step, rank) alone: a validation or an interruption does not change it, and a
    checkpoint needs no generator state.
    """
    import numpy as np
    import torch

    torch.manual_seed(int(np.random.SeedSequence((seed, step, rank)).generate_state(1, np.uint64)[0]) >> 1)
