"""Transformers' detectors: losses and detections are those of the library's own calls; heads for other classes."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon import insert, list_grafts
from attn_surgeon.errors import DataError, TrainingError
from attn_surgeon.tasks.detectors.base import detector_of

from .helpers import targets
from .tiny_detr import DETRS, EVERY, hf

ALL = pytest.mark.parametrize(
    "family", [name if name in DETRS else pytest.param(name, marks=pytest.mark.slow) for name in EVERY]
)
IGNORE_PADDING = ("YOLOS", "RT-DETR", "D-FINE", "RT-DETRv2", "DEIMv2")
PROCESSORS: dict[
    str, tuple[str, dict[str, Any]]
] = {  # and what makes them keep as many detections as there are queries
    "DETR": ("DetrImageProcessor", {}),
    "Conditional DETR": ("ConditionalDetrImageProcessor", {"top_k": 10}),
    "Deformable DETR": ("DeformableDetrImageProcessor", {"top_k": 10}),
    "YOLOS": ("YolosImageProcessor", {}),
    "RT-DETR": ("RTDetrImageProcessor", {}),
    "D-FINE": ("RTDetrImageProcessor", {}),
    "Table Transformer": ("DetrImageProcessor", {}),
    "DAB-DETR": ("ConditionalDetrImageProcessor", {"top_k": 10}),
    "Deformable DETR, one stage": ("DeformableDetrImageProcessor", {"top_k": 10}),
    "RT-DETRv2": ("RTDetrImageProcessor", {}),
    "DEIMv2": ("RTDetrImageProcessor", {}),
    "LW-DETR": ("DeformableDetrImageProcessor", {"top_k": 10}),
    "RF-DETR": ("RfDetrImageProcessor", {}),
}


def images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(3, *size, generator=generator) for size in ((64, 64), (64, 96))]


def padded(family: str, *items: Tensor) -> dict[str, Any]:
    """Return the arguments that mean images of 64 × 64 or 64 × 96, padded by hand: RF-DETR's to squares."""
    height, width = 64, max(image.shape[2] for image in items)
    batch = torch.zeros(len(items), 3, width if family == "RF-DETR" else height, width)
    mask = torch.zeros(len(items), *batch.shape[2:], dtype=torch.long)
    for number, image in enumerate(items):
        batch[number, :, :64, : image.shape[2]] = image
        mask[number, :64, : image.shape[2]] = 1
    return {"pixel_values": batch, **({} if family == "YOLOS" else {"pixel_mask": mask})}


def library_call(family: str) -> dict[str, Any]:
    """Return the arguments that mean `images()` and `targets()`, written out by hand."""
    width = 96 if family in IGNORE_PADDING else 64
    boxes = torch.tensor([[17 / width, 23 / 64, 26 / width, 34 / 64], [40 / width, 30 / 64, 40 / width, 40 / 64]])
    labels = [
        {"class_labels": torch.tensor([0, 2]), "boxes": boxes},
        {"class_labels": torch.zeros(0, dtype=torch.long), "boxes": torch.zeros(0, 4)},
    ]
    return {"labels": labels, **padded(family, *images())}


@ALL
def test_the_loss_is_that_of_the_library(family: str) -> None:
    network: Any = EVERY[family](3).train()
    torch.manual_seed(3)
    expected = network(**library_call(family)).loss
    torch.manual_seed(3)
    loss = detector_of(network).losses(network, images(), targets())
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert torch.isfinite(detector_of(network).losses(network, images()[1:], targets()[1:]))  # no box at all


@ALL
def test_detections_are_those_of_the_library_image_by_image(family: str) -> None:
    network: Any = EVERY[family](3).eval()
    name, options = PROCESSORS[family]
    processor = getattr(hf, name)()
    with torch.no_grad():
        found = detector_of(network).predict(network, images())
        for own, image in zip(found, images(), strict=True):
            output = network(**padded(family, image))
            sizes = {"target_sizes": [tuple(image.shape[1:])]}
            [other] = processor.post_process_object_detection(output, threshold=0.0, **sizes, **options)
            order = other["scores"].argsort(descending=True, stable=True)
            assert len(own.scores) == 10
            assert torch.allclose(own.scores, other["scores"][order], atol=1e-6)
            assert torch.allclose(own.boxes, other["boxes"][order], atol=1e-3)
            assert torch.equal(own.labels, other["labels"][order])


