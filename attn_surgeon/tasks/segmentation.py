"""Tell each pixel's class: cross-entropy and Dice, and the mean intersection over union."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.data.gallery import write_gallery
from attn_surgeon.data.masks import IGNORED
from attn_surgeon.data.parts import Parts
from attn_surgeon.data.scenes import Scenes, open_scenes, windowed
from attn_surgeon.data.scenes import open_part as open_scene_part
from attn_surgeon.errors import DataError, first_line
from attn_surgeon.finetune.precision import in_full_precision
from attn_surgeon.finetune.settings import Settings
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.progress import Progress
from attn_surgeon.surgery.isolation import mode
from attn_surgeon.surgery.running import run
from attn_surgeon.tasks.base import Score, Task
from attn_surgeon.tasks.head import with_classes
from attn_surgeon.tasks.overlap import confusion, dice_loss, ious
from attn_surgeon.tasks.sliding_windows import bands

AUXILIARY = 0.4
MAIN = ("out", "logits")
SHOWN = 64  # images that openings are measured on


def logits(output: Any) -> Tensor:
    """Find the scores (N, K, H, W) in what a network returned; one score a pixel is that of the second of two."""
    scores = _main(output)
    return torch.cat([torch.zeros_like(scores), scores], 1) if scores.shape[1] == 1 else scores


def _main(output: Any) -> Tensor:
    if isinstance(output, Mapping):
        output = next((output[name] for name in MAIN if name in output), None)
    if not isinstance(output, Tensor) or output.ndim != 4:
        what = "the network does not return scores (N, classes, H, W)"
        raise DataError(what, "segmentation", "give a network that labels every pixel")
    return output


def enlarged(output: Any, size: Iterable[int]) -> Tensor:
    """Bring the scores of an output to (N, K, *size), in full precision."""
    scores, size = logits(output).float(), tuple(size)
    return scores if scores.shape[2:] == size else F.interpolate(scores, size, mode="bilinear", align_corners=False)


def loss(output: Any, targets: Tensor, settings: Settings) -> Tensor:
    """Measure scores against masks (N, H, W); an auxiliary classifier's count 0.4 (Zhao et al., PSPNet, 2017)."""
    whole = _loss(enlarged(output, targets.shape[1:]), targets, settings)
    if isinstance(output, Mapping) and isinstance(output.get("aux"), Tensor):
        whole = whole + AUXILIARY * _loss(enlarged(output["aux"], targets.shape[1:]), targets, settings)
    return whole


def _loss(scores: Tensor, masks: Tensor, settings: Settings) -> Tensor:
    known = masks != IGNORED
    if settings.loss == "bce":
        shares = F.one_hot(torch.where(known, masks, 0).long(), scores.shape[1]).movedim(-1, 1).to(scores.dtype)
        shares = shares * (1 - settings.label_smoothing) + settings.label_smoothing / scores.shape[1]
        each = F.binary_cross_entropy_with_logits(scores, shares, reduction="none").mean(1) * known
    else:
        each = F.cross_entropy(
            scores, masks.long(), ignore_index=IGNORED, label_smoothing=settings.label_smoothing, reduction="none"
        )
    mean = each.sum() / known.sum().clamp(min=1)  # a crop of nothing but ignored pixels must not be NaN
    if not settings.dice:
        return mean
    covered = scores.sigmoid() if settings.loss == "bce" else scores.softmax(1)
    return mean + settings.dice * dice_loss(covered, masks)


def open_parts(spec: str, preprocessing: Preprocessing, settings: Settings) -> Parts:
    """Open images with masks; raise DataError where the data or the settings do not fit."""
    for name in ("mixup", "cutmix"):
        if getattr(settings, name):
            raise DataError("images with masks are not mixed", f"--{name}", f"leave --{name} out")
    return open_scenes(spec, preprocessing, settings)


def fitted(loaded: LoadedNetwork, class_names: tuple[str, ...], settings: Settings) -> LoadedNetwork:
    """Name the classes, give the network a head for them, and note the size of the windows it looks through."""
    window = windowed(loaded.preprocessing, settings.crop)
    set_provenance(loaded.model, replace(loaded.provenance, preprocessing=window))
    width = outputs(loaded)
    alone = width == 1 and len(class_names) == 2  # one score a pixel tells two classes apart
    return with_classes(loaded, class_names, 2 if alone else width, settings.seed)


def outputs(loaded: LoadedNetwork) -> int:
    """Count the scores that a network gives each pixel; raise DataError where it cannot take such images."""
    try:
        return _main(run(loaded.model, loaded.example)).shape[1]
    except (RuntimeError, ValueError) as error:
        raise _unfit(error, loaded.example) from error


