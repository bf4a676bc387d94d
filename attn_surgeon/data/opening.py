"""Open what `--data` names: a folder, a dataset as timm names it, or a packaged demo task."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from attn_surgeon.data.folders import folder_splits, open_folder
from attn_surgeon.data.images import ImageData, Pictures, Source
from attn_surgeon.data.shards import open_shards, shard_splits
from attn_surgeon.data.timm_sets import hfds_splits, open_hfds, open_torch
from attn_surgeon.errors import DataError
from attn_surgeon.networks.demo.digits import CLASS_NAMES, TASKS, digits
from attn_surgeon.networks.preprocessing import Preprocessing


@dataclass(frozen=True)
class Place:
    """Say where named datasets lie, None for where their library keeps them, and whether they may be fetched."""

    root: str | None = None
    download: bool = False


HERE = Place()


def open_dataset(spec: str, split: str, preprocessing: Preprocessing, place: Place = HERE) -> ImageData:
    """Open a split of data, ready for a network; see `open_pictures`."""
    return open_pictures(spec, split, preprocessing.transform(), place)


def open_pictures(spec: str, split: str, transform: Callable[[Any], Any], place: Place = HERE) -> ImageData:
    """Open a split as what `transform` makes of its PIL images.

    `spec` is `demo`, `demo-clutter`, a folder of class folders, or one of timm's: `torch/NAME`, `hfds/USER/NAME`,
    `wds/SHARDS`. Raises DataError where there is no such data; nothing is fetched but where `place` allows it.
    """
    if spec in TASKS:
        return ImageData(digits(spec, split, transform=transform), CLASS_NAMES)
    source, class_names = _opened(spec, split, place)
    if not len(source.labels):
        raise DataError("no images", spec, "give data that has some")
    return ImageData(Pictures(source, transform), class_names)


def _opened(spec: str, split: str, place: Place) -> tuple[Source, tuple[str, ...]]:
    kind, _, name = spec.partition("/")
    match kind if name else "":
        case "torch":
            return open_torch(name, split, place.root, place.download)
        case "hfds":
            return open_hfds(name, split, place.root, place.download)
        case "wds":
            return open_shards(name, split, place.root, place.download)
        case "tfds" | "hfids":
            raise DataError(f"{kind}/ cannot be read image by image", spec, "give it as hfds/ or as wds/ shards")
    return open_folder(spec, split)


def has_parts(spec: str, place: Place = HERE) -> bool:
    """Tell whether data has parts of its own, such as train and val."""
    kind, _, name = spec.partition("/")
    match kind if name else "":
        case "torch":
            return True
        case "hfds":
            return len(hfds_splits(name, place.root, place.download)) > 1
        case "wds":
            return len(shard_splits(name, place.root)) > 1
    return spec in TASKS or bool(folder_splits(spec))
