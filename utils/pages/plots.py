"""Matplotlib figures, saved as PNG: one style for every script."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

COLOURS = ("#0067b1", "#c8500a", "#00805a", "#a6348c", "#8a6d00", "#5b4fc7", "#4d6b78", "#b3253c")


NO_FIGURE = "no figure (pip install matplotlib)"


def can_draw() -> bool:
    """Whether matplotlib is there; without it a report has its pages and tables, and no figure."""
    return find_spec("matplotlib") is not None


def create_figure(rows: int, columns: int, width: float = 5.0, height: float = 3.2) -> tuple[Figure, np.ndarray]:
    """A figure and its axes as an array [rows, columns], each of ``width`` x ``height`` inches; needs no display."""
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


def save_figure(drawing: Figure, path: Path) -> None:
    """Write the figure as PNG, atomically, and free its memory."""
    import matplotlib.pyplot as plt

    from utils.atomic_io import atomic_writer

    with atomic_writer(path, "wb") as handle:
        drawing.savefig(handle, format="png")
    plt.close(drawing)
