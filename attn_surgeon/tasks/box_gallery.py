"""Draw detections: the worst and the best images, with the boxes of the truth beside those that were found, as PNG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from attn_surgeon.data.boxes.dataset import BoxImages
from attn_surgeon.tasks.detectors.base import Detections
from attn_surgeon.tasks.gallery import gallery_png, show_image

_TITLES = ("truth", "detections")
LEAST_SCORE = 0.3  # of a detection that is drawn


def draw_boxes(
    images: BoxImages, class_names: Sequence[str], outcomes: Sequence[float], found: Sequence[Detections]
) -> bytes:
    """Return a PNG of the chosen images with their boxes, and with the detections.

    Args:
        images: the dataset.
        class_names: the names of the classes.
        outcomes: the mAP of each image.
        found: the detections in each image, in pixels of the file.
    """
    colours = _colours(len(class_names))

    def draw_row(row: Any, index: int) -> str:
        (pixels, truth), own = images.picture(index), found[index]
        _draw(row[0], pixels, truth.boxes, [(colours[label], class_names[label]) for label in truth.labels.tolist()])
        kept = own.scores >= LEAST_SCORE
        scored = zip(own.labels[kept].tolist(), own.scores[kept].tolist(), strict=True)
        marks = [(colours[label], f"{class_names[label]} {score:.2f}") for label, score in scored]
        _draw(row[1], pixels, own.boxes[kept], marks)
        return images.annotations.images[index].name

    return gallery_png(outcomes, _TITLES, 3.6, draw_row)


def _draw(axis: Any, pixels: Tensor, boxes: Tensor, marks: Sequence[tuple[Any, str]]) -> None:
    """Draw an image (C, H, W), and boxes (K, 4) with a colour and a text each."""
    from matplotlib.patches import Rectangle

    show_image(axis, pixels, extent=(0, pixels.shape[2], pixels.shape[1], 0))
    for (left, top, right, bottom), (colour, text) in zip(boxes.tolist(), marks, strict=True):
        axis.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=1.2))
        axis.text(left, top, text, color="white", backgroundcolor=colour, fontsize=5, va="bottom", clip_on=True)


def _colours(classes: int) -> list[Any]:
    from matplotlib import colormaps

    return list(colormaps["turbo"](np.linspace(0.1, 0.9, classes))[:, :3])
