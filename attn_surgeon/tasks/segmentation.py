"""The segmentation task: images with masks, cross-entropy and Dice loss, mean IoU by sliding windows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.data.corrupted import Corrupt, corrupted_scenes
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.mask_pairs import is_masked
from attn_surgeon.data.masks import IGNORED
from attn_surgeon.data.segmentation_images import Scenes, open_scene_splits, open_scenes, windowed
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError, first_line, option
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.optional_dependencies import is_installed
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.surgery.isolation import mode
from attn_surgeon.surgery.running import run_network
from attn_surgeon.tasks.base import DEFAULT_OPTIONS, Metric, Score, ScoreOptions, Task
from attn_surgeon.tasks.gallery import draw_gallery
from attn_surgeon.tasks.head import replace_head
from attn_surgeon.tasks.outputs import main_output
from attn_surgeon.tasks.overlap import confusion, dice_loss, hits_and_unions, ious, mean_iou_by_image
from attn_surgeon.tasks.settings import TaskSettings
from attn_surgeon.tasks.shared_images import evaluated, items_of_each
from attn_surgeon.tasks.sliding_windows import bands

AUXILIARY = 0.4  # weight of the loss of an auxiliary classifier (Zhao et al., PSPNet, 2017)
SAMPLES = 64


class Segmentation(Task):
    """The task of predicting a class for each pixel; whole images are evaluated by sliding windows."""

    name = "segmentation"
    metric = Metric("miou", "mIoU")
    image_metric = Metric("miou_by_image", "mIoU of an image")
    class_metric = Metric("iou", "IoU")
    mixable = False

    def recognises(self, spec: str) -> bool:
        """Return whether data is a folder of images with masks."""
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
        """Open the images with masks to evaluate a network on; class numbers in masks are indices of its outputs."""
        classes = self.outputs(network)
        names = network.provenance.class_names or ()
        if len(names) != classes:
            names = tuple(map(str, range(classes)))
        return open_scenes(spec, split, preprocessing or network.preprocessing, names, settings)

    def outputs(self, network: LoadedNetwork) -> int:
        """Return the number of classes; one logit per pixel stands for two classes."""
        return max(2, _width(network))

    def fit_head(self, network: LoadedNetwork, class_names: tuple[str, ...], settings: TaskSettings) -> LoadedNetwork:
        """Return the network with a head for these classes, and with the crop size as the size of its windows."""
        window = windowed(network.preprocessing, settings.crop)
        set_provenance(network.model, replace(network.provenance, preprocessing=window))
        width = _width(network)
        binary = width == 1 and len(class_names) == 2
        return replace_head(network, class_names, 2 if binary else width, settings.seed)

    def logits(self, output: Any) -> Tensor:
        """Return the logits (N, K, H, W) in an output; a single logit per pixel is that of the second of 2 classes."""
        scores = _main(output)
        return torch.cat([torch.zeros_like(scores), scores], 1) if scores.shape[1] == 1 else scores

    def loss(self, output: Any, targets: Tensor, settings: TaskSettings) -> Tensor:
        """Return the loss of the logits against masks (N, H, W), plus that of an auxiliary classifier, if any."""
        loss = _loss(self._resized(output, targets.shape[1:]), targets, settings)
        if isinstance(output, Mapping) and isinstance(output.get("aux"), Tensor):
            loss = loss + AUXILIARY * _loss(self._resized(output["aux"], targets.shape[1:]), targets, settings)
        return loss

    def score(
        self,
        model: nn.Module,
        data: ImageData,
        options: ScoreOptions = DEFAULT_OPTIONS,
        progress: Progress = no_progress,
    ) -> Score:
        """Score a network on whole images: the mIoU over all pixels, and as outcomes that of each image."""
        return self.score_each([model], [data], options, progress)[0]

    def score_each(
        self,
        models: Sequence[nn.Module],
        data: Sequence[ImageData],
        options: ScoreOptions = DEFAULT_OPTIONS,
        progress: Progress = no_progress,
    ) -> list[Score]:
        """Score networks on the same images, each read once for all networks with the same preprocessing."""
        scenes, sums = [cast(Scenes, item.dataset) for item in data], [_Sums(len(item.class_names)) for item in data]
        with evaluated(models, options.device):
            for number, _, item in items_of_each(scenes, progress):
                classes = sums[number].classes
                sums[number].add(*self._score_image(models[number], scenes[number], item, classes, options.device))
        return [sum_.score(item.class_names) for sum_, item in zip(sums, data, strict=True)]

    def samples(self, data: ImageData) -> Iterator[Tensor]:
        """Yield the central window of each of the first images, as batches (1, C, h, w)."""
        scenes = cast(Scenes, data.dataset)
        for index in range(min(SAMPLES, len(scenes))):
            image, size = scenes[index][0], scenes.preprocessing.size
            top, left = (max(0, (side - window) // 2) for side, window in zip(image.shape[1:], size, strict=True))
            part = image[:, top : top + size[0], left : left + size[1]]
            yield F.pad(part, (0, size[1] - part.shape[2], 0, size[0] - part.shape[1]))[None]

    def corruptions(self, data: ImageData, seed: int) -> Corrupt:
        """Return a function that maps the kind and severity of a corruption to the corrupted images with masks."""
        return corrupted_scenes(data, seed)

    def rows(self, document: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the rows of an evaluation's table."""
        images, metric, loss = super().rows(document)
        return [images, metric, ("pixel accuracy", f"{100 * document['pixel_accuracy']:.2f} %"), loss]

    def pictures(self, model: nn.Module, data: ImageData, score: Score) -> dict[str, bytes]:
        """Return a PNG of the worst and the best images with their masks and predictions; none without Matplotlib."""
        if not is_installed("matplotlib"):
            return {}
        scenes, device = cast(Scenes, data.dataset), next(model.parameters()).device

        def predict(index: int) -> Tensor:
            with mode(model, training=False), torch.inference_mode():
                bands = self._predict(model, scenes, scenes[index][0], device)
                return torch.cat([scores.argmax(0).byte().cpu() for _, scores in bands])

        return {"predictions.png": draw_gallery(scenes, score.outcomes, predict)}

    def _resized(self, output: Any, size: Iterable[int]) -> Tensor:
        """Return the logits of an output, in float32, resized to (N, K, *size)."""
        scores, size = self.logits(output).float(), tuple(size)
        return scores if scores.shape[2:] == size else F.interpolate(scores, size, mode="bilinear", align_corners=False)

    def _score_image(
        self, model: nn.Module, scenes: Scenes, item: tuple[Tensor, Tensor], classes: int, device: Any
    ) -> tuple[Tensor, float]:
        """Return the confusion matrix (K, K) of the pixels of an image, and their summed cross-entropy."""
        image, mask = item
        counts, loss = torch.zeros(classes, classes, dtype=torch.long), 0.0
        for top, scores in self._predict(model, scenes, image, device):
            rows = mask[None, top : top + scores.shape[1]].to(scores.device)
            counts += confusion(scores.argmax(0)[None], rows, classes)
            loss += float(F.cross_entropy(scores[None], rows.long(), ignore_index=IGNORED, reduction="sum").double())
        return counts, loss

    def _predict(self, model: nn.Module, scenes: Scenes, image: Tensor, device: Any) -> Iterator[tuple[int, Tensor]]:
        """Yield the logits of an image (C, H, W) in bands: (first row, logits (K, rows, W))."""

        def predict(windows: Tensor) -> Tensor:
            try:
                output = model(windows.to(device))
            except (AssertionError, RuntimeError, ValueError) as error:
                raise _unfit(error, windows) from error
            return self._resized(output, windows.shape[2:])

        return bands(predict, image, scenes.preprocessing.size, scenes.overlap)


