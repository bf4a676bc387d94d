"""The published CIFAR-10 ResNet-20 and JPEG images of CIFAR-10, from the folder that ATTN_SURGEON_DATA names."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.opening import open_dataset
from attn_surgeon.networks.preprocessing import PreprocessingOverrides

REPO = Path(__file__).parents[2]
DATA = Path(os.environ.get("ATTN_SURGEON_DATA", REPO.parent / "shared" / "data"))
CACHE = Path.home() / ".cache" / "attn-surgeon-data"
IMAGENET = PreprocessingOverrides((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (32, 32))


def unpacked(name: str) -> Path:
    """Return the folder of an archive's images, unpacked once into the user's cache."""
    root = CACHE / name
    if not root.is_dir():
        with tarfile.open(DATA / f"{name}.tar.xz") as archive:
            archive.extractall(CACHE, filter="data")
    return root


def resnet20() -> LoadedNetwork:
    """Return the network with its published weights."""
    weights = DATA / "resnet20-12fca82f.th"
    return open_network(f"{REPO / 'examples' / 'cifar_resnet.py'}:resnet20", weights=str(weights), images=IMAGENET)


def images(loaded: LoadedNetwork, split: str = "val") -> ImageData:
    """Return the images of a split."""
    return open_dataset(str(unpacked("cifar10-jpeg")), split, loaded.preprocessing)
