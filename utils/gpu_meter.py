"""How busy and how full a GPU is, as the driver sees it, whatever else computes on it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

GPU_COLUMNS = ("gpu_utilization", "gpu_memory_mb")


class GpuMeter:
    """Reads NVIDIA's management library; reads nothing without a GPU, or once the library has failed."""

    def __init__(self, device: torch.device, warn: Callable[[str], None]) -> None:
        self._library: Any = None
        self._handle: Any = None
        if device.type != "cuda":
            return
        try:
            import pynvml

            pynvml.nvmlInit()
            # Not by number: the driver counts the GPUs that CUDA_VISIBLE_DEVICES hides as well.
            self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
            self._library = pynvml
        except Exception as error:  # the package, the driver, or a right is missing
            warn(f"GPU use is not measured ({type(error).__name__}: {error}); training goes on")

    @property
    def columns(self) -> tuple[str, ...]:
        return GPU_COLUMNS if self._library else ()

    def read(self) -> dict[str, float | None]:
        """gpu_utilization: percent of the time in which a kernel ran; gpu_memory_mb: MiB in use, by all processes."""
        if self._library is None:
            return {}
        try:
            busy = self._library.nvmlDeviceGetUtilizationRates(self._handle).gpu
            used = self._library.nvmlDeviceGetMemoryInfo(self._handle).used
        except self._library.NVMLError:
            return {}
        return {"gpu_utilization": float(busy), "gpu_memory_mb": used / 2**20}
