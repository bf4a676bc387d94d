"""Open data by its name: a folder, one of timm's named datasets, WebDataset shards, or a packaged demo dataset."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from attn_surgeon.data.folders import folder_splits, open_folder
from attn_surgeon.data.images import ImageData, ImageSource, Pictures
from attn_surgeon.data.settings import DataSettings
from attn_surgeon.data.shards import open_shards, shard_splits
from attn_surgeon.data.timm_sets import hfds_splits, open_hfds, open_torch
from attn_surgeon.errors import DataError
from attn_surgeon.networks.demo.digits import CLASS_NAMES, DEMO_DATASETS, digits
from attn_surgeon.networks.preprocessing import Preprocessing

_DEFAULTS = DataSettings()


def open_dataset(spec: str, split: str, preprocessing: Preprocessing, settings: DataSettings = _DEFAULTS) -> ImageData:
    """Return a split preprocessed for a network, as float tensors (C, H, W) and labels; see `open_pictures`."""
    return open_pictures(spec, split, preprocessing.transform(), settings)


def open_pictures(
    spec: str, split: str, transform: Callable[[Any], Any], settings: DataSettings = _DEFAULTS
) -> ImageData:
    """Return the transformed images of a split with their labels.

    Args:
        spec: `demo`, `demo-clutter`, a folder of class folders, or one of timm's names: `torch/NAME`,
            `hfds/USER/NAME`, `wds/SHARDS`.
        split: `train`, `val`, or another split that the dataset has.
        transform: a function of a PIL image.
        settings: where named datasets are stored, and whether missing ones may be downloaded.

    Raises:
        DataError: there is no such data, or it has no images.

    >>> data = open_pictures("demo", "val", lambda image: image.size)
    >>> len(data.dataset), data.dataset[0], data.class_names[:3]
    (539, ((32, 32), 1), ('0', '1', '2'))
    """
    if spec in DEMO_DATASETS:
        return ImageData(digits(spec, split, transform=transform), CLASS_NAMES)
    source, class_names = _opened(spec, split, settings)
    if not len(source.labels):
        raise DataError("the dataset has no images", spec)
    return ImageData(Pictures(source, transform), class_names)


def _opened(spec: str, split: str, settings: DataSettings) -> tuple[ImageSource, tuple[str, ...]]:
    kind, _, name = spec.partition("/")
    match kind if name else "":
        case "torch":
            return open_torch(name, split, settings.data_dir, settings.download)
        case "hfds":
            return open_hfds(name, split, settings.data_dir, settings.download)
        case "wds":
            return open_shards(name, split, settings.data_dir, settings.download)
        case "tfds" | "hfids":
            raise DataError(
                f"{kind}/ datasets have no random access", spec, "use the same data as hfds/ or as wds/ shards"
            )
    return open_folder(spec, split)


def has_splits(spec: str, settings: DataSettings = _DEFAULTS) -> bool:
    """Return whether data has predefined splits, such as train and val."""
    kind, _, name = spec.partition("/")
    match kind if name else "":
        case "torch":
            return True
        case "hfds":
            return len(hfds_splits(name, settings.data_dir, settings.download)) > 1
        case "wds":
            return len(shard_splits(name, settings.data_dir)) > 1
    return spec in DEMO_DATASETS or bool(folder_splits(spec))
