"""The images of `demo-boxes`, which are drawn when they are read."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from typing import BinaryIO, Literal

from PIL import Image

from attn_surgeon.data.boxes.annotations import Annotations, SplitReaders, in_columns
from attn_surgeon.networks.demo.box_scenes import DEMO_BOXES, SCENES, draw_digits
from attn_surgeon.networks.demo.digits import CLASS_NAMES

_scene = lru_cache(maxsize=sum(SCENES.values()))(draw_digits)


@dataclass(frozen=True)
class DrawnImage:
    """Image `index` of a split, as a PNG file."""

    split: str
    index: int

    @property
    def name(self) -> str:
        """The name of the image."""
        return f"{self.split}-{self.index:04}.png"

    def __str__(self) -> str:
        return f"{DEMO_BOXES}/{self.name}"

    def open(self, mode: Literal["rb"] = "rb", /) -> BinaryIO:
        """Return the bytes of the image."""
        file = io.BytesIO()
        Image.fromarray(_scene(self.split, self.index).pixels).save(file, "PNG")
        file.seek(0)
        return file


def demo_box_splits() -> SplitReaders:
    """Return a reader for each split.

    >>> demo_box_splits()["val"]().class_names[:3]
    ('0', '1', '2')
    """
    return {split: partial(_annotations, split) for split in SCENES}


@cache
def _annotations(split: str) -> Annotations:
    scenes = [_scene(split, index) for index in range(SCENES[split])]
    rows = [
        (number, *box, label, 0)
        for number, scene in enumerate(scenes)
        for box, label in zip(scene.boxes.tolist(), scene.labels.tolist(), strict=True)
    ]
    return in_columns([DrawnImage(split, index) for index in range(len(scenes))], CLASS_NAMES, rows)
