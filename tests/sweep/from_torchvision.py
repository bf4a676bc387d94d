"""Networks of torchvision, at random weights and the smallest input they take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torchvision.models import get_model_builder, list_models

from attn_surgeon.surgery.running import Example

from .cases import Case, try_case
from .quick import build

SIZES = (64, 96, 112, 128, 160, 192, 224, 256, 299)
CLIPS = ((8, 64), (16, 64), (8, 112), (16, 112), (16, 224))  # frames, size
DETECTED = 128
BOXES = (8, 16, 32, 48, 64, 80, 96, 110, 122)  # sides
FEW_BOXES: dict[str, dict[str, Any]] = {
    "rcnn": {"box_score_thresh": 0.0, "box_detections_per_img": 5, "box_batch_size_per_image": 16}
    | {f"rpn_{when}_nms_top_n_{phase}": 20 for when in ("pre", "post") for phase in ("train", "test")},
    "": {"score_thresh": 0.0, "detections_per_img": 5, "topk_candidates": 20},
}


def names() -> list[str]:
    """List torchvision's architectures."""
    return list(list_models())


def task(name: str) -> str:
    """Name what the architecture is for, by the part of torchvision that holds it."""
    part = get_model_builder(name).__module__.removeprefix("torchvision.models.").partition(".")
    return part[0] if part[2] else "classification"


def family(name: str) -> str:
    """Name the file of torchvision that holds the architecture."""
    return str(get_model_builder(name).__module__.rpartition(".")[2])


def out_of_scope(name: str) -> str | None:
    """Say why an architecture is not swept."""
    return "quantised" if task(name) == "quantization" else None


def make_case(name: str, largest: int) -> Case:
    """Build the network at the smallest input it takes; raise the last size's error where it takes none."""
    torch.manual_seed(0)
    error: Exception = ValueError("it takes no size")
    model: nn.Module | None = None
    for extra, example, train_example in _ATTEMPTS.get(task(name), _attempts)(name):
        try:
            if extra or model is None:
                model = build(partial(_create, name, extra), largest)
            return try_case(model, example, train_example, loss=task(name) == "detection")
        except Exception as failure:  # each network says in its own way what it does not take
            error = failure
            model = None if extra else model
    raise error


def _create(name: str, extra: dict[str, Any]) -> nn.Module:
    """Call the builder, without weights and without slow initialisation."""
    builder: Callable[..., nn.Module] = get_model_builder(name)
    silent: dict[str, Any] = {key: None for key in inspect.signature(builder).parameters if key.startswith("weights")}
    if name in ("googlenet", "inception_v3"):
        silent["init_weights"] = False
    return builder(**silent, **extra)


Attempt = tuple[dict[str, Any], Example, Example]


def _attempts(name: str) -> Iterator[Attempt]:
    """Offer an image of each size: to the network as it is, then to one that is built for that size."""
    for size in SIZES:
        image = torch.randn(2, 3, size, size)
        yield {"image_size": size}, image, image
        yield {"input_size": (size, size)}, image, image
        yield {}, image, image


def _clips(name: str) -> Iterator[Attempt]:
    for frames, size in CLIPS:
        clip = torch.randn(2, 3, frames, size, size)
        yield {}, clip, clip


def _pairs(name: str) -> Iterator[Attempt]:
    """Offer two images, and two rounds of refinement."""
    first, second = torch.randn(2, 2, 3, 128, 128)
    yield {}, (first, second, 2), (first, second, 2)


def _scenes(name: str) -> Iterator[Attempt]:
    """Offer lists of two images, in train mode with what is on them."""
    images = list(torch.rand(2, 3, DETECTED, DETECTED))
    small = {} if name.startswith("ssd") else {"min_size": DETECTED, "max_size": DETECTED}
    few = FEW_BOXES["rcnn" if "rcnn" in name else ""]
    yield small | few, (images,), (images, [_target() for _ in images])


def _target() -> dict[str, torch.Tensor]:
    """Make boxes of every scale, for every level of a pyramid; each has a mask and key points too."""
    boxes = torch.tensor([[4.0, 4.0, 4.0 + side, 4.0 + side] for side in BOXES])
    masks = torch.zeros(len(BOXES), DETECTED, DETECTED, dtype=torch.uint8)
    for mask, side in zip(masks, BOXES, strict=True):
        mask[4 : 4 + side, 4 : 4 + side] = 1
    labels = torch.ones(len(BOXES), dtype=torch.int64)
    return {"boxes": boxes, "labels": labels, "masks": masks, "keypoints": torch.full((len(BOXES), 17, 3), 8.0)}


_ATTEMPTS: dict[str, Callable[[str], Iterator[Attempt]]] = {
    "video": _clips,
    "optical_flow": _pairs,
    "detection": _scenes,
}