def open_part(
    loaded: LoadedNetwork, spec: str, split: str, *, limit: int | None = None, ignore: int | None = None
) -> Parts:
    """Open a part of the data to measure a network on, which says how many classes there are."""
    classes = max(2, outputs(loaded))
    names = loaded.provenance.class_names or ()
    if len(names) != classes:
        names = tuple(map(str, range(classes)))
    scenes = open_scene_part(spec, split, loaded.preprocessing, names, limit=limit, ignore=ignore)
    return Parts(scenes, scenes)


def score(model: nn.Module, parts: Parts, device: Any = "cpu", progress: Progress | None = None) -> Score:
    """Measure a network on whole images: mIoU over all pixels, and for each image over the classes in it."""
    scenes, classes = cast(Scenes, parts.val.dataset), len(parts.val.class_names)
    counts, loss_sum, outcomes = torch.zeros(classes, classes, dtype=torch.long), 0.0, []
    with in_full_precision(model), mode(model.to(device), training=False), torch.inference_mode():
        for index in range(len(scenes)):
            own, lost = _measured(model, scenes, index, classes, device)
            counts, loss_sum = counts + own, loss_sum + lost
            outcomes.append(float(ious(own).nanmean()))
            if progress is not None:
                progress(index + 1, len(scenes))
    each = ious(counts)
    shares = [None if math.isnan(share) else share for share in each.tolist()]
    figures = {
        "pixel_accuracy": float(counts.diagonal().sum() / counts.sum()),
        "iou": dict(zip(parts.val.class_names, shares, strict=True)),
    }
    return Score(float(each.nanmean()), loss_sum / int(counts.sum()), tuple(outcomes), figures)


def _measured(model: nn.Module, scenes: Scenes, index: int, classes: int, device: Any) -> tuple[Tensor, float]:
    """Count an image's pixels by class and guess, and add up their cross-entropy."""
    image, mask = scenes[index]
    counts, lost = torch.zeros(classes, classes, dtype=torch.long), 0.0
    for top, scores in answers(model, scenes, image, device):
        rows = mask[None, top : top + scores.shape[1]].to(scores.device)
        counts += confusion(scores.argmax(0)[None], rows, classes)
        lost += float(F.cross_entropy(scores[None], rows.long(), ignore_index=IGNORED, reduction="sum").double())
    return counts, lost


def answers(model: nn.Module, scenes: Scenes, image: Tensor, device: Any) -> Iterator[tuple[int, Tensor]]:
    """Yield a network's scores for an image (C, H, W) as (first row, scores (K, rows, W))."""

    def predict(windows: Tensor) -> Tensor:
        try:
            output = model(windows.to(device))
        except (RuntimeError, ValueError) as error:
            raise _unfit(error, windows) from error
        return enlarged(output, windows.shape[2:])

    return bands(predict, image, scenes.preprocessing.size, scenes.overlap)


def _unfit(error: Exception, windows: Tensor) -> DataError:
    size = "×".join(map(str, windows.shape[2:]))
    what = f"the network does not run on windows of {size}: {first_line(error)}"
    return DataError(what, "segmentation", "choose another side with --crop, often a multiple of 32")


def samples(parts: Parts) -> Iterator[Tensor]:
    """Yield a window from the middle of each of the first validation images, as batches (1, C, h, w)."""
    scenes = cast(Scenes, parts.val.dataset)
    for index in range(min(SHOWN, len(scenes))):
        image, size = scenes[index][0], scenes.preprocessing.size
        top, left = (max(0, (side - window) // 2) for side, window in zip(image.shape[1:], size, strict=True))
        part = image[:, top : top + size[0], left : left + size[1]]
        yield F.pad(part, (0, size[1] - part.shape[2], 0, size[0] - part.shape[1]))[None]


def picture(model: nn.Module, parts: Parts, score: Score, folder: Path) -> None:
    """Draw the worst and the best validation images, their masks and what a network makes of them."""
    scenes, device = cast(Scenes, parts.val.dataset), next(model.parameters()).device

    def guess(index: int) -> Tensor:
        with mode(model, training=False), torch.inference_mode():
            rows = [scores.argmax(0).byte().cpu() for _, scores in answers(model, scenes, scenes[index][0], device)]
        return torch.cat(rows)

    write_gallery(folder, scenes, score.outcomes, guess)


TASK = Task(
    "segmentation", "miou", "mIoU", open_parts, fitted, logits, loss, score, samples, counted=False, picture=picture
)
