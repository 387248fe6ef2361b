"""Where files are kept that can be computed again: bridges, indices of read-only data, compiled helpers."""

from __future__ import annotations

import os
from pathlib import Path


def cache_dir(name: str) -> Path:
    """Folder ``name`` below ``$DISTIL_CACHE`` (default ``~/.cache/assertion-distillation``), created if missing."""
    root = os.environ.get("DISTIL_CACHE") or "~/.cache/assertion-distillation"
    path = Path(root).expanduser() / name
    path.mkdir(parents=True, exist_ok=True)
    return path