@ALL
def test_a_head_for_other_classes_is_like_a_new_networks_and_the_rest_is_kept(family: str) -> None:
    network: Any = EVERY[family](3)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    detector = detector_of(network)
    again: Any = detector.with_classes(deepcopy(network), tuple("abcdef"), 5)
    detector.with_classes(network, tuple("abcdef"), 5)
    assert detector.classes(network) == 6
    assert network.config.id2label == dict(enumerate("abcdef"))
    torch.manual_seed(5)
    fresh = type(network)(network.config).state_dict()
    state = network.state_dict()
    changed = {key for key in state if state[key].shape != before[key].shape}
    assert changed
    assert list(state) == list(before) == list(fresh)
    assert all(
        torch.equal(state[key], fresh[key]) and torch.equal(state[key], again.state_dict()[key]) for key in changed
    )
    assert all(torch.equal(state[key], before[key]) for key in state if key not in changed)
    with torch.no_grad():
        found = detector.predict(network.eval(), images())
    assert all(int(item.labels.max()) < 6 for item in found)
    assert torch.isfinite(detector.losses(network.train(), images(), targets()))


def test_a_configuration_that_two_networks_share_is_not_changed_in_the_other() -> None:
    first: Any = DETRS["DETR"](3)
    second: Any = type(first)(first.config)
    detector_of(first).with_classes(first, ("a",), 0)
    assert (first.config.num_labels, first.model.config.num_labels, second.config.num_labels) == (1, 1, 3)


def test_as_many_classes_as_before_get_new_weights_too() -> None:
    network: Any = DETRS["DETR"](3)
    before = network.class_labels_classifier.weight.clone()
    detector_of(network).with_classes(network, ("a", "b", "c"), 5)
    assert not torch.equal(network.class_labels_classifier.weight, before)


def test_grafts_elsewhere_are_kept_and_grafts_at_the_head_are_refused_by_name() -> None:
    network = DETRS["DETR"](3).eval()
    example = {"pixel_values": images()[0][None]}
    kept: Any = insert(network, "se", after="model.backbone.model.encoder.stages.2", example=example)
    detector_of(kept).with_classes(kept, ("a", "b"), 0)
    assert [graft.place for graft in list_grafts(kept)] == ["after model.backbone.model.encoder.stages.2"]
    assert detector_of(kept).losses(kept, images(), targets()[1:] * 2).item() > 0
    refused = insert(network, "se", after="class_labels_classifier", layout="NLC", example=example)
    with pytest.raises(TrainingError, match="grafts are in it: after class_labels_classifier;"):
        detector_of(refused).with_classes(refused, ("a",), 0)


def test_a_network_with_a_layer_more_than_its_configuration_is_refused() -> None:
    network: Any = DETRS["DETR"](3)
    network.extra = nn.Linear(2, 2)
    with pytest.raises(TrainingError, match="has other layers than its configuration builds"):
        detector_of(network).with_classes(network, ("a",), 0)


def test_a_network_that_returns_no_loss_is_refused() -> None:
    network: Any = DETRS["DETR"](3)
    network.forward = lambda pixel_values, labels: {"logits": pixel_values}
    with pytest.raises(DataError, match="DetrForObjectDetection returns no loss"):
        detector_of(network).losses(network, images(), targets())


def test_detectors_that_read_text_are_refused() -> None:
    sizes = {"text_config": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}}
    network = hf.OwlViTForObjectDetection(
        hf.OwlViTConfig(**sizes, vision_config={**sizes["text_config"], "image_size": 32})
    )
    with pytest.raises(DataError, match=r"OwlViTForObjectDetection is of no family .* transformers' DETR"):
        detector_of(network)
