"""The networks and images of the study, and which modules of a network run one after the other."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.networks.preprocessing import PreprocessingOverrides
from tests.benchmarks import cifar


@dataclass(frozen=True)
class Subject:
    """A network and its data; `chain` names, by prefixes, the modules of which each takes what the one before made."""

    open: Callable[[], LoadedNetwork]
    data: Callable[[], Path]
    chain: Sequence[str]


def groceries() -> Path:
    """Return the folder of photographs of groceries, unpacked once into the user's cache."""
    root = cifar.CACHE / "groceries"
    if not root.is_dir():
        with tarfile.open(cifar.DATA / "groceries.tar") as archive:
            archive.extractall(cifar.CACHE, filter="data")
    return root


def efficientnet() -> LoadedNetwork:
    """Return EfficientNet-Lite0 with ImageNet weights, for images of 96 × 96."""
    weights = str(cifar.DATA / "tf_efficientnet_lite0.safetensors")
    return open_network("timm/tf_efficientnet_lite0", weights=weights, images=PreprocessingOverrides(size=(96, 96)))


SUBJECTS = {
    "cifar": Subject(
        cifar.resnet20, lambda: cifar.unpacked("cifar10-jpeg"), ("conv1", "bn1", "layer1.", "layer2.", "layer3.")
    ),
    "groceries": Subject(efficientnet, groceries, ("conv_stem", "bn1", "blocks.")),
}


def chained(loaded: LoadedNetwork, chain: Sequence[str]) -> list[str]:
    """Return the paths of the modules that run one after the other, each on the output of the one before."""
    paths = [path for path, _ in loaded.model.named_modules()]
    found: list[str] = []
    for prefix in chain:
        depth = 1 if not prefix.endswith(".") else 2 if prefix != "blocks." else 3
        found += [path for path in paths if path.count(".") == depth - 1 and path.startswith(prefix)]
    return found
