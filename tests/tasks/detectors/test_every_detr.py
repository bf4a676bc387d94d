"""Every type of transformers' detectors takes a graft, trains a step with it, and is scored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from attn_surgeon import graft_parameters, insert
from attn_surgeon.networks.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.settings import TaskSettings

from ...data.boxes.files import splits, write_voc
from .tiny_detr import EVERY

TASK, SETTINGS = get_task("detection"), TaskSettings(task="detection", augment=False)
TOKENS = {"YOLOS": "vit.encoder.layer.1", "LW-DETR": "model.backbone.backbone.encoder.layer.0"}
TOKENS |= {"RF-DETR": TOKENS["LW-DETR"]}


@pytest.mark.slow
@pytest.mark.parametrize("family", EVERY)
def test_a_graft_trains_and_the_network_is_scored(family: str, tmp_path: Path) -> None:
    network: Any = EVERY[family](2).eval()
    stages = (path for path, _ in network.named_modules() if path.endswith("encoder.stages.2"))
    place, layout = (TOKENS[family], "NLC") if family in TOKENS else (next(stages), "NCHW")
    model = insert(network, "se", after=place, layout=layout, example={"pixel_values": torch.rand(1, 3, 64, 64)})
    sized = Preprocessing(IMAGENET_MEAN, IMAGENET_STD, (64, 64))
    parts = TASK.open_splits(str(write_voc(tmp_path, splits(train=2, val=2))), sized, SETTINGS)
    dataset: Any = parts.train.dataset
    images, boxes = zip(*(dataset[index] for index in range(2)), strict=True)
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    before = [parameter.detach().clone() for parameter in graft_parameters(model)]
    loss, _ = TASK.batch_loss(model.train(), list(images), list(boxes), SETTINGS)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    assert any(not torch.equal(old, new) for old, new in zip(before, graft_parameters(model), strict=True))
    score = TASK.score(model, parts.val)
    assert 0 <= score.metric <= 1
    assert score.figures["objects"] == 4
    assert torch.isfinite(torch.tensor(score.loss))
