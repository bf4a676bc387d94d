"""The data of segmentation: whole images to measure on, and crops of them to train on."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.v2 import functional as transforms

from attn_surgeon.data import SPLITS, ImageData
from attn_surgeon.data.checks import report, require_readable
from attn_surgeon.data.mask_pairs import Seen, find_files, find_pairs, look_at_pairs
from attn_surgeon.data.masks import IGNORED, Labelling, Pair, labelling, mask_values, read_names, read_pixels
from attn_surgeon.data.parts import KEPT_BYTES, Parts, split_off
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.accuracy import balanced
from attn_surgeon.finetune.settings import Settings
from attn_surgeon.networks.preprocessing import Preprocessing


class Scenes(Dataset[tuple[Tensor, Tensor]]):
    """Serve images (C, H, W) with masks (H, W) of class numbers; where they are few, each is read once and kept.

    `overlap` is that of the windows, of the preprocessing's size, in which a network looks at an image. `labels` are
    alike, as for images of one class: each can stand in for any other.
    """

    def __init__(
        self, pairs: Sequence[Pair], labelling: Labelling, preprocessing: Preprocessing, overlap: float, keep: bool
    ) -> None:
        self.pairs, self.labelling, self.preprocessing, self.overlap = list(pairs), labelling, preprocessing, overlap
        self.labels = [0] * len(self.pairs)
        size = sum(math.prod(pair.size) for pair in pairs) * (preprocessing.channels + 1)
        self.keep = keep and size <= KEPT_BYTES
        self._kept: dict[int, tuple[Tensor, Tensor]] = {}

    def __len__(self) -> int:
        """Count the images."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Give image `index`, normalised, and its mask."""
        pixels, mask = self.picture(index)
        return normalised(pixels, self.preprocessing), mask

    def picture(self, index: int) -> tuple[Tensor, Tensor]:
        """Give image `index` as bytes (C, H, W), and its mask."""
        if index in self._kept:
            return self._kept[index]
        pair = self.pairs[index]
        item = read_pixels(pair.image, self.preprocessing.channels), self.labelling.numbered(mask_values(pair.mask))
        if self.keep:
            self._kept[index] = item
        return item


def normalised(pixels: Tensor, known: Preprocessing) -> Tensor:
    """Turn bytes (C, H, W) into what the network expects."""
    return cast(Tensor, transforms.normalize(pixels.float() / 255, list(known.mean), list(known.std)))


@dataclass(frozen=True)
class Crop:
    """Take a part of the preprocessing's size of an image and its mask, mirrored half of the time.

    A key decides all draws.
    """

    preprocessing: Preprocessing
    mirror: bool

    def __call__(self, dataset: Any, index: int, key: str) -> tuple[Tensor, Tensor]:
        """Crop image `index`; where it is smaller, it is filled up with pixels that count for nothing."""
        pixels, mask = dataset.picture(index)
        dice = random.Random(key)
        (height, width), (tall, wide) = mask.shape, self.preprocessing.size
        top, left = dice.randint(0, max(0, height - tall)), dice.randint(0, max(0, width - wide))
        image = normalised(pixels[:, top : top + tall, left : left + wide], self.preprocessing)
        mask = mask[top : top + tall, left : left + wide]
        missing = (0, wide - mask.shape[1], 0, tall - mask.shape[0])
        image, mask = F.pad(image, missing), F.pad(mask, missing, value=IGNORED)
        return (image.flip(-1), mask.flip(-1)) if self.mirror and dice.random() < 0.5 else (image, mask)


def open_scenes(spec: str, preprocessing: Preprocessing, settings: Settings) -> Parts:
    """Open images and masks to train on and to measure on; raise DataError where something does not fit."""
    root = Path(spec)
    if root.is_dir() and settings.val_split is None and not _has_parts(root):
        return split_off(lambda changed: open_scenes(spec, preprocessing, changed), settings)
    seen, measured, labels = _looked_at(root, settings)
    window, keep = windowed(preprocessing, settings.crop), settings.workers == 0
    parts = seen.labelled(labels), measured.labelled(labels)
    found = report(*parts, labels.names, window.size, settings.leaks, small="filled up")
    made = [Scenes(part.pairs, labels, window, settings.overlap, keep) for part in (seen, measured)]
    draws = [index for index, pair in enumerate(seen.pairs) for _ in range(settings.crops or _covering(pair, window))]
    first, second = (ImageData(scenes, labels.names) for scenes in made)
    return Parts(first, second, Crop(window, settings.augment), found, tuple(draws))


