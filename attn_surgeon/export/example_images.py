"""Images for tracing, comparison and calibration: of a folder or random, as uint8 pixels or normalised."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from attn_surgeon.data.folders import IMAGE_SUFFIXES, images_in
from attn_surgeon.data.images import read_image
from attn_surgeon.errors import DataError
from attn_surgeon.export.dynamic_axes import Size
from attn_surgeon.networks.demo.digits import DEMO_DATASETS, digits
from attn_surgeon.networks.preprocessing import Preprocessing, fit

Pixels = Callable[[Size], Tensor]


def seeded_pixels(channels: int) -> Pixels:
    """Return a function of a size that returns random uint8 images (N, H, W, C): coarse plus fine noise, seeded."""

    def make(size: Size) -> Tensor:
        shape = (size["batch"], channels)
        generator = torch.Generator().manual_seed(0)
        coarse = F.interpolate(
            torch.rand(*shape, 4, 4, generator=generator), (size["height"], size["width"]), mode="bilinear"
        )
        fine = torch.rand(*shape, size["height"], size["width"], generator=generator)
        return (255 * (0.8 * coarse + 0.2 * fine)).round().to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    return make


def folder_pixels(source: str | Path, preprocessing: Preprocessing) -> tuple[Pixels, int]:
    """Return a function of a size that returns images (N, H, W, C) of a folder, and the number of images.

    They are in a fixed random order, and repeated in a larger batch. Raises DataError where there are none, or where
    the network's number of channels is not that of image files.
    """
    preprocessing.transform()  # raises for other numbers of channels
    image, count = _demo_images(str(source)) if source in DEMO_DATASETS else _file_images(find_images(source))
    order = torch.randperm(count, generator=torch.Generator().manual_seed(0)).tolist()

    def make(size: Size) -> Tensor:
        sized = _sized(preprocessing, size)
        indices = [order[number % count] for number in range(size["batch"])]
        return torch.stack([torch.from_numpy(_array(fit(image(index), sized))) for index in indices])

    return make, count


def _sized(preprocessing: Preprocessing, size: Size) -> Preprocessing:
    return replace(preprocessing, size=(size["height"], size["width"]))


def _demo_images(task: str) -> tuple[Callable[[int], Image.Image], int]:
    dataset: Any = digits(task, "train", transform=pil_to_tensor)
    return lambda index: cast(Image.Image, to_pil_image(dataset[index][0])), len(dataset)


def _file_images(files: list[Path]) -> tuple[Callable[[int], Image.Image], int]:
    return lambda index: read_image(files[index]), len(files)


def require_images(source: str | Path | None) -> None:
    """Raise DataError where a folder has no images."""
    if source is not None and source not in DEMO_DATASETS:
        find_images(source)


def find_images(folder: str | Path) -> list[Path]:
    """Return the image files in a folder, at any depth; raise DataError where there are none."""
    root = Path(folder)
    if not root.is_dir():
        what = "this is not a folder" if root.exists() else "no such folder"
        raise DataError(what, str(folder), "name a folder of images, or demo")
    files = images_in(root)
    if not files:
        raise DataError("no images", str(folder), f"supported: {', '.join(sorted(IMAGE_SUFFIXES))}")
    return files


def _array(image: Image.Image) -> NDArray[np.uint8]:
    array = np.array(image)
    return array[..., None] if array.ndim == 2 else array


def normalise(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return uint8 pixels (N, H, W, C) as float images (N, C, H, W), scaled to 0–1 and normalised by mean and std."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (preprocessing.mean, preprocessing.std))
    # With one channel, the strides after permute look like channels_last, for which poolings are exported as gathers.
    planes = pixels.permute(0, 3, 1, 2).clone(memory_format=torch.contiguous_format)
    return (planes.float() / 255 - mean) / std
