"""Datasets that timm knows by name: torchvision's as `torch/NAME`, Hugging Face's as `hfds/USER/NAME`."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from attn_surgeon.data.folders import Files
from attn_surgeon.data.images import ImageSource, message_line
from attn_surgeon.errors import DataError, nearest, option

# names of the validation split; some datasets have a test split only
PARTS = {"train": ("train", "training"), "val": ("validation", "val", "valid", "eval", "test")}
_TORCH = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist", "imagenet", "places365", "image_folder")


class Rows:
    """The undecoded images of a Hugging Face dataset as timm reads it."""

    def __init__(self, reader: Any, labels: Sequence[int], spec: str) -> None:
        self.reader, self.labels, self.spec = reader, labels, spec

    def name(self, index: int) -> str:
        """Return the name of a row."""
        return f"{self.spec} {self.reader.split}[{index}]"

    def open(self, index: int) -> BinaryIO:
        """Open the bytes of a row's image, or the file that it refers to."""
        file: BinaryIO = self.reader[index][0]
        return file


class Decoded:
    """The images of a torchvision dataset, which come decoded, as portable pixmaps."""

    def __init__(self, dataset: Any, labels: Sequence[int], spec: str) -> None:
        self.dataset, self.labels, self.spec = dataset, labels, spec

    def name(self, index: int) -> str:
        """Return the dataset and the index."""
        return f"{self.spec}[{index}]"

    def open(self, index: int) -> BinaryIO:
        """Encode an image without loss, at the cost of a copy."""
        image, file = self.dataset[index][0], io.BytesIO()
        (image if image.mode in ("L", "RGB") else image.convert("RGB")).save(file, "PPM")
        file.seek(0)
        return file


def open_torch(name: str, split: str, root: str | None, download: bool) -> tuple[ImageSource, tuple[str, ...]]:
    """Open a split of one of torchvision's datasets, stored in the folder `root`."""
    spec = f"torch/{name}"
    if root is None:
        raise DataError("the dataset's root folder is missing", spec, f"pass {option('data_dir', 'DIR')}")
    dataset = _created(spec, split, root, download)
    labels, names = _torch_labels(dataset)
    files = getattr(dataset, "samples", None) or getattr(dataset, "imgs", None)
    if files:
        return Files([Path(file) for file, _ in files], labels), names
    return Decoded(dataset, labels, spec), names


def _torch_labels(dataset: Any) -> tuple[list[int], tuple[str, ...]]:
    """Return labels and class names; a dataset without a list of labels is read item by item."""
    targets = getattr(dataset, "targets", None)
    found = [item[1] for item in dataset] if targets is None else targets
    labels = [int(target) for target in found]
    names = getattr(dataset, "classes", None) or range(max(labels, default=-1) + 1)
    # ImageNet's classes have several names each
    return labels, tuple(name if isinstance(name, str) else _joined(name) for name in names)


def _joined(name: Any) -> str:
    return ", ".join(name) if isinstance(name, tuple) else str(name)


def open_hfds(name: str, split: str, root: str | None, download: bool) -> tuple[ImageSource, tuple[str, ...]]:
    """Open a split of a Hugging Face dataset, or of a folder that `datasets.load_dataset` reads."""
    spec = f"hfds/{name}"
    there = hfds_splits(name, root, download)
    known = [part for part in PARTS.get(split, (split,)) if part in there] or [split]
    if known[0].partition("[")[0] not in there:  # a slice such as train[:10%] is valid too
        raise DataError(f"no split {split!r}", spec, f"splits here: {', '.join(there)}")
    reader = _created(spec, known[0], root, download).reader
    labels = list(reader.iter_targets()) if hasattr(reader, "iter_targets") else [item[1] for item in reader]
    if not all(isinstance(label, int) for label in labels):
        raise DataError("its labels are not class numbers", spec, "it needs a column `label` of type ClassLabel")
    names = sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__)
    return Rows(reader, labels, spec), tuple(names or map(str, range(max(labels, default=-1) + 1)))


def hfds_splits(name: str, root: str | None, download: bool) -> list[str]:
    """Return the splits of a Hugging Face dataset that is stored here, or may be downloaded."""
    with _explained(f"hfds/{name}"), _hub_access(download):
        import datasets

        return [str(split) for split in datasets.load_dataset(name, cache_dir=root)]


def _created(spec: str, split: str, root: str | None, download: bool) -> Any:
    with _explained(spec), _hub_access(download):
        from timm.data import create_dataset

        return create_dataset(spec, root=root, split=split, download=download)


@contextmanager
def _hub_access(allowed: bool) -> Iterator[None]:
    """Keep Hugging Face's libraries offline unless downloads are allowed: they would download without asking."""
    try:
        import datasets
        import huggingface_hub.constants as hub
    except ImportError:
        yield
        return
    before = hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE
    if not allowed:
        hub.HF_HUB_OFFLINE = datasets.config.HF_HUB_OFFLINE = True
    try:
        yield
    finally:
        hub.HF_HUB_OFFLINE, datasets.config.HF_HUB_OFFLINE = before


@contextmanager
def _explained(spec: str) -> Iterator[None]:
    """Raise a library's error as a DataError of one line."""
    try:
        yield
    except ImportError as error:
        raise DataError("the package `datasets` is missing", spec, "pip install 'attn-surgeon[hfds]'") from error
    except AssertionError as error:
        name = spec.partition("/")[2]
        hint = nearest(name, _TORCH) or f"there are {', '.join(_TORCH)}"
        raise DataError(message_line(error), spec, hint) from error
    except Exception as error:  # each library raises its own
        hint = f"pass its root folder as {option('data_dir', 'DIR')}, or download it: {option('download', True)}"
        raise DataError(f"cannot be opened ({message_line(error)[:200]})", spec, hint) from error
