"""Draw predicted masks: the worst and the best images, each with its mask and prediction, as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attn_surgeon.data.masks import IGNORED
from attn_surgeon.data.segmentation_images import Scenes

EACH = 3
SIDE = 512  # pixels; larger images are subsampled
TITLES = ("image", "mask", "prediction")


def chosen(outcomes: Sequence[float]) -> list[int]:
    """Return the indices of the three worst and the three best images, the worst first."""
    ranked = sorted(range(len(outcomes)), key=lambda index: (outcomes[index], index))
    return ranked if len(ranked) <= 2 * EACH else ranked[:EACH] + ranked[-EACH:]


def draw_gallery(scenes: Scenes, outcomes: Sequence[float], predict: Callable[[int], Tensor]) -> bytes:
    """Return a PNG of the chosen images, their masks and the predicted masks (H, W)."""
    from matplotlib.figure import Figure

    rows = chosen(outcomes)
    figure = Figure(figsize=(9, 3.1 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(TITLES), squeeze=False)
    for row, index in zip(axes, rows, strict=True):
        _draw_row(row, scenes, index, predict(index))
        row[0].set_ylabel(f"{scenes.pairs[index].image.name}\n{100 * outcomes[index]:.1f} %")
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=100)
    return target.getvalue()


def _draw_row(row: Any, scenes: Scenes, index: int, predicted: Tensor) -> None:
    pixels, mask = scenes.picture(index)
    step = -(-max(mask.shape) // SIDE)
    image = pixels[:, ::step, ::step].permute(1, 2, 0).numpy()
    row[0].imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255)
    for axis, labels in zip(row[1:], (mask, predicted), strict=True):
        axis.imshow(_painted(labels[::step, ::step], len(scenes.labelling.names)), interpolation="nearest")
    for axis in row:
        axis.set_xticks([])
        axis.set_yticks([])


def _painted(labels: Tensor, classes: int) -> np.ndarray[Any, Any]:
    """Return class numbers (H, W) as RGB colours (H, W, 3), with ignored pixels white."""
    from matplotlib import colormaps

    palette = torch.from_numpy(colormaps["turbo"](np.linspace(0.02, 0.98, classes))[:, :3])
    painted = palette[torch.where(labels == IGNORED, 0, labels).long()]
    painted[labels == IGNORED] = 1.0
    return painted.numpy()
