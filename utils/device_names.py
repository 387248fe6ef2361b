"""How a device may be named. Light to import: a wrong name is refused before torch is loaded."""

from __future__ import annotations

import re

from utils.errors import UserError


def check_device_name(name: str) -> None:
    """Raise UserError for a name that no device has."""
    if not re.fullmatch(r"auto|cpu(:\d+)?|mps|cuda(:\d+)?", name):
        raise UserError(f"--device {name}: unknown; allowed: auto, cpu, cuda, cuda:N, mps")
