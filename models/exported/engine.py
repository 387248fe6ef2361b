"""CTranslate2: imported only where an exported model is made or runs."""

from __future__ import annotations

from types import ModuleType

from utils.errors import UserError

# Torch searches while a better text can still come; the engine, until so many times its beams have ended. With its
# default of 1, more of a student's texts are others than those of torch; with 4, one task takes twice as long.
PATIENCE = 1.5


def import_engine() -> ModuleType:
    """The library. Raises UserError where it is not installed."""
    try:
        import ctranslate2
    except ImportError:
        raise UserError("exported models need ctranslate2; pip install ctranslate2") from None
    return ctranslate2


def require_quantization(quantization: str, device: str, flag: str) -> None:
    """Raise UserError where the device cannot compute so; the engine would take another type without a word."""
    supported = import_engine().get_supported_compute_types(device.partition(":")[0])
    if quantization not in supported:
        raise UserError(
            f"{flag} {quantization}: this {device} cannot compute so; it can {', '.join(sorted(supported))}"
        )
