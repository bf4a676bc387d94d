"""Open datasets by timm's names: `torch/NAME` of torchvision, `hfds/USER/NAME` of the Hugging Face hub."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from attn_surgeon.data.folders import Files
from attn_surgeon.data.images import ImageSource, message_line
from attn_surgeon.errors import DataError, nearest, option

# Names of the splits in datasets, in order of preference; some datasets have only a test split.
SPLIT_ALIASES = {"train": ("train", "training"), "val": ("validation", "val", "valid", "eval", "test")}
_TORCH = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist", "qmnist", "imagenet", "places365", "image_folder")


class Rows:
    """A source of the encoded images of a Hugging Face dataset, from timm's reader."""

    def __init__(self, reader: Any, labels: Sequence[int], spec: str) -> None:
        self.reader, self.labels, self.spec = reader, labels, spec

    def name(self, index: int) -> str:
        """Return the dataset, the split and the index of an image."""
        return f"{self.spec} {self.reader.split}[{index}]"

    def open(self, index: int) -> BinaryIO:
        """Open the bytes of an image, or the file that its row refers to."""
        file: BinaryIO = self.reader[index][0]
        return file


class Decoded:
    """A source of the images of a torchvision dataset, which returns them decoded, encoded again as PPM."""

    def __init__(self, dataset: Any, labels: Sequence[int], spec: str) -> None:
        self.dataset, self.labels, self.spec = dataset, labels, spec

    def name(self, index: int) -> str:
        """Return the dataset and the index of an image."""
        return f"{self.spec}[{index}]"

    def open(self, index: int) -> BinaryIO:
        """Return an image as PPM, which is lossless and uncompressed."""
        image, file = self.dataset[index][0], io.BytesIO()
        (image if image.mode in ("L", "RGB") else image.convert("RGB")).save(file, "PPM")
        file.seek(0)
        return file


def open_torch(name: str, split: str, root: str | None, download: bool) -> tuple[ImageSource, tuple[str, ...]]:
    """Open a split of a torchvision dataset that is stored in the folder `root`."""
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
    """Return the labels and class names; every item is read where the dataset has no attribute `targets`."""
    targets = getattr(dataset, "targets", None)
    labels = [int(target) for target in ([item[1] for item in dataset] if targets is None else targets)]
    names = getattr(dataset, "classes", None) or range(max(labels, default=-1) + 1)
    # Classes of ImageNet have several names each.
    return labels, tuple(name if isinstance(name, str) else _joined(name) for name in names)


def _joined(name: Any) -> str:
    return ", ".join(name) if isinstance(name, tuple) else str(name)


def open_hfds(name: str, split: str, root: str | None, download: bool) -> tuple[ImageSource, tuple[str, ...]]:
    """Open a split of a Hugging Face dataset, or of a folder that `datasets.load_dataset` reads."""
    spec = f"hfds/{name}"
    splits = hfds_splits(name, root, download)
    found = next((alias for alias in SPLIT_ALIASES.get(split, (split,)) if alias in splits), split)
    if found.partition("[")[0] not in splits:  # a slice such as train[:10%] is valid too
        raise DataError(f"no split {split!r}", spec, f"splits here: {', '.join(splits)}")
    reader = _created(spec, found, root, download).reader
    labels = list(reader.iter_targets()) if hasattr(reader, "iter_targets") else [item[1] for item in reader]
    if not all(isinstance(label, int) for label in labels):
        raise DataError("the labels are not class numbers", spec, "the dataset needs a column `label` of ClassLabel")
    names = sorted(reader.class_to_idx, key=reader.class_to_idx.__getitem__)
    return Rows(reader, labels, spec), tuple(names or map(str, range(max(labels, default=-1) + 1)))


def hfds_splits(name: str, root: str | None, download: bool) -> list[str]:
    """Return the names of the splits of a Hugging Face dataset that is in the cache, or may be downloaded."""
    with _explained(f"hfds/{name}"), _hub_access(download):
        import datasets

        return [str(split) for split in datasets.load_dataset(name, cache_dir=root)]


def _created(spec: str, split: str, root: str | None, download: bool) -> Any:
    with _explained(spec), _hub_access(download):
        from timm.data import create_dataset

        return create_dataset(spec, root=root, split=split, download=download)


@contextmanager
def _hub_access(allowed: bool) -> Iterator[None]:
    """Set Hugging Face's libraries to offline mode until the context ends, unless downloads are allowed."""
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
    """Raise the errors of dataset libraries as a DataError of one line."""
    try:
        yield
    except ImportError as error:
        raise DataError("the package `datasets` is missing", spec, "pip install 'attn-surgeon[hfds]'") from error
    except AssertionError as error:
        name = spec.partition("/")[2]
        hint = nearest(name, _TORCH) or f"available: {', '.join(_TORCH)}"
        raise DataError(message_line(error), spec, hint) from error
    except Exception as error:  # each library raises errors of its own
        hint = f"pass its root folder as {option('data_dir', 'DIR')}, or download it: {option('download', True)}"
        raise DataError(f"cannot be opened ({message_line(error)[:200]})", spec, hint) from error
