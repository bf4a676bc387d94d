"""Pair and inspect the files of segmentation data: folders images/ and masks/, paired by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attn_surgeon.data.checks import InspectedImages, Inspection, for_each, inspect_file, require_readable
from attn_surgeon.data.folders import FOLDER_SPLITS, IMAGE_SUFFIXES, Files, files_by_name
from attn_surgeon.data.masks import Labelling, Pair, mask_values
from attn_surgeon.errors import DataError, ImageError, option

PAIR_FOLDERS = ("images", "masks")
LOSSLESS = IMAGE_SUFFIXES - {".jpeg", ".jpg", ".webp"}


@dataclass(frozen=True)
class InspectedPairs:
    """The inspected images of a split, and the paths of the masks by the index of the image in its source."""

    images: InspectedImages
    masks: Sequence[Path]

    @property
    def pairs(self) -> list[Pair]:
        """The readable pairs."""
        source = self.images.source
        return [
            Pair(Path(source.name(index)), self.masks[index], (item.shape[1], item.shape[0]), frozenset(item.labels))
            for index, item in zip(self.images.chosen, self.images.inspections, strict=True)
            if item.error is None
        ]

    def subset(self, positions: Iterable[int]) -> InspectedPairs:
        """Return the pairs at these positions."""
        positions, images = list(positions), self.images
        chosen = [images.chosen[position] for position in positions]
        inspections = [images.inspections[position] for position in positions]
        return replace(self, images=replace(images, chosen=chosen, inspections=inspections))

    def labelled(self, labels: Labelling) -> InspectedImages:
        """Return the images with the class numbers in their masks as labels."""
        inspections = [replace(item, labels=labels.classes(item.labels)) for item in self.images.inspections]
        return replace(self.images, inspections=inspections)


def is_masked(spec: str) -> bool:
    """Return whether data is a folder of images with masks, directly or in its splits."""
    root = Path(spec)
    return any(
        all((folder / name).is_dir() for name in PAIR_FOLDERS) for folder in (root, *map(root.joinpath, FOLDER_SPLITS))
    )


def paired_files(folder: Path) -> list[tuple[Path, Path]]:
    """Return the images and masks of a folder in pairs; raise DataError where one is without the other."""
    for name in PAIR_FOLDERS:
        if not (folder / name).is_dir():
            hint = f"expected images/ and masks/, each in train/ and val/, or once with {option('val_split', 0.2)}"
            raise DataError(f"there is no {name}/", str(folder), hint)
    images, masks = (
        files_by_name(folder / PAIR_FOLDERS[0], IMAGE_SUFFIXES),
        files_by_name(folder / PAIR_FOLDERS[1], LOSSLESS),
    )
    if not images:
        raise DataError("no images", str(folder / PAIR_FOLDERS[0]), f"supported: {', '.join(sorted(IMAGE_SUFFIXES))}")
    for files, others, kind in ((images, masks, "mask"), (masks, images, "image")):
        unpaired = [files[name] for name in files if name not in others]
        if unpaired:
            more = f" (and {len(unpaired) - 1} more)" if len(unpaired) > 1 else ""
            hint = f"a mask has its image's name and is one of {', '.join(sorted(LOSSLESS))}"
            raise DataError(f"this file has no {kind}{more}", str(unpaired[0]), hint)
    return [(images[name], masks[name]) for name in images]


def inspect_pairs(files: Sequence[tuple[Path, Path]], *, decode: bool) -> InspectedPairs:
    """Read each mask, and decode each image or only its header; raise DataError where the two differ in size."""
    images, masks = [image for image, _ in files], [mask for _, mask in files]
    source = Files(images, [0] * len(files))
    inspections = for_each(lambda index: _inspect(source, index, masks[index], decode), range(len(files)), source)
    return InspectedPairs(InspectedImages(source, range(len(files)), inspections), masks)


def readable_pairs(folder: Path, max_bad: float = 0.0) -> list[Pair]:
    """Return the readable images with masks of a folder.

    Raises:
        DataError: more than the fraction `max_bad` is unreadable; with 0, the error of the first one.
    """
    inspected = inspect_pairs(paired_files(folder), decode=max_bad > 0)
    if inspected.images.errors and not max_bad:
        raise inspected.images.errors[0]
    require_readable(inspected.images, max_bad)
    return inspected.pairs


def _inspect(images: Files, index: int, mask: Path, decode: bool) -> Inspection:
    inspection = inspect_file(images, index, decode=decode)
    if inspection.error is not None:
        return inspection
    try:
        values = mask_values(mask)
    except ImageError as error:
        return Inspection(error=error)
    size = (inspection.shape[1], inspection.shape[0])
    if values.shape != size:
        what = f"the mask has {_size_text(values.shape)} pixels, its image {_size_text(size)}"
        raise DataError(what, str(mask), f"resize one of them ({images.name(index)})")
    return replace(inspection, labels=tuple(np.unique(values).tolist()))


def _size_text(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))
