"""Datasets for segmentation: whole images with masks for evaluation, and random crops of them for training."""

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

from attn_surgeon.data.checks import report_on, require_readable
from attn_surgeon.data.folders import FOLDER_SPLITS
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.mask_pairs import InspectedPairs, inspect_pairs, paired_files, readable_pairs
from attn_surgeon.data.masks import IGNORED, Labelling, Pair, labelling, mask_values, read_names, read_pixels
from attn_surgeon.data.settings import CropSettings, DataSettings
from attn_surgeon.data.splits import KEPT_BYTES, Splits, with_held_out
from attn_surgeon.data.subsets import balanced, held_out
from attn_surgeon.errors import DataError, option
from attn_surgeon.networks.preprocessing import Preprocessing


class Scenes(Dataset[tuple[Tensor, Tensor]]):
    """Serve images (C, H, W) with masks (H, W) of class numbers.

    Args:
        pairs: the files.
        labelling: the mapping of mask values to classes.
        preprocessing: its size is that of the sliding windows; images are normalised but not resized.
        overlap: the overlap of the sliding windows.
        keep: whether a small dataset is kept in memory.

    Attributes:
        labels: 0 for every image, so that any image can substitute an unreadable one.
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
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        pixels, mask = self.picture(index)
        return normalised(pixels, self.preprocessing), mask

    def picture(self, index: int) -> tuple[Tensor, Tensor]:
        """Return image `index` as uint8 (C, H, W), and its mask."""
        if index in self._kept:
            return self._kept[index]
        pair = self.pairs[index]
        item = read_pixels(pair.image, self.preprocessing.channels), self.labelling.numbered(mask_values(pair.mask))
        if self.keep:
            self._kept[index] = item
        return item


def normalised(pixels: Tensor, preprocessing: Preprocessing) -> Tensor:
    """Return uint8 pixels (C, H, W) as floats, normalised with the mean and std of the preprocessing."""
    mean, std = list(preprocessing.mean), list(preprocessing.std)
    return cast(Tensor, transforms.normalize(pixels.float() / 255, mean, std))


@dataclass(frozen=True)
class RandomCrop:
    """Crop an image and its mask to the size of the preprocessing, and flip both half of the time, drawn from a key."""

    preprocessing: Preprocessing
    flip: bool

    def __call__(self, dataset: Any, index: int, key: str) -> tuple[Tensor, Tensor]:
        """Return a crop of image `index` and its mask; a smaller image is padded with ignored pixels."""
        pixels, mask = dataset.picture(index)
        draw = random.Random(key)
        (height, width), (tall, wide) = mask.shape, self.preprocessing.size
        top, left = draw.randint(0, max(0, height - tall)), draw.randint(0, max(0, width - wide))
        image = normalised(pixels[:, top : top + tall, left : left + wide], self.preprocessing)
        mask = mask[top : top + tall, left : left + wide]
        missing = (0, wide - mask.shape[1], 0, tall - mask.shape[0])
        image, mask = F.pad(image, missing), F.pad(mask, missing, value=IGNORED)
        return (image.flip(-1), mask.flip(-1)) if self.flip and draw.random() < 0.5 else (image, mask)


def open_scene_splits(spec: str, preprocessing: Preprocessing, settings: CropSettings) -> Splits:
    """Open training and validation images with masks; raise DataError where images, masks or classes do not match."""
    root = Path(spec)
    if root.is_dir() and settings.val_split is None and not _has_splits(root):
        return with_held_out(lambda changed: open_scene_splits(spec, preprocessing, changed), settings)
    train, val, labels = _inspected(root, settings)
    window, keep = windowed(preprocessing, settings.crop), settings.workers == 0
    images = train.labelled(labels), val.labelled(labels)
    report = report_on(*images, labels.names, window.size, settings.leaks, small="padded")
    train_data, val_data = (
        ImageData(Scenes(split.pairs, labels, window, settings.overlap, keep), labels.names) for split in (train, val)
    )
    draws = [index for index, pair in enumerate(train.pairs) for _ in range(settings.crops or _covering(pair, window))]
    return Splits(train_data, val_data, RandomCrop(window, settings.augment), report, tuple(draws))


def _inspected(root: Path, settings: CropSettings) -> tuple[InspectedPairs, InspectedPairs, Labelling]:
    """Inspect training and validation images, and infer the classes from the masks."""
    files, val_files = _files(root, settings)
    # Validation images must be the same in each run and epoch, so the unreadable ones are found now, by decoding all.
    train, val = inspect_pairs(files, decode=False), inspect_pairs(val_files, decode=True)
    all_pairs = train.pairs  # classes are inferred from all masks, even if the number of training images is limited
    if settings.limit is not None:
        train = train.subset(balanced([0] * len(files), settings.limit))
    for split in (train, val):
        require_readable(split.images, settings.max_bad)
    labels = labelling([*all_pairs, *val.pairs], read_names(root), settings.ignore_index)
    require_labelled(val.pairs, labels)
    return train, val, labels


def open_scenes(
    spec: str, split: str, preprocessing: Preprocessing, names: tuple[str, ...], settings: CropSettings
) -> ImageData:
    """Open one split for a network with these classes; not all of them need occur in the data."""
    root = Path(spec)
    if _has_splits(root) and not (root / split).is_dir():
        raise DataError(f"no split {split!r}", spec, f"splits are {', '.join(FOLDER_SPLITS)}")
    pairs = readable_pairs(root / split if _has_splits(root) else root, settings.max_bad)
    listed = read_names(root)
    if listed is not None and len(listed) != len(names):
        what = f"classes.txt lists {len(listed)} classes, the network has {len(names)}"
        raise DataError(what, spec, "use a network with these classes")
    labels = labelling(pairs, listed or names, settings.ignore_index)
    require_labelled(pairs, labels)
    if settings.limit is not None:
        pairs = [pairs[index] for index in balanced([0] * len(pairs), settings.limit)]
    return ImageData(Scenes(pairs, labels, preprocessing, settings.overlap, keep=False), labels.names)


def windowed(preprocessing: Preprocessing, crop: int | None) -> Preprocessing:
    """Return the preprocessing with the crop size, if any, as its size."""
    return preprocessing if crop is None else replace(preprocessing, size=(crop, crop), crop_pct=1.0)


def require_labelled(pairs: Sequence[Pair], labels: Labelling) -> None:
    """Raise DataError where all pixels of a mask are ignored."""
    for pair in pairs:
        if pair.values <= {labels.ignore}:
            raise DataError("every pixel of this mask is ignored", str(pair.mask), "remove it and its image")


def _files(root: Path, settings: DataSettings) -> tuple[Sequence[tuple[Path, Path]], Sequence[tuple[Path, Path]]]:
    """Return the (image, mask) files of the training and of the validation split."""
    if not root.is_dir():
        raise DataError("no such folder", str(root), "expected a folder with images/ and masks/")
    if settings.val_split is None:
        return paired_files(root / "train"), paired_files(root / "val")
    pairs = paired_files(root / "train" if _has_splits(root) else root)
    if len(pairs) < 2:
        raise DataError("a single image cannot be split", option("val_split"), "add images")
    count = held_out(settings.val_split, len(pairs))
    validation = set(random.Random(f"split:{settings.seed}").sample(range(len(pairs)), count))
    splits: tuple[list[tuple[Path, Path]], list[tuple[Path, Path]]] = [], []
    for index, files in enumerate(pairs):
        splits[index in validation].append(files)
    return splits


def _has_splits(root: Path) -> bool:
    return any((root / split / "images").is_dir() for split in FOLDER_SPLITS)


def _covering(pair: Pair, window: Preprocessing) -> int:
    """Return the number of crops that together have as many pixels as an image."""
    return max(1, round(math.prod(pair.size) / math.prod(window.size)))
