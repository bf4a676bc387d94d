"""Transformers' detectors: DETR and the networks that follow it, such as Deformable DETR, RT-DETR, D-FINE and YOLOS.

They take a batch of normalised images and compute their loss from labels; boxes are centre, width and height as
fractions of the image. A network whose logits have a class more than its configuration scores by softmax with the last
class for no object, as DETR does; the others score each class by a sigmoid.
"""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_convert

from attn_surgeon.artefact.tensors import split_tensors
from attn_surgeon.errors import DataError, TrainingError
from attn_surgeon.surgery.rewrite.operated_modules import original_class
from attn_surgeon.tasks.detectors.base import Boxes, Detections
from attn_surgeon.tasks.detectors.heads import set_layers
from attn_surgeon.tasks.detectors.padding import padded, sizes_of
from attn_surgeon.tasks.detectors.wrappers import unwrapped

# The types of their configurations, and whether padding is left out of the coordinates (by a mask of the pixels).
_TYPES = {
    "conditional_detr": True,
    "d_fine": False,
    "dab-detr": True,
    "deformable_detr": True,
    "deimv2": False,
    "detr": True,
    "lw_detr": True,
    "rf_detr": True,
    "rt_detr": False,
    "rt_detr_v2": False,
    "table-transformer": True,
    "yolos": False,
}


class TransformersDetector:
    """The adapter of transformers' detectors that are trained on boxes and class numbers."""

    def recognises(self, model: nn.Module) -> bool:
        """Return whether a network is a `...ForObjectDetection` of one of the supported types."""
        network = unwrapped(model)
        names = [(cls.__module__.partition(".")[0], cls.__name__) for cls in type(network).__mro__]
        detects = any(module == "transformers" and name.endswith("ForObjectDetection") for module, name in names)
        return detects and getattr(getattr(network, "config", None), "model_type", None) in _TYPES

    def losses(self, model: nn.Module, images: list[Tensor], targets: list[Boxes]) -> Tensor:
        """Return the network's own loss; images are padded to one size with zeros at the right and the bottom.

        Raises:
            DataError: the network does not return a loss.
        """
        network: Any = unwrapped(model)
        inputs = _inputs(network, images)
        masked, batch = _TYPES[network.config.model_type], inputs["pixel_values"]
        labels = [_label(boxes, image if masked else batch[0]) for boxes, image in zip(targets, images, strict=True)]
        with _groups_of_queries(network):
            loss = getattr(model(labels=labels, **inputs), "loss", None)
        if not isinstance(loss, Tensor):
            raise DataError(f"{type(network).__name__} returns no loss", "detection", "see that its forward is its own")
        return loss

    def predict(self, model: nn.Module, images: list[Tensor]) -> list[Detections]:
        """Return the detections by decreasing score, as many as the network has queries.

        Images are padded only to sizes that the network takes.
        """
        network: Any = unwrapped(model)
        places = defaultdict(list)
        for place, image in enumerate(images):
            places[tuple(image.shape[1:])].append(place)
        found: dict[int, Detections] = {}
        for size, same_size in places.items():
            inputs = _inputs(network, [images[place] for place in same_size])
            output = model(**inputs)
            masked = _TYPES[network.config.model_type] and "pixel_mask" in inputs
            height, width = size if masked else inputs["pixel_values"].shape[2:]
            pixels = torch.tensor([width, height, width, height], device=output.pred_boxes.device)
            boxes = box_convert(output.pred_boxes.float(), "cxcywh", "xyxy") * pixels
            batch = _scored(output.logits.float(), boxes, self.classes(model))
            found |= dict(zip(same_size, batch, strict=True))
        return [found[place] for place in range(len(images))]

    def classes(self, model: nn.Module) -> int:
        """Return the number of classes in the network's configuration."""
        network: Any = unwrapped(model)
        return int(network.config.num_labels)

    def with_classes(self, model: nn.Module, class_names: tuple[str, ...], seed: int) -> nn.Module:
        """Return the network, changed in place, with new layers for these classes; the others keep their weights.

        Raises:
            TrainingError: grafts are at outputs of layers that are replaced, or the network is not what its
                configuration builds.
        """
        network: Any = unwrapped(model)
        old, config = network.config, _named(network.config, class_names)
        set_layers(network, _class_layers(network, config, seed))
        for module in network.modules():
            if getattr(module, "config", None) is old:
                module.config = config
        return model


