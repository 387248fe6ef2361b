"""Figures as PNG: one style for every script that draws one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

COLOURS = ("#0067b1", "#c8500a", "#00805a", "#a6348c", "#8a6d00", "#5b4fc7", "#4d6b78", "#b3253c")


def figure(rows: int, columns: int, width: float = 5.0, height: float = 3.2) -> tuple[Any, Any]:
    """A Matplotlib figure with a grid of axes (always a 2-D array), drawn without a display."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from cycler import cycler

    plt.rcParams.update(
        {
            "axes.grid": True,
            "grid.alpha": 0.3,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": cycler(color=COLOURS),
            "figure.dpi": 120,
            "axes.titlesize": 10,
            "font.size": 9,
        }
    )
    return plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False, layout="constrained")


def save(drawing: Any, path: Path) -> None:
    """Write the figure as PNG, whole or not at all, and free it."""
    import matplotlib.pyplot as plt

    from utils.atomic_io import atomic_writer

    with atomic_writer(path, "wb") as handle:
        drawing.savefig(handle, format="png")
    plt.close(drawing)