def _looked_at(root: Path, settings: Settings) -> tuple[Seen, Seen, Labelling]:
    """Look at what is trained on and what is measured on, and find out what the masks' values mean."""
    files, held = _files(root, settings)
    # What is measured on must be the same images for each arm and epoch, so these are decoded once beforehand.
    seen, measured = look_at_pairs(files, whole=False), look_at_pairs(held, whole=True)
    every = seen.pairs  # classes are those of all masks, however few are trained on
    if settings.limit is not None:
        seen = seen.only(balanced([0] * len(files), settings.limit))
    for part in (seen.part, measured.part):
        require_readable(part, settings.max_bad)
    labels = labelling([*every, *measured.pairs], read_names(root), settings.ignore_index)
    require_labelled(measured.pairs, labels)
    return seen, measured, labels


def open_part(
    spec: str,
    split: str,
    preprocessing: Preprocessing,
    names: tuple[str, ...],
    *,
    limit: int | None = None,
    ignore: int | None = None,
    overlap: float = 0.25,
) -> ImageData:
    """Open one part of the data for a network that knows classes of these names, of which the data may show fewer."""
    root = Path(spec)
    if _has_parts(root) and not (root / split).is_dir():
        raise DataError(f"no split {split!r}", spec, f"splits are {', '.join(SPLITS)}")
    pairs = find_pairs(root / split if _has_parts(root) else root)
    said = read_names(root)
    if said is not None and len(said) != len(names):
        what = f"classes.txt names {len(said)} classes, the network tells {len(names)} apart"
        raise DataError(what, spec, "give a network for these classes")
    labels = labelling(pairs, said or names, ignore)
    require_labelled(pairs, labels)
    if limit is not None:
        pairs = [pairs[index] for index in balanced([0] * len(pairs), limit)]
    return ImageData(Scenes(pairs, labels, preprocessing, overlap, keep=False), labels.names)


def windowed(preprocessing: Preprocessing, crop: int | None) -> Preprocessing:
    """Give the preprocessing whose size is that of the crops."""
    return preprocessing if crop is None else replace(preprocessing, size=(crop, crop), crop_pct=1.0)


def require_labelled(pairs: Sequence[Pair], labels: Labelling) -> None:
    """Refuse masks to measure on that say nothing of any pixel."""
    for pair in pairs:
        if pair.values <= {labels.ignore}:
            raise DataError("this mask says nothing of any pixel", str(pair.mask), "remove it and its image")


def _files(root: Path, settings: Settings) -> tuple[Sequence[tuple[Path, Path]], Sequence[tuple[Path, Path]]]:
    if not root.is_dir():
        raise DataError("no such folder", str(root), "give one with images/ and masks/")
    if settings.val_split is None:
        return find_files(root / "train"), find_files(root / "val")
    found = find_files(root / "train" if _has_parts(root) else root)
    if len(found) < 2:
        raise DataError("one image only cannot be split", "--val-split", "add images")
    count = min(max(1, round(settings.val_split * len(found))), len(found) - 1)
    held = set(random.Random(f"split:{settings.seed}").sample(range(len(found)), count))
    parts: tuple[list[tuple[Path, Path]], list[tuple[Path, Path]]] = [], []
    for index, files in enumerate(found):
        parts[index in held].append(files)
    return parts


def _has_parts(root: Path) -> bool:
    return any((root / part / "images").is_dir() for part in SPLITS)


def _covering(pair: Pair, window: Preprocessing) -> int:
    """Count the crops that have as many pixels as an image."""
    return max(1, round(math.prod(pair.size) / math.prod(window.size)))