class _Sums:
    """The sums over images from which a score is computed."""

    def __init__(self, classes: int) -> None:
        self.classes, self.loss = classes, 0.0
        self.counts = torch.zeros(classes, classes, dtype=torch.long)
        self.outcomes: list[float] = []
        self.overlaps: list[tuple[Tensor, Tensor]] = []

    def add(self, counts: Tensor, loss: float) -> None:
        """Add the confusion matrix (K, K) of an image's pixels, and their summed loss."""
        self.counts, self.loss = self.counts + counts, self.loss + loss
        self.outcomes.append(float(ious(counts).nanmean()))
        self.overlaps.append(hits_and_unions(counts))

    def score(self, class_names: Sequence[str]) -> Score:
        """Return the score over all images."""
        by_class, pixels = ious(self.counts), int(self.counts.sum())
        fractions = [None if math.isnan(value) else value for value in by_class.tolist()]
        figures = {
            "pixel_accuracy": float(self.counts.diagonal().sum() / pixels),
            "iou": dict(zip(class_names, fractions, strict=True)),
        }
        by_image = mean_iou_by_image(*map(torch.stack, zip(*self.overlaps, strict=True))).tolist()
        mean, loss = float(by_class.nanmean()), self.loss / pixels
        return Score(mean, loss, tuple(self.outcomes), figures, pseudo_values=tuple(by_image))


def _main(output: Any) -> Tensor:
    output = main_output(output)
    if not isinstance(output, Tensor) or output.ndim != 4:
        what = "the network does not return scores (N, classes, H, W)"
        raise DataError(what, "segmentation", "use a network that classifies every pixel")
    return output


def _loss(scores: Tensor, masks: Tensor, settings: TaskSettings) -> Tensor:
    valid = masks != IGNORED
    if settings.loss == "bce":
        targets = F.one_hot(torch.where(valid, masks, 0).long(), scores.shape[1]).movedim(-1, 1).to(scores.dtype)
        targets = targets * (1 - settings.label_smoothing) + settings.label_smoothing / scores.shape[1]
        losses = F.binary_cross_entropy_with_logits(scores, targets, reduction="none").mean(1) * valid
    else:
        losses = F.cross_entropy(
            scores, masks.long(), ignore_index=IGNORED, label_smoothing=settings.label_smoothing, reduction="none"
        )
    mean = losses.sum() / valid.sum().clamp(min=1)  # not NaN for a crop in which all pixels are ignored
    if not settings.dice:
        return mean
    probabilities = scores.sigmoid() if settings.loss == "bce" else scores.softmax(1)
    return mean + settings.dice * dice_loss(probabilities, masks)


def _width(network: LoadedNetwork) -> int:
    """Return the number of logits per pixel; raise DataError where the network does not run on its example."""
    try:
        output = run_network(network.model, network.example)
    except Exception as error:  # networks raise anything on sizes that they do not take
        raise _unfit(error, network.example) from error
    return _main(output).shape[1]


def _unfit(error: Exception, windows: Tensor) -> DataError:
    size = "×".join(map(str, windows.shape[2:]))
    what = f"the network does not run on windows of {size}: {first_line(error)}"
    return DataError(what, "segmentation", f"choose another side with {option('crop')}, often a multiple of 32")
