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

    def draw_row(row: Any, index: int) -> str:
        _draw_row(row, scenes, index, predict(index))
        return scenes.pairs[index].image.name

    return gallery_png(outcomes, TITLES, 3.1, draw_row)


def gallery_png(
    outcomes: Sequence[float], titles: Sequence[str], height: float, draw_row: Callable[[Any, int], str]
) -> bytes:
    """Return a PNG with a row for each of the chosen images.

    Args:
        outcomes: the metric of each image.
        titles: the titles of the columns.
        height: inches for a row.
        draw_row: draws an image of an index into axes, one for each column, and returns its name.
    """
    from matplotlib.figure import Figure

    rows = chosen(outcomes)
    figure = Figure(figsize=(9, height * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(titles), squeeze=False)
    for row, index in zip(axes, rows, strict=True):
        row[0].set_ylabel(f"{draw_row(row, index)}\n{100 * outcomes[index]:.1f} %")
        for axis in row:
            axis.set_xticks([])
            axis.set_yticks([])
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    target = io.BytesIO()
    figure.savefig(target, format="png", dpi=100)
    return target.getvalue()


def show_image(axis: Any, pixels: Tensor, **options: Any) -> None:
    """Draw an image (C, H, W) of 0 to 255, in grey where it has one channel; a large one is subsampled."""
    step = subsampling(pixels)
    image = pixels[:, ::step, ::step].permute(1, 2, 0).numpy()
    axis.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255, **options)


def subsampling(pixels: Tensor) -> int:
    """Return the step at which an image or mask (..., H, W) is subsampled to be drawn."""
    return -(-max(pixels.shape[-2:]) // SIDE)


def _draw_row(row: Any, scenes: Scenes, index: int, predicted: Tensor) -> None:
    pixels, mask = scenes.picture(index)
    show_image(row[0], pixels)
    step = subsampling(mask)
    for axis, labels in zip(row[1:], (mask, predicted), strict=True):
        axis.imshow(_painted(labels[::step, ::step], len(scenes.labelling.names)), interpolation="nearest")


def _painted(labels: Tensor, classes: int) -> np.ndarray[Any, Any]:
    """Return class numbers (H, W) as RGB colours (H, W, 3), with ignored pixels white."""
    from matplotlib import colormaps

    palette = torch.from_numpy(colormaps["turbo"](np.linspace(0.02, 0.98, classes))[:, :3])
    painted = palette[torch.where(labels == IGNORED, 0, labels).long()]
    painted[labels == IGNORED] = 1.0
    return painted.numpy()