def _inputs(network: Any, images: list[Tensor]) -> dict[str, Tensor]:
    """Return the images as a padded batch and, where the network takes one, the mask of their pixels."""
    batch, mask = padded(images, sizes_of(network.config))
    takes_mask = "pixel_mask" in inspect.signature(network.forward).parameters
    return {"pixel_values": batch, "pixel_mask": mask} if takes_mask else {"pixel_values": batch}


@contextmanager
def _groups_of_queries(network: Any) -> Iterator[None]:
    """Set the number of groups of queries that the losses of LW-DETR and RF-DETR match to that of the mode.

    In eval mode there is one group, which transformers 5.24 divides into as many as there are in train mode.
    """
    config, groups = network.config, getattr(network.config, "group_detr", 1)
    try:
        if groups > 1 and not network.training:
            config.group_detr = 1
        yield
    finally:
        if groups > 1:
            config.group_detr = groups


def _label(boxes: Boxes, image: Tensor) -> dict[str, Tensor]:
    """Return the label of an image (C, H, W), without crowd regions."""
    kept, (height, width) = ~boxes.crowd, image.shape[1:]
    size = boxes.boxes.new_tensor([width, height, width, height])
    label = {
        "class_labels": boxes.labels[kept],
        "boxes": box_convert(boxes.boxes[kept] / size, "xyxy", "cxcywh"),
    }
    return {key: value.to(image.device) for key, value in label.items()}


def _scored(logits: Tensor, boxes: Tensor, classes: int) -> list[Detections]:
    """Return the best detections of each image, of logits (N, Q, K) and boxes (N, Q, 4) in pixels, Q of them."""
    queries = logits.shape[1]
    if logits.shape[2] == classes + 1:
        scores, labels = logits.softmax(2)[..., :-1].max(2)
        scores, query = scores.sort(1, descending=True)
        labels = labels.gather(1, query)
    else:
        scores, index = logits.sigmoid().flatten(1).topk(queries)
        query, labels = index // logits.shape[2], index % logits.shape[2]
    boxes = boxes.gather(1, query[..., None].expand(-1, -1, 4))
    return [Detections(*item) for item in zip(boxes, scores, labels, strict=True)]


def _named(config: Any, class_names: tuple[str, ...]) -> Any:
    """Return a copy of a configuration for these classes."""
    config = deepcopy(config)
    config.id2label = dict(enumerate(class_names))
    config.label2id = {name: number for number, name in enumerate(class_names)}
    return config


def _class_layers(network: nn.Module, config: Any, seed: int) -> dict[str, nn.Module]:
    """Return the layers of a new network of a configuration whose shape depends on the number of classes, by path."""
    factory: Any = original_class(network)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built: nn.Module = factory(config)
    with torch.device("meta"):
        wider: nn.Module = factory(_named(config, (*config.id2label.values(), "one more")))
    shapes = {name: tensor.shape for name, tensor in wider.state_dict().items()}
    if shapes.keys() != split_tensors(network)[0].keys():
        what = "the network has other layers than its configuration builds, so its head cannot be replaced"
        raise TrainingError(what, type(network).__name__, "build it for these classes and insert again")
    differ = {name for name, tensor in built.state_dict().items() if tensor.shape != shapes[name]}
    return {path: built.get_submodule(path) for path in sorted({name.rpartition(".")[0] for name in differ})}
