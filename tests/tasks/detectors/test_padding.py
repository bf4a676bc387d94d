"""Images of any size are padded to sizes that a network takes; boxes are in pixels of the images."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_convert

from attn_surgeon.data.boxes.boxes import Boxes
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.detectors.base import detector_of
from attn_surgeon.tasks.detectors.padding import Sizes, padded, sizes_of

from .helpers import targets
from .test_transformers import images, library_call
from .tiny_detr import EVERY, hf, lw_detr, rf_detr

IMAGE = torch.randn(3, 70, 90, generator=torch.Generator().manual_seed(1))
BOXES = Boxes(torch.tensor([[9.0, 7.0, 45.0, 42.0]]), torch.tensor([2]), torch.tensor([False]))
# the size (H, W) that the image is padded to, and the one that boxes are fractions of
PADDED = {"RT-DETR": ((96, 96), (96, 96)), "LW-DETR": ((80, 96), (70, 90)), "RF-DETR": ((96, 96), (70, 90))}


def by_hand(family: str) -> dict[str, Tensor]:
    (height, width), _ = PADDED[family]
    margin = (0, width - 90, 0, height - 70)
    mask = F.pad(torch.ones(1, 70, 90, dtype=torch.long), margin)
    return {"pixel_values": F.pad(IMAGE, margin)[None], "pixel_mask": mask}


@pytest.mark.parametrize("family", PADDED)
def test_the_loss_and_the_detections_of_an_image_of_another_size_are_those_of_the_padded_one(family: str) -> None:
    network: Any = EVERY[family](3).eval()
    detector, (height, width) = detector_of(network), PADDED[family][1]
    pixels = torch.tensor([width, height, width, height])
    box = torch.tensor([[27.0, 24.5, 36.0, 35.0]]) / pixels
    network.config.group_detr = 1
    with torch.no_grad():
        loss = network(**by_hand(family), labels=[{"class_labels": torch.tensor([2]), "boxes": box}]).loss
        output = network(**by_hand(family))
        network.config.group_detr = 2
        assert detector.losses(network, [IMAGE], [BOXES]).item() == pytest.approx(loss.item(), rel=1e-5)
        [found] = detector.predict(network, [IMAGE])
    scores, place = output.logits[0].sigmoid().flatten().topk(10)
    boxes = box_convert(output.pred_boxes[0], "cxcywh", "xyxy")[place // 3] * pixels
    assert torch.allclose(found.scores, scores, atol=1e-6)
    assert torch.allclose(found.boxes, boxes, atol=1e-3)


@pytest.mark.parametrize(("build", "family"), [(lw_detr, "LW-DETR"), (rf_detr, "RF-DETR")])
def test_the_loss_in_eval_mode_is_that_of_a_network_with_one_group_of_queries(build: Any, family: str) -> None:
    network, single = build(3).eval(), build(3, group_detr=1).eval()
    state = network.state_dict()
    first = {key: state[key][: len(value)] if value.ndim else value for key, value in single.state_dict().items()}
    single.load_state_dict(first)
    with torch.no_grad():
        loss = detector_of(network).losses(network, images(), targets())
        assert loss.item() == pytest.approx(single(**library_call(family)).loss.item(), rel=1e-5)
    assert network.config.group_detr == 2


def test_the_task_runs_a_network_on_samples_that_it_takes_only_padded() -> None:
    network = EVERY["LW-DETR"](3).eval()
    sizes: list[torch.Size] = []
    network.register_forward_pre_hook(
        lambda own, args, kwargs: sizes.append(kwargs["pixel_values"].shape), with_kwargs=True
    )
    with torch.no_grad():
        get_task("detection").run(network, IMAGE[None])
    assert sizes == [(1, 3, 80, 96)]


def test_sizes_are_multiples_and_squares_where_they_must_be() -> None:
    shapes = [torch.zeros(1, 3, 17), torch.zeros(1, 9, 4)]
    batch, mask = padded(shapes, Sizes(8, square=True))
    assert tuple(batch.shape) == (2, 1, 24, 24)
    assert mask.sum((1, 2)).tolist() == [51, 36]
    assert Sizes(8).smallest(shapes) == (16, 24)
    assert sizes_of(SimpleNamespace(model_type="detr", backbone_config=hf.ResNetConfig())) == Sizes()
