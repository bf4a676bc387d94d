"""Draw the learning curves: training loss and validation metric by epoch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attn_surgeon.finetune.checkpoint import write_file
from attn_surgeon.tasks.base import Task

CURVES = "curves.png"
ARM_COLOURS = {"grafts": "#1f6feb", "control": "#8b949e"}

History = Sequence[Mapping[str, Any]]


def draw_curves(folder: Path, runs: Iterable[tuple[str, int, History]], task: Task) -> None:
    """Write curves.png to the folder, with a line for each run (arm, seed, history) in the colour of its arm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    for arm, seed, history in runs:
        epochs = [line["epoch"] for line in history]
        for axes, name, factor in ((left, "train_loss", 1), (right, f"val_{task.metric.key}", 100)):
            values = [factor * line[name] for line in history]
            axes.plot(epochs, values, color=ARM_COLOURS[arm], marker=".", linewidth=1.2, label=f"{arm}, seed {seed}")
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel=f"{task.metric.title} on validation images in %")
    right.legend(fontsize="small")
    write_file(folder / CURVES, lambda path: figure.savefig(path, format="png", dpi=120))
