"""Segmentation: the class of each pixel; cross-entropy and Dice, and the mean intersection over union."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.data.corrupted import Corrupt, corrupted_scenes
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.mask_pairs import is_masked
from attn_surgeon.data.masks import IGNORED
from attn_surgeon.data.scenes import Scenes, open_scene_splits, open_scenes, windowed
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError, first_line, option
from attn_surgeon.extras import is_installed
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.surgery.isolation import mode
from attn_surgeon.surgery.running import run_network
from attn_surgeon.tasks.base import DEFAULT_OPTIONS, Metric, Score, ScoreOptions, Task
from attn_surgeon.tasks.gallery import draw_gallery
from attn_surgeon.tasks.head import replace_head
from attn_surgeon.tasks.overlap import confusion, dice_loss, hits_and_unions, ious, mean_iou_by_image
from attn_surgeon.tasks.settings import TaskSettings
from attn_surgeon.tasks.sliding_windows import bands

AUXILIARY = 0.4  # weight of an auxiliary classifier (Zhao et al., PSPNet, 2017)
MAIN = ("out", "logits")  # the scores' names in outputs that are dicts
SAMPLES = 64


class Segmentation(Task):
    """Images with masks of class numbers, evaluated as wholes by sliding windows."""

    name = "segmentation"
    metric = Metric("miou", "mIoU")
    image_metric = Metric("miou_by_image", "mIoU of an image")
    class_metric = Metric("iou", "IoU")
    mixable = False

    def recognises(self, spec: str) -> bool:
        """Whether data is a folder of images with masks."""
        return is_masked(spec)

    def open_splits(self, spec: str, preprocessing: Preprocessing, settings: TaskSettings) -> Splits:
        """Open and check training and validation images with masks."""
        return open_scene_splits(spec, preprocessing, settings)

    def open_split(
        self,
        network: LoadedNetwork,
        spec: str,
        split: str,
        settings: TaskSettings,
        *,
        preprocessing: Preprocessing | None = None,
        by_index: bool = False,
    ) -> ImageData:
        """Open the images with masks to evaluate a network on; their class numbers are its outputs."""
        classes = self.outputs(network)
        names = network.provenance.class_names or ()
        if len(names) != classes:
            names = tuple(map(str, range(classes)))
        return open_scenes(spec, split, preprocessing or network.preprocessing, names, settings)

    def outputs(self, network: LoadedNetwork) -> int:
        """Return the number of classes of a pixel; one score per pixel separates two."""
        return max(2, _width(network))

    def fit_head(self, network: LoadedNetwork, class_names: tuple[str, ...], settings: TaskSettings) -> LoadedNetwork:
        """Return the network with a head for these classes, and the size of its sliding windows."""
        window = windowed(network.preprocessing, settings.crop)
        set_provenance(network.model, replace(network.provenance, preprocessing=window))
        width = _width(network)
        binary = width == 1 and len(class_names) == 2
        return replace_head(network, class_names, 2 if binary else width, settings.seed)

    def logits(self, output: Any) -> Tensor:
        """Return the scores (N, K, H, W) in an output; one score per pixel is that of the second of two classes."""
        scores = _main(output)
        return torch.cat([torch.zeros_like(scores), scores], 1) if scores.shape[1] == 1 else scores

    def loss(self, output: Any, targets: Tensor, settings: TaskSettings) -> Tensor:
        """Return the loss of scores against masks (N, H, W), with that of an auxiliary classifier."""
        whole = _loss(self._resized(output, targets.shape[1:]), targets, settings)
        if isinstance(output, Mapping) and isinstance(output.get("aux"), Tensor):
            whole = whole + AUXILIARY * _loss(self._resized(output["aux"], targets.shape[1:]), targets, settings)
        return whole

    def score(
        self,
        model: nn.Module,
        data: ImageData,
        options: ScoreOptions = DEFAULT_OPTIONS,
        progress: Progress = no_progress,
    ) -> Score:
        """Score a network on whole images: mIoU over all pixels, and for each image over the classes in it."""
        scenes, classes = cast(Scenes, data.dataset), len(data.class_names)
        counts, loss_sum, outcomes = torch.zeros(classes, classes, dtype=torch.long), 0.0, []
        overlaps: list[tuple[Tensor, Tensor]] = []
        with mode(model.to(options.device), training=False), torch.inference_mode():
            for index in range(len(scenes)):
                own, loss = self._score_image(model, scenes, index, classes, options.device)
                counts, loss_sum = counts + own, loss_sum + loss
                outcomes.append(float(ious(own).nanmean()))
                overlaps.append(hits_and_unions(own))
                progress(index + 1, len(scenes))
        each = ious(counts)
        fractions = [None if math.isnan(value) else value for value in each.tolist()]
        figures = {
            "pixel_accuracy": float(counts.diagonal().sum() / counts.sum()),
            "iou": dict(zip(data.class_names, fractions, strict=True)),
        }
        by_image = mean_iou_by_image(*map(torch.stack, zip(*overlaps, strict=True))).tolist()
        loss = loss_sum / int(counts.sum())
        return Score(float(each.nanmean()), loss, tuple(outcomes), figures, pseudo_values=tuple(by_image))

    def samples(self, data: ImageData) -> Iterator[Tensor]:
        """Yield a window from the middle of each of the first images, as batches (1, C, h, w)."""
        scenes = cast(Scenes, data.dataset)
        for index in range(min(SAMPLES, len(scenes))):
            image, size = scenes[index][0], scenes.preprocessing.size
            top, left = (max(0, (side - window) // 2) for side, window in zip(image.shape[1:], size, strict=True))
            part = image[:, top : top + size[0], left : left + size[1]]
            yield F.pad(part, (0, size[1] - part.shape[2], 0, size[0] - part.shape[1]))[None]

    def corruptions(self, data: ImageData, seed: int) -> Corrupt:
        """Return a function from a corruption's kind and strength to the corrupted images with masks."""
        return corrupted_scenes(data, seed)

    def rows(self, document: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the rows of an evaluation's table."""
        images, metric, loss = super().rows(document)
        return [images, metric, ("pixel accuracy", f"{100 * document['pixel_accuracy']:.2f} %"), loss]

    def pictures(self, model: nn.Module, data: ImageData, score: Score) -> dict[str, bytes]:
        """Return a picture of the worst and the best images, with their masks and predictions.

        Without Matplotlib there is none.
        """
        if not is_installed("matplotlib"):
            return {}
        scenes, device = cast(Scenes, data.dataset), next(model.parameters()).device

        def predict(index: int) -> Tensor:
            with mode(model, training=False), torch.inference_mode():
                bands = self._predict(model, scenes, scenes[index][0], device)
                return torch.cat([scores.argmax(0).byte().cpu() for _, scores in bands])

        return {"predictions.png": draw_gallery(scenes, score.outcomes, predict)}

    def _resized(self, output: Any, size: Iterable[int]) -> Tensor:
        """Return the scores of an output as (N, K, *size), in full precision."""
        scores, size = self.logits(output).float(), tuple(size)
        return scores if scores.shape[2:] == size else F.interpolate(scores, size, mode="bilinear", align_corners=False)

    def _score_image(
        self, model: nn.Module, scenes: Scenes, index: int, classes: int, device: Any
    ) -> tuple[Tensor, float]:
        """Return an image's pixels counted by class and prediction, and their summed cross-entropy."""
        image, mask = scenes[index]
        counts, loss = torch.zeros(classes, classes, dtype=torch.long), 0.0
        for top, scores in self._predict(model, scenes, image, device):
            rows = mask[None, top : top + scores.shape[1]].to(scores.device)
            counts += confusion(scores.argmax(0)[None], rows, classes)
            loss += float(F.cross_entropy(scores[None], rows.long(), ignore_index=IGNORED, reduction="sum").double())
        return counts, loss

    def _predict(self, model: nn.Module, scenes: Scenes, image: Tensor, device: Any) -> Iterator[tuple[int, Tensor]]:
        """Yield the scores of an image (C, H, W) as (first row, scores (K, rows, W))."""

        def predict(windows: Tensor) -> Tensor:
            try:
                output = model(windows.to(device))
            except (RuntimeError, ValueError) as error:
                raise _unfit(error, windows) from error
            return self._resized(output, windows.shape[2:])

        return bands(predict, image, scenes.preprocessing.size, scenes.overlap)


def _main(output: Any) -> Tensor:
    if isinstance(output, Mapping):
        output = next((output[name] for name in MAIN if name in output), None)
    if not isinstance(output, Tensor) or output.ndim != 4:
        what = "the network does not return scores (N, classes, H, W)"
        raise DataError(what, "segmentation", "use a network that classifies every pixel")
    return output


def _loss(scores: Tensor, masks: Tensor, settings: TaskSettings) -> Tensor:
    known = masks != IGNORED
    if settings.loss == "bce":
        targets = F.one_hot(torch.where(known, masks, 0).long(), scores.shape[1]).movedim(-1, 1).to(scores.dtype)
        targets = targets * (1 - settings.label_smoothing) + settings.label_smoothing / scores.shape[1]
        each = F.binary_cross_entropy_with_logits(scores, targets, reduction="none").mean(1) * known
    else:
        each = F.cross_entropy(
            scores, masks.long(), ignore_index=IGNORED, label_smoothing=settings.label_smoothing, reduction="none"
        )
    mean = each.sum() / known.sum().clamp(min=1)  # the loss of a crop without known pixels must not be NaN
    if not settings.dice:
        return mean
    probabilities = scores.sigmoid() if settings.loss == "bce" else scores.softmax(1)
    return mean + settings.dice * dice_loss(probabilities, masks)


def _width(network: LoadedNetwork) -> int:
    """Return how many scores a network gives each pixel; raise DataError where it cannot take such images."""
    try:
        return _main(run_network(network.model, network.example)).shape[1]
    except (RuntimeError, ValueError) as error:
        raise _unfit(error, network.example) from error


def _unfit(error: Exception, windows: Tensor) -> DataError:
    size = "×".join(map(str, windows.shape[2:]))
    what = f"the network does not run on windows of {size}: {first_line(error)}"
    return DataError(what, "segmentation", f"choose another side with {option('crop')}, often a multiple of 32")
