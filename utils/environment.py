"""Settings in the environment that would change a result. What holds for a run is in its flags and configuration."""

from __future__ import annotations

import os

# Precision of products, other kernels for them, sharding, division of gradients: left behind by a launcher (accelerate
# launch) or a shell profile. What only tells where to compute stays: devices, threads, addresses of other nodes.
SETTINGS = {
    "DNNL_DEFAULT_FPMATH_MODE",
    "NVIDIA_TF32_OVERRIDE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
    "XLA_DOWNCAST_BF16",
    "XLA_USE_BF16",
}
FAMILIES = (
    "ACCELERATE_",
    "FSDP_",
    "MEGATRON_LM_",
    "PARALLELISM_CONFIG_",
    "PYTORCH_TUNABLEOP_",
    "TORCH_BLAS_PREFER_",
)


def set_aside() -> list[str]:
    """Take these settings out of the environment, before the libraries that read them are loaded; a note for each."""
    found = sorted(name for name in os.environ if name in SETTINGS or name.startswith(FAMILIES))
    return [f"{name}={os.environ.pop(name)} in the environment is set aside: flags alone decide" for name in found]
