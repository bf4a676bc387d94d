"""Write a confusion matrix as CSV and as PNG."""

from __future__ import annotations

import csv
import io
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

OUTSIDE = "(none of these)"
NUMBERED = 20  # the largest number of classes for which cells show counts
NAMED = 60  # the largest number of classes for which the axes show names
PNG_DPI = 150


def confusion_csv(counts: Tensor, class_names: Sequence[str]) -> bytes:
    """Return a confusion matrix (K, K + 1) as CSV: a row for each class, a column for each prediction."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["class", *class_names, OUTSIDE])
    writer.writerows([name, *row] for name, row in zip(class_names, counts.tolist(), strict=True))
    return text.getvalue().encode()


def confusion_png(counts: Tensor, class_names: Sequence[str]) -> bytes:
    """Return a confusion matrix (K, K + 1) as PNG, with each row as fractions of its class."""
    from matplotlib.figure import Figure

    counts, names = (counts, [*class_names, OUTSIDE]) if counts[:, -1].any() else (counts[:, :-1], class_names)
    fractions = counts / counts.sum(1, keepdim=True).clamp(min=1)
    side = min(12.0, 4.5 + 0.25 * len(class_names))
    figure = Figure(figsize=(side + 1, side), layout="constrained")
    axes = figure.add_subplot(xlabel="predicted", ylabel="class")
    image = axes.imshow(fractions.numpy(), cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    figure.colorbar(image, label="fraction of the class", fraction=0.046)
    if len(class_names) <= NAMED:  # a dollar sign in a class name would start mathtext
        axes.set_xticks(range(len(names)), names, rotation=90, parse_math=False)
        axes.set_yticks(range(len(class_names)), class_names, parse_math=False)
    if len(class_names) <= NUMBERED:
        for row, column in torch.nonzero(counts).tolist():
            colour = "white" if fractions[row, column] > 0.5 else "black"
            axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", color=colour, fontsize=8)
    target = io.BytesIO()
    with warnings.catch_warnings():  # scripts that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        figure.savefig(target, format="png", dpi=PNG_DPI, bbox_inches="tight")
    return target.getvalue()
