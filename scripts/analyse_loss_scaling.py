#!/usr/bin/env python
"""Which loss component moved the student, and which weights or which semantic scale would balance them.

    python scripts/analyse_loss_scaling.py --training_dir results/run/
    python scripts/analyse_loss_scaling.py --log_file results/run/training_metrics.csv

Prints a table, and writes loss_scaling.json and loss_scaling.png into the folder of the run.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from utils.arguments import ArgumentParser
from utils.atomic_io import write_json
from utils.errors import UserError, run_main

if TYPE_CHECKING:
    from evaluation.reports.loss_scaling import LossScaling
    from evaluation.reports.run_data import Columns


def parse_arguments() -> argparse.Namespace:
    parser = ArgumentParser(__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--training_dir", type=Path, help="folder of a run")
    source.add_argument("--log_file", type=Path, help="step_metrics.csv, or training_metrics.csv with it in its folder")
    parser.add_argument("--output_dir", type=Path, help="where to write (default: the folder of the run)")
    parser.add_argument("--no_plot", action="store_true", help="write no figure")
    return parser.parse_args()


def main() -> int:
    args = parse_arguments()

    from evaluation.reports.loss_scaling import analyse
    from evaluation.reports.run_data import read_columns, read_json
    from utils.logging_utils import STEP_FILE, components_of
    from utils.pages.plots import NO_FIGURE, can_draw

    file = args.log_file or args.training_dir / STEP_FILE
    if not file.is_file():
        raise UserError(f"{file} does not exist; name the folder of a run that this program trained")
    steps = read_columns(file)
    if not components_of(steps) and file.name != STEP_FILE and file.with_name(STEP_FILE).is_file():
        file = file.with_name(STEP_FILE)
        print(f"the components of the loss are in {file}")
        steps = read_columns(file)
    if not steps:
        raise UserError(f"{file} has no rows yet")
    config = read_json(file.with_name("run_config.json")).get("config", {})
    scaling = analyse(steps, config.get("semantic_loss_scale"), config.get("semantic_gradient_share", 0.0))

    print(format_table(scaling))
    folder = args.output_dir or file.parent
    write_json(folder / "loss_scaling.json", {"source": str(file), **asdict(scaling)})
    written = [str(folder / "loss_scaling.json")]
    if not args.no_plot and can_draw():
        draw_shares(scaling, steps, folder / "loss_scaling.png")
        written.append(str(folder / "loss_scaling.png"))
    elif not args.no_plot:
        written.append(NO_FIGURE)
    print(f"written: {', '.join(written)}")
    return 0


def format_table(scaling: LossScaling) -> str:
    """The result as a table in plain text, with the advice that follows from it."""
    lines = [
        f"share of the {scaling.basis} per component, {len(scaling.steps)} measurements "
        f"from step {scaling.steps[0]} to {scaling.steps[-1]}",
        f"{'component':<12} {'first third':>11} {'last third':>10} {'weight':>8} {'balancing':>9}  verdict",
    ]
    for name, one in scaling.components.items():
        balanced = "–" if one.balanced_weight is None else f"{one.balanced_weight:.3g}"
        lines.append(
            f"{name:<12} {one.share_first:>11.1%} {one.share_last:>10.1%} {one.weight_last:>8.3g} "
            f"{balanced:>9}  {one.verdict}: {one.reason}"
        )
    weights = {name: one.balanced_weight for name, one in scaling.components.items() if one.balanced_weight}
    if len(weights) > 1:
        lines.append(
            f"they would all pull equally hard with: --loss_components {' '.join(weights)} "
            f"--loss_weights {' '.join(f'{weight:.3g}' for weight in weights.values())}"
        )
    if scaling.balanced_semantic_loss_scale is not None:
        lines.append(
            f"or, for semantic alone: --semantic_loss_scale {scaling.balanced_semantic_loss_scale:.3g} "
            f"(now {scaling.semantic_loss_scale:.3g}) lets it pull as hard as the others on average"
        )
    return "\n".join([*lines, *(f"note: {note}" for note in scaling.notes)])


def draw_shares(scaling: LossScaling, steps: Columns, path: Path) -> None:
    """Draw the shares over time, and the gradient norm of each component."""
    import numpy as np

    from utils.pages.plots import create_figure, save_figure

    drawing, axes = create_figure(2, 1, width=8)
    axes[0, 0].stackplot(scaling.steps, list(scaling.shares.values()), labels=list(scaling.shares), alpha=0.85)
    axes[0, 0].set(title=f"share of the {scaling.basis}", ylim=(0, 1), xlabel="step")
    axes[0, 0].margins(x=0)
    drawing.legend(loc="outside right upper")
    for name in scaling.components:
        column = f"grad_norm_{name}" if scaling.basis == "gradient" else f"{name}_loss_raw"
        if column not in steps:
            continue
        shown = np.isfinite(steps[column]) & (steps[column] > 0)
        axes[1, 0].plot(steps["step"][shown], steps[column][shown], marker=".", markersize=3, linewidth=1)
    title = "gradient norm on the logits, unweighted" if scaling.basis == "gradient" else "raw loss"
    axes[1, 0].set(title=title, xlabel="step")
    if axes[1, 0].lines and any(len(line.get_xdata()) for line in axes[1, 0].lines):
        axes[1, 0].set_yscale("log")
    save_figure(drawing, path)


if __name__ == "__main__":
    run_main(main)
