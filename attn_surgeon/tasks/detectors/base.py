"""The interface to a family of detectors, and boxes as all of them take and return them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Protocol

from torch import Tensor, nn

from attn_surgeon.data.boxes.boxes import Boxes
from attn_surgeon.errors import DataError

__all__ = ["Boxes", "Detections", "Detector", "detector_of", "find_detector", "register_detector"]

# The adapter of each family, imported on first use. To add a family, add a file and a line here.
FAMILIES = {
    "torchvision's detectors": "attn_surgeon.tasks.detectors.torchvision:TorchvisionDetector",
    "transformers' DETR and its successors": "attn_surgeon.tasks.detectors.transformers:TransformersDetector",
}


@dataclass(frozen=True)
class Detections:
    """The detections in an image.

    Args:
        boxes: (K, 4) float32, x1 y1 x2 y2 in pixels of the image tensor that the network got.
        scores: (K,) float32.
        labels: (K,) int64, class numbers from 0, without background.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class Detector(Protocol):
    """A family of networks that detect objects, such as torchvision's. Instances have no state."""

    def recognises(self, model: nn.Module) -> bool:
        """Return whether a network is of this family."""
        ...

    def losses(self, model: nn.Module, images: list[Tensor], targets: list[Boxes]) -> Tensor:
        """Return the loss (scalar) of images (C, H, W); in eval mode without dropout or updates of statistics."""
        ...

    def predict(self, model: nn.Module, images: list[Tensor]) -> list[Detections]:
        """Return the detections in images (C, H, W); the network is in eval mode."""
        ...

    def classes(self, model: nn.Module) -> int:
        """Return the number of classes, without background."""
        ...

    def with_classes(self, model: nn.Module, class_names: tuple[str, ...], seed: int) -> nn.Module:
        """Return the network with a head for these classes; it may be changed in place."""
        ...


_REGISTERED: list[Detector] = []


def register_detector(detector: Detector) -> None:
    """Add the adapter of a family of detectors; it is asked before those that are there."""
    _REGISTERED.insert(0, detector)


def find_detector(model: nn.Module) -> Detector | None:
    """Return the adapter of a network, or None where it is of no supported family."""
    for detector in (*_REGISTERED, *map(_imported, FAMILIES.values())):
        if detector.recognises(model):
            return detector
    return None


def _imported(place: str) -> Detector:
    module, _, name = place.partition(":")
    detector: Detector = getattr(import_module(module), name)()
    return detector


def detector_of(model: nn.Module) -> Detector:
    """Return the adapter of a network, or of the network within a wrapper such as DistributedDataParallel.

    Raises:
        DataError: the network is of no family that is supported.
    """
    detector = find_detector(model)
    if detector is not None:
        return detector
    what = f"{type(model).__name__} is of no family of detectors that is supported"
    raise DataError(what, "detection", f"there are adapters for {', '.join(FAMILIES)}")
