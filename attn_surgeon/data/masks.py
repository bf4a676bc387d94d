"""Masks, where each pixel is a class's number: reading them, and finding out what their values mean."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from attn_surgeon.data import read_image
from attn_surgeon.errors import DataError

IGNORED = 255  # in a mask as it is served: a pixel that counts for nothing
TWO = ("background", "foreground")


@dataclass(frozen=True)
class Pair:
    """Name an image and its mask, with their common (H, W) and the values that the mask holds."""

    image: Path
    mask: Path
    size: tuple[int, int]
    values: frozenset[int]


@dataclass(frozen=True)
class Labelling:
    """Hold the classes' names, and which value of a mask means what.

    Masks hold class numbers, and `ignore` where nothing is said of a pixel; or, with `two`, 0 and 255 for the
    second class over the first.
    """

    names: tuple[str, ...]
    ignore: int
    two: bool = False

    def numbered(self, values: np.ndarray[Any, Any]) -> Tensor:
        """Turn a mask's values into class numbers (H, W), IGNORED where there is none."""
        classes = values == 255 if self.two else values
        return torch.from_numpy(np.where(values == self.ignore, IGNORED, classes).astype(np.uint8))

    def classes(self, values: Iterable[int]) -> tuple[int, ...]:
        """Number the classes that these values show."""
        return tuple(int(value == 255) if self.two else value for value in values if value != self.ignore)


def mask_values(path: Path) -> np.ndarray[Any, Any]:
    """Read a mask's values (H, W); raise DataError where it shows colours."""
    mask = read_image(path)
    values = np.asarray(mask)
    if values.ndim == 3 and mask.mode == "RGB" and bool((values == values[..., :1]).all()):
        values = values[..., 0]
    if values.ndim != 2 or mask.mode == "F":
        what = f"a mask's values are class numbers, this one shows colours ({mask.mode})"
        raise DataError(what, str(path), "write it with one channel, each pixel its class's number")
    return values.astype(np.uint8) if mask.mode == "1" else values


def read_pixels(path: Path, channels: int) -> Tensor:
    """Read an image as bytes (C, H, W), grey or RGB; 16 bits a pixel become 8."""
    if channels not in (1, 3):
        hint = "give a network that takes grey or RGB images"
        raise DataError(f"image files have 1 or 3 channels, the network wants {channels}", str(path), hint)
    image = read_image(path)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    values = np.array(image.convert("L" if channels == 1 else "RGB"))
    return torch.from_numpy(values if values.ndim == 3 else values[..., None]).permute(2, 0, 1)


def read_names(root: Path) -> tuple[str, ...] | None:
    """Read the classes' names off classes.txt, one a line, where there is one."""
    path = root / "classes.txt"
    if not path.is_file():
        return None
    names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"a class is named twice: {twice[0]}", str(path), "name each once, from 0 on")
    return names


def labelling(pairs: Sequence[Pair], names: tuple[str, ...] | None, ignore: int | None) -> Labelling:
    """Find out what the masks' values mean; raise DataError, with the file, where one means nothing.

    255 is the value to ignore unless another is given, but masks of 0 and 255 alone show one class over background.
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
        hint = "a mask's values are class numbers from 0, or 0 and 255; name the classes in classes.txt"
        raise DataError(f"there must be 2 to 255 classes, here are {len(names)}", str(pairs[0].mask), hint)
    return Labelling(names, ignore)


def _require_in_range(pairs: Sequence[Pair], classes: int, ignore: int) -> None:
    for pair in pairs:
        wrong = sorted(value for value in pair.values - {ignore} if not 0 <= value < classes)
        if wrong:
            what = f"a mask of {classes} classes holds the value {wrong[0]}"
            hint = f"name the class in classes.txt, or leave the value out with --ignore-index {wrong[0]}"
            raise DataError(what, str(pair.mask), hint)
