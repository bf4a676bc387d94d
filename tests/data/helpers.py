"""What the tests of data share: images of one value, and reading them back."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from attn_surgeon.data.images import ImageData
from attn_surgeon.networks.preprocessing import Preprocessing

PLAIN = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, size=(2, 2))


def picture(value: int, side: int = 2) -> Image.Image:
    """Make an image of one value."""
    return Image.fromarray(np.full((side, side, 3), value, dtype=np.uint8))


def write(path: Path, value: int) -> None:
    """Write a 2x2 image of one value."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(value).save(path)


def png(value: int) -> bytes:
    """Give the bytes of a 2x2 image of one value."""
    file = io.BytesIO()
    picture(value).save(file, "PNG")
    return file.getvalue()


def write_tar(path: Path, members: Mapping[str, bytes]) -> None:
    """Write a tar file."""
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def contents(data: ImageData) -> list[tuple[int, int]]:
    """List every item's value and label."""
    dataset: Any = data.dataset
    items = [dataset[index] for index in range(len(dataset))]
    assert all(bool((image == image.flatten()[0]).all()) for image, _ in items)
    return [(round(float(image.flatten()[0]) * 255), label) for image, label in items]
