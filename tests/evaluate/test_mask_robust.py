"""Corrupted images with masks: what is corrupted, what counts, and what two networks make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attn_surgeon.data import ImageData
from attn_surgeon.data.corruptions import KINDS, STRENGTHS, corrupt
from attn_surgeon.data.masks import IGNORED
from attn_surgeon.data.parts import Parts
from attn_surgeon.data.scenes import open_part
from attn_surgeon.evaluate.compare import Rivals
from attn_surgeon.evaluate.mask_robust import Corrupted, described, robustness
from attn_surgeon.evaluate.robust import TRIALS
from attn_surgeon.evaluate.statistics import share_interval
from attn_surgeon.evaluate.views import Corruption
from attn_surgeon.tasks.segmentation import score

from ..data.cells import RGB, labeller, write

NAMES = ("a", "b", "c")


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    data = open_part(str(write(tmp_path, count=3, size=(40, 48))), "val", RGB, NAMES)
    return Parts(data, data)


def pictures(parts: Parts) -> dict[int, Image.Image]:
    scenes: Any = parts.val.dataset
    return {index: Image.fromarray(scenes.picture(index)[0].permute(1, 2, 0).numpy()) for index in range(3)}


@pytest.mark.parametrize("kind", KINDS)
def test_pixels_are_corrupted_and_what_clutter_covers_does_not_count(parts: Parts, kind: str) -> None:
    scenes: Any = parts.val.dataset
    pool = pictures(parts)
    pixels, mask = Corrupted(scenes, Corruption(kind, 5, 7), pool).picture(1)
    clean, labels = scenes.picture(1)
    others = [pool[0], pool[2]]
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.array(corrupt(pool[1], kind, 5, (7, 1), others, 16)))
    changed = (pixels != clean).any(0)
    if kind == "clutter":
        assert torch.equal(mask == IGNORED, changed)
        assert 0.02 < changed.float().mean() < 0.8
    assert torch.equal(mask[mask != IGNORED], labels[mask != IGNORED])
    assert bool((mask != IGNORED).all()) == (kind != "clutter")


def test_networks_are_measured_on_the_same_corrupted_images(parts: Parts) -> None:
    models, seen = [labeller(), labeller(grafts=False)], []
    torch.nn.init.normal_(models[1].head.bias)  # type: ignore[union-attr, arg-type]
    trials = robustness(models, [parts, parts], 3, "cpu", lambda done, total: seen.append((done, total)))
    assert [(trial.kind, trial.strength) for trial in trials] == TRIALS
    assert seen == [(number, 120) for number in range(1, 121)]
    for number in (4, 17):
        trial = trials[number]
        corrupted = Corrupted(parts.val.dataset, Corruption(trial.kind, trial.strength, 3), pictures(parts))  # type: ignore[arg-type]
        data = ImageData(corrupted, NAMES)
        for model, outcomes in zip(models, trial.right, strict=True):
            assert tuple(outcomes.tolist()) == score(model, Parts(data, data)).outcomes
    assert len({tuple(trial.right[1].tolist()) for trial in trials}) > 10
    clean = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([0.5, 0.6, 0.4])
    found = described(trials, clean, Rivals("a", "b"))
    ahead = torch.stack([trial.right[0] - trial.right[1] for trial in trials]).mean(0)
    assert found["gain"]["mean"] == pytest.approx(vars(share_interval(ahead.tolist())))
    beyond = (ahead - (clean[0] - clean[1])).tolist()
    assert found["gain"]["beyond_clean"] == pytest.approx(vars(share_interval(beyond)))
    noise = [trial["compare_miou_by_image"] for trial in found["trials"][: len(STRENGTHS)]]
    assert found["compare_means"]["noise"] == pytest.approx(sum(noise) / len(STRENGTHS))
