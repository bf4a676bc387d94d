"""Two networks are scored on images that are read once, and score what each scores alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_surgeon.data.images import ImageData
from attn_surgeon.data.segmentation_images import Scenes, open_scenes
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.base import ScoreOptions
from attn_surgeon.tasks.settings import TaskSettings

from ..data.cells import RGB, labeller, write
from ..finetune.helpers import loaded

CLASSIFICATION, SEGMENTATION = get_task("classification"), get_task("segmentation")


class Counted:
    """Pictures that count how often each is read."""

    def __init__(self, pictures: Any, reads: Counter[int]) -> None:
        self.pictures, self.reads, self.labels = pictures, reads, pictures.labels

    def __getitem__(self, index: int) -> Any:
        self.reads[index] += 1
        return self.pictures[index]


def opened(reads: Counter[int], preprocessing: Preprocessing) -> ImageData:
    data = CLASSIFICATION.open_split(loaded(), "demo", "val", TaskSettings(limit=24), preprocessing=preprocessing)
    images: Any = data.dataset
    images.dataset.pictures = Counted(images.dataset.pictures, reads)
    return data


@pytest.mark.parametrize("mean", [0.0, 0.3])
@pytest.mark.parametrize("corrupted", [False, True])
def test_labelled_images_are_read_once(mean: float, corrupted: bool) -> None:
    network, reads = loaded(), Counter[int]()
    wanted = [network.preprocessing, replace(network.preprocessing, mean=(mean,))]
    models, data = [network.model, network.base()], [opened(reads, own) for own in wanted]
    if corrupted:
        data = [CLASSIFICATION.corruptions(own, 3)("noise", 4) for own in data]
    seen: list[tuple[int, int]] = []
    reads.clear()
    options = ScoreOptions(batch_size=10)
    together = CLASSIFICATION.score_each(models, data, options, lambda done, total: seen.append((done, total)))
    assert sorted(reads.values()) == [1] * 24
    assert seen == [(done, 48) for done in (10, 20, 30, 40, 44, 48)]
    alone = [CLASSIFICATION.score(model, own, options) for model, own in zip(models, data, strict=True)]
    assert together == alone
    assert len(reads) == 24
    assert sorted(reads.values()) == [3] * 24


def test_images_with_masks_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, settings = str(write(tmp_path, count=3, size=(40, 48))), TaskSettings(task="segmentation")
    data = [open_scenes(path, "val", RGB, ("a", "b", "c"), settings) for _ in range(2)]
    models, reads, picture = [labeller(), labeller(grafts=False)], Counter[int](), Scenes.picture
    torch.nn.init.normal_(models[1].head.bias)  # type: ignore[union-attr, arg-type]

    def counted(scenes: Scenes, index: int) -> Any:
        reads[index] += 1
        return picture(scenes, index)

    monkeypatch.setattr(Scenes, "picture", counted)
    together = SEGMENTATION.score_each(models, data)
    assert sorted(reads.values()) == [1] * 3
    assert together == [SEGMENTATION.score(model, own) for model, own in zip(models, data, strict=True)]
    assert together[0] != together[1]
