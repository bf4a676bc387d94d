"""The published CIFAR-10 ResNet-20 and 5,000 JPEG images, from a folder that holds both."""

from __future__ import annotations

import tarfile
from pathlib import Path

from attn_surgeon.artefact.opening import LoadedNetwork, open_network
from attn_surgeon.data import ImageData, open_dataset
from attn_surgeon.networks.preprocessing import PreprocessingOverrides

REPO = Path(__file__).parents[2]
DATA = REPO.parent / "shared" / "data"
CACHE = Path.home() / ".cache" / "attn-surgeon-data"
IMAGENET = PreprocessingOverrides((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (32, 32))


def resnet20(data: Path = DATA) -> LoadedNetwork:
    """Open the network with its published weights."""
    weights = data / "resnet20-12fca82f.th"
    return open_network(f"{REPO / 'examples' / 'cifar_resnet.py'}:resnet20", weights=str(weights), images=IMAGENET)


def images(loaded: LoadedNetwork, split: str = "val", data: Path = DATA) -> ImageData:
    """Open a split, unpacked once into the user's cache."""
    root = CACHE / "cifar10-jpeg"
    if not root.is_dir():
        with tarfile.open(data / "cifar10-jpeg.tar.xz") as archive:
            archive.extractall(CACHE, filter="data")
    return open_dataset(str(root), split, loaded.preprocessing)
