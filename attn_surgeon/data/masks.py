"""Read segmentation masks, whose pixels are class numbers, and infer their classes and ignore index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attn_surgeon.data.images import ImageFile, read_image
from attn_surgeon.errors import DataError, option
from attn_surgeon.text_files import read_text

IGNORED = 255  # the ignore index of masks in datasets, whatever it is in the files
TWO = ("background", "foreground")


@dataclass(frozen=True)
class Pair:
    """The files of an image and its mask, their common size (H, W), and the values in the mask."""

    image: Path
    mask: Path
    size: tuple[int, int]
    values: frozenset[int]


@dataclass(frozen=True)
class Labelling:
    """The mapping of mask values to classes.

    Args:
        names: the class names; by default, a value is the number of a class.
        ignore: the value of ignored pixels.
        two: whether the values are 0 for the first class and 255 for the second.
    """

    names: tuple[str, ...]
    ignore: int
    two: bool = False

    def numbered(self, values: np.ndarray[Any, Any]) -> Tensor:
        """Return the class numbers (H, W) of mask values, IGNORED for ignored pixels."""
        classes = values == 255 if self.two else values
        return torch.from_numpy(np.where(values == self.ignore, IGNORED, classes).astype(np.uint8))

    def classes(self, values: Iterable[int]) -> tuple[int, ...]:
        """Return the class numbers of mask values, without the ignored value."""
        return tuple(int(value == 255) if self.two else value for value in values if value != self.ignore)


def mask_values(path: Path) -> np.ndarray[Any, Any]:
    """Read the values (H, W) of a mask; raise DataError where it is a colour image."""
    mask = read_image(path)
    values = np.asarray(mask)
    if values.ndim == 3 and mask.mode == "RGB" and bool((values == values[..., :1]).all()):
        values = values[..., 0]
    if values.ndim != 2 or mask.mode == "F":
        what = f"expected a mask of class numbers, got a colour image ({mask.mode})"
        raise DataError(what, str(path), "write it with one channel, whose values are class numbers")
    return values.astype(np.uint8) if mask.mode == "1" else values


def read_pixels(path: ImageFile, channels: int) -> Tensor:
    """Read an image as uint8 (C, H, W), grey or RGB; 16 bits per pixel become 8."""
    if channels not in (1, 3):
        hint = "use a network that takes grey or RGB images"
        raise DataError(f"image files have 1 or 3 channels, the network takes {channels}", str(path), hint)
    image = read_image(path)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    values = np.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(values if values.ndim == 3 else values[..., None]).permute(2, 0, 1)


def read_names(root: Path) -> tuple[str, ...] | None:
    """Read the class names from classes.txt, one per line; None where there is no such file."""
    path = root / "classes.txt"
    if not path.is_file():
        return None
    names = tuple(line.strip() for line in read_text(path, DataError).splitlines() if line.strip())
    duplicates = sorted({name for name, count in Counter(names).items() if count > 1})
    if duplicates:
        raise DataError(f"duplicate class name: {duplicates[0]}", str(path), "list each class once, from class 0 on")
    return names


def labelling(pairs: Sequence[Pair], names: tuple[str, ...] | None, ignore: int | None) -> Labelling:
    """Infer the classes and the ignore index from the masks; raise DataError, with the file, for an invalid value.

    The ignore index is 255 by default. But where masks have only the values 0 and 255, 255 is a class on background.
    """
    values = frozenset().union(*(pair.values for pair in pairs))
    two = ignore != 255 and 255 in values and values - {ignore} <= {0, 255} and len(names or TWO) == 2
    if two:
        return Labelling(names or TWO, -1 if ignore is None else ignore, two=True)
    ignore = 255 if ignore is None else ignore
    if names is None:
        names = tuple(str(number) for number in range(max(values - {ignore}, default=0) + 1))
    _require_in_range(pairs, len(names), ignore)
    if not 2 <= len(names) <= 255:
        hint = "mask values must be class numbers from 0, or 0 and 255; list the classes in classes.txt"
        raise DataError(f"expected 2 to 255 classes, got {len(names)}", str(pairs[0].mask), hint)
    return Labelling(names, ignore)


def _require_in_range(pairs: Sequence[Pair], classes: int, ignore: int) -> None:
    for pair in pairs:
        wrong = sorted(value for value in pair.values - {ignore} if not 0 <= value < classes)
        if wrong:
            what = f"a mask for {classes} classes has the value {wrong[0]}"
            hint = f"list the class in classes.txt, or ignore the value: {option('ignore_index', wrong[0])}"
            raise DataError(what, str(pair.mask), hint)
