"""Images with masks: folders images/ and masks/, paired by name and inspected."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attn_surgeon.data.checks import InspectedImages, Inspection, for_each, inspect_file, require_readable
from attn_surgeon.data.folders import FOLDER_SPLITS, IMAGE_SUFFIXES, Files
from attn_surgeon.data.masks import Labelling, Pair, mask_values
from attn_surgeon.errors import DataError, ImageError, option

PAIR_FOLDERS = ("images", "masks")
LOSSLESS = IMAGE_SUFFIXES - {".jpeg", ".jpg", ".webp"}


@dataclass(frozen=True)
class InspectedPairs:
    """The inspected images of a split, and the mask of each image in their source."""

    images: InspectedImages
    masks: Sequence[Path]

    @property
    def pairs(self) -> list[Pair]:
        """The readable pairs."""
        source = self.images.source
        return [
            Pair(Path(source.name(index)), self.masks[index], (found.shape[1], found.shape[0]), frozenset(found.labels))
            for index, found in zip(self.images.chosen, self.images.inspections, strict=True)
            if found.error is None
        ]

    def subset(self, places: Iterable[int]) -> InspectedPairs:
        """Return some of the pairs."""
        kept, images = list(places), self.images
        chosen, found = [images.chosen[place] for place in kept], [images.inspections[place] for place in kept]
        return replace(self, images=replace(images, chosen=chosen, inspections=found))

    def labelled(self, labels: Labelling) -> InspectedImages:
        """Return the images with the classes that their masks show."""
        found = [replace(one, labels=labels.classes(one.labels)) for one in self.images.inspections]
        return replace(self.images, inspections=found)


def is_masked(spec: str) -> bool:
    """Whether data is a folder of images with masks, as a whole or in its splits."""
    root = Path(spec)
    return any(
        all((folder / name).is_dir() for name in PAIR_FOLDERS) for folder in (root, *map(root.joinpath, FOLDER_SPLITS))
    )


def paired_files(folder: Path) -> list[tuple[Path, Path]]:
    """Return a folder's images with their masks; raise DataError where one is without the other."""
    for name in PAIR_FOLDERS:
        if not (folder / name).is_dir():
            hint = f"expected images/ and masks/, each in train/ and val/, or once with {option('val_split', 0.2)}"
            raise DataError(f"there is no {name}/", str(folder), hint)
    images, masks = _by_name(folder / PAIR_FOLDERS[0], IMAGE_SUFFIXES), _by_name(folder / PAIR_FOLDERS[1], LOSSLESS)
    if not images:
        raise DataError("no images", str(folder / PAIR_FOLDERS[0]), f"supported: {', '.join(sorted(IMAGE_SUFFIXES))}")
    for found, others, kind in ((images, masks, "mask"), (masks, images, "image")):
        unpaired = [found[name] for name in found if name not in others]
        if unpaired:
            more = f" (and {len(unpaired) - 1} more)" if len(unpaired) > 1 else ""
            hint = f"a mask has its image's name and is one of {', '.join(sorted(LOSSLESS))}"
            raise DataError(f"this file is without its {kind}{more}", str(unpaired[0]), hint)
    return [(images[name], masks[name]) for name in images]


def _by_name(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """Return files at any depth by their names without suffixes, sorted."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if path.suffix.lower() not in suffixes or any(part.startswith(".") for part in inside.parts):
            continue
        name = inside.with_suffix("").as_posix()
        if name in found:
            raise DataError(f"two files of one name, {found[name].name} and {path.name}", str(path.parent), "keep one")
        found[name] = path
    return found


def inspect_pairs(files: Sequence[tuple[Path, Path]], *, decode: bool) -> InspectedPairs:
    """Read each mask, and decode each image or only its head; raise DataError where the two differ in size."""
    images, masks = [image for image, _ in files], [mask for _, mask in files]
    source = Files(images, [0] * len(files))
    found = for_each(lambda index: _inspect(source, index, masks[index], decode), range(len(files)), source)
    return InspectedPairs(InspectedImages(source, range(len(files)), found), masks)


def readable_pairs(folder: Path, max_bad: float = 0.0) -> list[Pair]:
    """Return a folder's images with their masks.

    Raises:
        DataError: if more than the fraction `max_bad` is unreadable; with 0, the error of the first.
    """
    found = inspect_pairs(paired_files(folder), decode=max_bad > 0)
    if found.images.errors and not max_bad:
        raise found.images.errors[0]
    require_readable(found.images, max_bad)
    return found.pairs


def _inspect(images: Files, index: int, mask: Path, decode: bool) -> Inspection:
    found = inspect_file(images, index, decode=decode)
    if found.error is not None:
        return found
    try:
        values = mask_values(mask)
    except ImageError as error:
        return Inspection(error=error)
    size = (found.shape[1], found.shape[0])
    if values.shape != size:
        what = f"the mask has {_by(values.shape)} pixels, its image {_by(size)}"
        raise DataError(what, str(mask), f"give both the same size ({images.name(index)})")
    return replace(found, labels=tuple(np.unique(values).tolist()))


def _by(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))
