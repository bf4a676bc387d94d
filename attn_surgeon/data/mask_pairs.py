"""Images with masks: folders images/ and masks/, paired by name, and what looking at each pair gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from attn_surgeon.data import SPLITS, SUFFIXES
from attn_surgeon.data.checks import Look, Part, each, look
from attn_surgeon.data.folders import Files
from attn_surgeon.data.masks import Labelling, Pair, mask_values
from attn_surgeon.errors import DataError, ImageError

FOLDERS = ("images", "masks")
LOSSLESS = SUFFIXES - {".jpeg", ".jpg", ".webp"}


@dataclass(frozen=True)
class Seen:
    """Hold a part of the data: its images, what looking at each gave, and the mask of each image in the source."""

    part: Part
    masks: Sequence[Path]

    @property
    def pairs(self) -> list[Pair]:
        """List what can be read."""
        images = self.part.source
        return [
            Pair(Path(images.name(index)), self.masks[index], (seen.shape[1], seen.shape[0]), frozenset(seen.labels))
            for index, seen in zip(self.part.chosen, self.part.looks, strict=True)
            if seen.error is None
        ]

    def only(self, places: Iterable[int]) -> Seen:
        """Keep some."""
        kept, part = list(places), self.part
        chosen, looks = [part.chosen[place] for place in kept], [part.looks[place] for place in kept]
        return replace(self, part=replace(part, chosen=chosen, looks=looks))

    def labelled(self, labels: Labelling) -> Part:
        """Give the images with the classes that their masks show."""
        looks = [replace(seen, labels=labels.classes(seen.labels)) for seen in self.part.looks]
        return replace(self.part, looks=looks)


def is_masked(spec: str) -> bool:
    """Tell whether data is a folder of images with masks, as a whole or in its parts."""
    root = Path(spec)
    return any(all((folder / name).is_dir() for name in FOLDERS) for folder in (root, *map(root.joinpath, SPLITS)))


def find_files(folder: Path) -> list[tuple[Path, Path]]:
    """Pair a folder's images with their masks; raise DataError where one is without the other."""
    for name in FOLDERS:
        if not (folder / name).is_dir():
            hint = "images and masks lie in images/ and masks/, each in train/ and val/ or once with --val-split 0.2"
            raise DataError(f"there is no {name}/", str(folder), hint)
    images, masks = _named(folder / FOLDERS[0], SUFFIXES), _named(folder / FOLDERS[1], LOSSLESS)
    if not images:
        raise DataError("no images", str(folder / FOLDERS[0]), f"read are {', '.join(sorted(SUFFIXES))}")
    for found, others, kind in ((images, masks, "mask"), (masks, images, "image")):
        lonely = [found[name] for name in found if name not in others]
        if lonely:
            more = f", and so are {len(lonely) - 1} more" if len(lonely) > 1 else ""
            hint = f"masks are {', '.join(sorted(LOSSLESS))}, of the same name as the image"
            raise DataError(f"this file is without its {kind}{more}", str(lonely[0]), hint)
    return [(images[name], masks[name]) for name in images]


def _named(folder: Path, suffixes: frozenset[str]) -> dict[str, Path]:
    """List files at any depth by their names without suffixes, alphabetically."""
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


def look_at_pairs(files: Sequence[tuple[Path, Path]], *, whole: bool) -> Seen:
    """Read each mask, and each image at its head only or as a `whole`; raise DataError where the two do not fit."""
    images, masks = [image for image, _ in files], [mask for _, mask in files]
    source = Files(images, [0] * len(files))
    looks = each(lambda index: _look(source, index, masks[index], whole), range(len(files)), source)
    return Seen(Part(source, range(len(files)), looks), masks)


def find_pairs(folder: Path) -> list[Pair]:
    """Find a folder's images with their masks and look at each; raise DataError where one cannot be read."""
    seen = look_at_pairs(find_files(folder), whole=False)
    if seen.part.errors:
        raise seen.part.errors[0]
    return seen.pairs


def _look(images: Files, index: int, mask: Path, whole: bool) -> Look:
    seen = look(images, index, whole=whole)
    if seen.error is not None:
        return seen
    try:
        values = mask_values(mask)
    except ImageError as error:
        return Look(error=error)
    size = (seen.shape[1], seen.shape[0])
    if values.shape != size:
        what = f"the mask has {_by(values.shape)} pixels, its image {_by(size)}"
        raise DataError(what, str(mask), f"give both the same size ({images.name(index)})")
    return replace(seen, labels=tuple(np.unique(values).tolist()))


def _by(size: tuple[int, ...]) -> str:
    return "×".join(map(str, size))
