"""Torchvision's detectors: Faster R-CNN, the boxes of Mask R-CNN, RetinaNet, FCOS, SSD and SSDlite.

They take a list of images in 0..1, which they resize and normalise themselves. As in torchvision's references, class 0
is the background in all of them, in RetinaNet and FCOS too, whose scores of it mean nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork
from torchvision.models.detection.ssd import SSD
from torchvision.models.detection.ssdlite import SSDLiteClassificationHead

from attn_surgeon.errors import DataError, TrainingError, first_line
from attn_surgeon.tasks.detectors.base import Boxes, Detections
from attn_surgeon.tasks.detectors.heads import ClassLayer, replace_layers
from attn_surgeon.tasks.detectors.wrappers import unwrapped

_PRIOR = 0.01  # the score that focal loss starts from, of RetinaNet and FCOS
_HEADS = ("mask", "keypoint")
_COMPUTING = (
    GeneralizedRCNN,
    RetinaNet,
    FCOS,
    SSD,
    RegionProposalNetwork,
    RoIHeads,
)  # they compute losses in train mode


class TorchvisionDetector:
    """The adapter of torchvision's detectors."""

    def recognises(self, model: nn.Module) -> bool:
        """Return whether a network is one of torchvision's detectors."""
        return isinstance(unwrapped(model), (GeneralizedRCNN, RetinaNet, FCOS, SSD))

    def losses(self, model: nn.Module, images: list[Tensor], targets: list[Boxes]) -> Tensor:
        """Return the sum of the network's losses; the mask and keypoint heads of R-CNNs do not run.

        Raises:
            DataError: a box is empty or inverted.
        """
        with _boxes_only(model), _computing_losses(model), _data_errors():
            losses = model(images, [_target(boxes, images[0].device) for boxes in targets])
        total: Tensor = sum(losses.values())
        return total

    def predict(self, model: nn.Module, images: list[Tensor]) -> list[Detections]:
        """Return the detections by decreasing score; the mask and keypoint heads of R-CNNs do not run."""
        with _boxes_only(model):
            return [_detections(output) for output in model(images)]

    def classes(self, model: nn.Module) -> int:
        """Return the number of classes without the background."""
        network: Any = unwrapped(model)
        if isinstance(network, GeneralizedRCNN):
            return int(_box_predictor(network).cls_score.out_features) - 1
        head = network.head.classification_head
        return int(head.num_columns if isinstance(network, SSD) else head.num_classes) - 1

    def with_classes(self, model: nn.Module, class_names: tuple[str, ...], seed: int) -> nn.Module:
        """Return the network, changed in place, with new layers for these classes; the others keep their weights.

        Raises:
            TrainingError: grafts are at outputs of layers that are replaced, or a head is of an unknown type.
        """
        network: Any = unwrapped(model)
        classes = len(class_names) + 1
        if isinstance(network, GeneralizedRCNN):
            replace_layers(network, _rcnn_layers(network, classes), seed)
        elif isinstance(network, SSD):
            replace_layers(network, _ssd_layers(network, classes), seed)
            network.head.classification_head.num_columns = classes
        else:
            head = network.head.classification_head
            outputs = int(head.num_anchors) * classes
            layer = ClassLayer("head.classification_head.cls_logits", outputs, _focal_initialisation)
            replace_layers(network, [layer], seed)
            head.num_classes = classes
        return model


def _target(boxes: Boxes, device: object) -> dict[str, Tensor]:
    """Return the target of an image, without crowd regions and with class 0 for the background."""
    kept = ~boxes.crowd
    target = {"boxes": boxes.boxes[kept], "labels": boxes.labels[kept] + 1}
    return {key: value.to(device) for key, value in target.items()}  # type: ignore[call-overload]


def _detections(output: dict[str, Tensor]) -> Detections:
    kept = output["labels"] > 0
    return Detections(output["boxes"][kept], output["scores"][kept], output["labels"][kept] - 1)


@contextmanager
def _boxes_only(model: nn.Module) -> Iterator[None]:
    """Take the mask and keypoint predictors of an R-CNN out for a call; it then needs no such targets."""
    heads = getattr(unwrapped(model), "roi_heads", None)
    names = [f"{name}_predictor" for name in _HEADS if heads is not None]
    predictors = {name: getattr(heads, name) for name in names}
    try:
        for name in names:
            setattr(heads, name, None)
        yield
    finally:
        for name, predictor in predictors.items():
            setattr(heads, name, predictor)


@contextmanager
def _computing_losses(model: nn.Module) -> Iterator[None]:
    """Set the modules that compute losses to train mode; in eval mode the others drop and update nothing."""
    computing = [module for module in unwrapped(model).modules() if isinstance(module, _COMPUTING)]
    flags = [module.training for module in computing]
    try:
        for module in computing:
            module.training = True
        yield
    finally:
        for module, flag in zip(computing, flags, strict=True):
            module.training = flag


@contextmanager
def _data_errors() -> Iterator[None]:
    """Raise DataError for targets that torchvision refuses, such as empty boxes."""
    try:
        yield
    except AssertionError as error:
        raise DataError(first_line(error), "the boxes of a batch", "repair or remove these boxes") from error


def _box_predictor(network: GeneralizedRCNN) -> Any:
    predictor: Any = network.roi_heads.box_predictor
    if not isinstance(getattr(predictor, "cls_score", None), nn.Linear):
        what = f"the box predictor is a {type(predictor).__name__}, not a FastRCNNPredictor"
        raise TrainingError(what, "roi_heads.box_predictor", "set torchvision's FastRCNNPredictor in its place")
    return predictor


def _rcnn_layers(network: GeneralizedRCNN, classes: int) -> Iterator[ClassLayer]:
    _box_predictor(network)
    yield ClassLayer("roi_heads.box_predictor.cls_score", classes)
    yield ClassLayer("roi_heads.box_predictor.bbox_pred", 4 * classes)
    if network.roi_heads.has_mask():
        yield ClassLayer("roi_heads.mask_predictor.mask_fcn_logits", classes, _mask_initialisation)


def _ssd_layers(network: SSD, classes: int) -> Iterator[ClassLayer]:
    head, path = network.head.classification_head, "head.classification_head.module_list"
    lite = isinstance(head, SSDLiteClassificationHead)
    initialise = _ssdlite_initialisation if lite else _ssd_initialisation
    for number, anchors in enumerate(network.anchor_generator.num_anchors_per_location()):
        yield ClassLayer(f"{path}.{number}.1" if lite else f"{path}.{number}", anchors * classes, initialise)


def _mask_initialisation(layer: Any) -> None:
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")


def _ssd_initialisation(layer: Any) -> None:
    nn.init.xavier_uniform_(layer.weight)
    nn.init.zeros_(layer.bias)


def _ssdlite_initialisation(layer: Any) -> None:
    nn.init.normal_(layer.weight, std=0.03)
    nn.init.zeros_(layer.bias)


def _focal_initialisation(layer: Any) -> None:
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(layer.bias, -math.log((1 - _PRIOR) / _PRIOR))
