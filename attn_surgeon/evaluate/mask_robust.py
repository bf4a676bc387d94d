"""Measure networks that label every pixel on corrupted images, and say whether what sets them apart helps there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from typing import Any, cast

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image

from attn_surgeon.data import ImageData
from attn_surgeon.data.corruptions import corrupt
from attn_surgeon.data.masks import IGNORED
from attn_surgeon.data.parts import Parts
from attn_surgeon.data.scenes import Scenes
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.accuracy import balanced
from attn_surgeon.evaluate.compare import Rivals
from attn_surgeon.evaluate.robust import TRIALS, Trial, gain, means, one_of
from attn_surgeon.evaluate.statistics import share_interval
from attn_surgeon.evaluate.views import Corruption
from attn_surgeon.progress import Progress
from attn_surgeon.tasks.segmentation import score

POOL = 8  # images that clutter is cut from: they are whole ones, and may be large
_FILED = (1, 3)  # channels


class Corrupted(Scenes):
    """Serve another's images, each corrupted as large as it is; pixels that clutter covers count for nothing."""

    def __init__(self, scenes: Scenes, corruption: Corruption, pool: dict[int, Image.Image]) -> None:
        super().__init__(scenes.pairs, scenes.labelling, scenes.preprocessing, scenes.overlap, keep=False)
        self.corruption, self.pool = corruption, pool

    def picture(self, index: int) -> tuple[Tensor, Tensor]:
        """Give image `index` as bytes (C, H, W), corrupted, and its mask."""
        pixels, mask = super().picture(index)
        made, others = self.corruption, [other for place, other in self.pool.items() if place != index]
        seen = min(self.preprocessing.size)  # blur is to be as strong as in an image of the windows' size
        image = corrupt(to_pil_image(pixels), made.kind, made.strength, (made.seed, index), others, seen)
        corrupted = cast(Tensor, pil_to_tensor(image))
        if made.kind == "clutter":
            mask = mask.where((corrupted == pixels).all(0), IGNORED)
        return corrupted, mask


def robustness(
    models: Sequence[nn.Module], parts: Sequence[Parts], seed: int, device: str, progress: Progress
) -> list[Trial]:
    """Measure networks on the same corrupted images, each kind at each strength; images count with their own mIoU."""
    scenes = [cast(Scenes, part.val.dataset) for part in parts]
    pools = [_pool(own) for own in scenes]
    made = []
    for number, (kind, strength) in enumerate(TRIALS):
        outcomes = []
        for place, (model, part) in enumerate(zip(models, parts, strict=True)):
            corrupted = Corrupted(scenes[place], Corruption(kind, strength, seed), pools[place])
            data = ImageData(corrupted, part.val.class_names)
            step = partial(one_of, progress, number * len(models) + place, len(TRIALS) * len(models))
            outcomes.append(torch.tensor(score(model, Parts(data, data), device, step).outcomes, dtype=torch.float64))
        made.append(Trial(kind, strength, tuple(outcomes)))
    return made


def described(trials: Sequence[Trial], clean: tuple[Tensor, ...], rivals: Rivals | None) -> dict[str, Any]:
    """Give what came of corrupted images as plain values; `clean` holds every image's mIoU (N,) by network."""
    document: dict[str, Any] = {"trials": [_trial(trial) for trial in trials], "means": means(trials)}
    if rivals is not None:
        ahead = gain(trials, clean, rivals, lambda differences, most: share_interval(differences))
        document |= {"compare_means": means(trials, 1), "gain": asdict(ahead)}
    return document


def _trial(trial: Trial) -> dict[str, Any]:
    names = ("miou_by_image", "compare_miou_by_image")
    told = {"kind": trial.kind, "strength": trial.strength, "level": trial.level}
    return told | dict(zip(names, trial.shares, strict=False))


def _pool(scenes: Scenes) -> dict[int, Image.Image]:
    """Read the images that clutter is cut from."""
    if scenes.preprocessing.channels not in _FILED:
        what = f"images of {scenes.preprocessing.channels} channels are not corrupted"
        raise DataError(what, "--robust", "leave --robust out")
    if len(scenes) < 2:
        raise DataError("clutter is cut from other images, and there is one only", "--robust", "add images")
    return {index: to_pil_image(scenes.picture(index)[0]) for index in balanced(scenes.labels, POOL)}
