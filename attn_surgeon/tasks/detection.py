"""The detection task: images with boxes, the losses of the networks themselves, mean average precision."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, cast

import numpy as np
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.data.boxes.boxes import Boxes
from attn_surgeon.data.boxes.corrupted import corrupted_box_images
from attn_surgeon.data.boxes.dataset import BoxImages
from attn_surgeon.data.boxes.opening import box_splits, open_box_splits, open_boxes
from attn_surgeon.data.corrupted import Corrupt
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.optional_dependencies import is_installed, require_extra
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.surgery.isolation import seeded
from attn_surgeon.tasks.average_precision import Matches, match_boxes, mean_known
from attn_surgeon.tasks.base import DEFAULT_OPTIONS, Metric, Score, ScoreOptions, Task
from attn_surgeon.tasks.bootstrap import bootstrap_interval, drawn_images
from attn_surgeon.tasks.box_gallery import draw_boxes
from attn_surgeon.tasks.class_matching import note_on_index
from attn_surgeon.tasks.detection_head import fit_detector, known_classes
from attn_surgeon.tasks.detectors.base import Detections, detector_of
from attn_surgeon.tasks.settings import TaskSettings
from attn_surgeon.tasks.shared_images import evaluated, items_of_each

_SAMPLES = 64


class Detection(Task):
    """The task of finding objects as boxes; the loss is that of the network itself."""

    name = "detection"
    metric = Metric("map", "mAP")
    image_metric = Metric("map_by_image", "mAP of an image")
    class_metric = Metric("ap", "AP")
    mixable = False
    unused_settings = (
        *("loss", "dice", "label_smoothing", "distill", "temperature"),
        *("crop", "crops", "overlap", "ignore_index"),
    )

    def recognises(self, spec: str) -> bool:
        """Return whether data has boxes, in the format of COCO, Pascal VOC or YOLO."""
        return bool(box_splits(spec))

    def open_splits(self, spec: str, preprocessing: Preprocessing, settings: TaskSettings) -> Splits:
        """Open and check training and validation images with boxes."""
        require_extra("detection", "pycocotools", what="detection")
        return open_box_splits(spec, preprocessing, settings)

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
        """Open the images to evaluate a network on, with the class numbers of its outputs."""
        require_extra("detection", "pycocotools", what="detection")
        data = open_boxes(spec, split, preprocessing or network.preprocessing, settings)
        names, outputs = known_classes(network), self.outputs(network)
        dataset = cast(BoxImages, data.dataset)
        if names is not None and {*dataset.annotations.used_classes()} <= {*names}:
            return replace(data, dataset=dataset.having(dataset.annotations.named_as(names)), class_names=names)
        note = note_on_index(len(data.class_names), outputs, named=names is not None, by_index=by_index)
        return replace(data, notes=(*data.notes, note)) if note else data

    def outputs(self, network: LoadedNetwork) -> int:
        """Return the number of classes, without background."""
        return detector_of(network.model).classes(network.model)

    def fit_head(self, network: LoadedNetwork, class_names: tuple[str, ...], settings: TaskSettings) -> LoadedNetwork:
        """Return the network with a head for these classes."""
        if settings.longer_side is not None:
            scaled = replace(network.preprocessing, longer_side=settings.longer_side)
            set_provenance(network.model, replace(network.provenance, preprocessing=scaled))
        return fit_detector(network, class_names, settings.seed)

    def logits(self, output: Any) -> Tensor:
        """Raise DataError: the outputs of detectors are no logits."""
        raise DataError("the outputs of detectors are no logits", self.name)

    def loss(self, output: Any, targets: Any, settings: TaskSettings) -> Tensor:
        """Raise DataError: detectors compute their loss themselves, in `batch_loss`."""
        raise DataError("detectors compute their loss themselves", self.name)

    def batch_loss(
        self, forward: Callable[..., Any], images: Any, targets: Any, settings: TaskSettings
    ) -> tuple[Tensor, Any]:
        """Return the loss (scalar) that the network computes for a batch, without crowd regions; there is no output."""
        model = cast(nn.Module, forward)
        return detector_of(model).losses(model, images, [own.where(~own.crowd) for own in targets]), None

    def score(
        self,
        model: nn.Module,
        data: ImageData,
        options: ScoreOptions = DEFAULT_OPTIONS,
        progress: Progress = no_progress,
    ) -> Score:
        """Score a detector: mAP over all images, and as outcomes that of each image."""
        return self.score_each([model], [data], options, progress)[0]

    def score_each(
        self,
        models: Sequence[nn.Module],
        data: Sequence[ImageData],
        options: ScoreOptions = DEFAULT_OPTIONS,
        progress: Progress = no_progress,
    ) -> list[Score]:
        """Score detectors on the same images, each read once for all networks with the same preprocessing."""
        datasets, found = [cast(BoxImages, item.dataset) for item in data], [_Found() for _ in models]
        with evaluated(models, options.device):
            for number, index, (image, boxes) in items_of_each(datasets, progress):
                found[number].add(models[number], datasets[number], index, image, boxes, options)
        return [own.score(item.class_names) for own, item in zip(found, data, strict=True)]

    def samples(self, data: ImageData) -> Iterator[Tensor]:
        """Yield each of the first images as a batch (1, C, H, W)."""
        dataset = cast(BoxImages, data.dataset)
        for index in range(min(_SAMPLES, len(dataset))):
            yield dataset[index][0][None]

    def run(self, model: nn.Module, images: Tensor) -> None:
        """Run a detector on a batch, which is padded where the network does not take images of its size."""
        detector_of(model).predict(model, [*images])

    def corruptions(self, data: ImageData, seed: int) -> Corrupt:
        """Return a function that maps the kind and severity of a corruption to the corrupted images with boxes."""
        return corrupted_box_images(data, seed)

    def pictures(self, model: nn.Module, data: ImageData, score: Score) -> dict[str, bytes]:
        """Return a PNG of the worst and the best images with their boxes and detections; none without Matplotlib."""
        if not is_installed("matplotlib"):
            return {}
        found = score.predictions.found
        return {"detections.png": draw_boxes(cast(BoxImages, data.dataset), data.class_names, score.outcomes, found)}

    def details(self, score: Score, data: ImageData) -> dict[str, Any]:
        """Return the interval of the mAP, by the bootstrap over images."""
        matches: Matches = score.predictions.matches
        resamples = matches.resampled(drawn_images(matches.images))
        interval = asdict(bootstrap_interval(score.metric, resamples, matches.images, limits=(0.0, 1.0)))
        return {"map_interval": {**interval, "how": f"bootstrap over {matches.images:,} images"}}

    def rows(self, document: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the rows of an evaluation's table."""
        images, (title, value), loss = super().rows(document)
        interval = document["map_interval"]
        ends = f"{100 * interval['low']:.2f} to {100 * interval['high']:.2f}"
        rows = [(title, f"{value}  (95 % {ends}, {interval['how']})")]
        rows += [(f"mAP{at}", f"{100 * document[f'map{at}']:.2f} %") for at in (50, 75)]
        return [images, *rows, ("boxes", f"{document['objects']:,}"), loss]


@dataclass(frozen=True)
class BoxPredictions:
    """The detections in each image, in pixels of its file, and their matches."""

    found: tuple[Detections, ...]
    matches: Matches


@dataclass
class _Found:
    """The detections of a network, image by image, and its losses."""

    truth: list[Boxes] = field(default_factory=list)
    found: list[Detections] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def add(
        self, model: nn.Module, dataset: BoxImages, index: int, image: Tensor, boxes: Boxes, options: ScoreOptions
    ) -> None:
        """Run the network on image `index` (C, H, W), once for its detections and, if asked, once for its loss."""
        detector, image = detector_of(model), image.to(options.device)
        (found,) = detector.predict(model, [image])
        in_file = dataset.in_file(index, found.boxes.float().cpu(), image.shape[1:])
        self.found.append(Detections(in_file, found.scores.float().cpu(), found.labels.cpu()))
        self.truth.append(dataset.truth(index))
        if not options.with_loss:
            return
        with seeded(index):
            loss = detector.losses(model, [image], [boxes.where(~boxes.crowd).to(options.device)])
        self.losses.append(float(loss))

    def score(self, class_names: tuple[str, ...]) -> Score:
        """Return the score over all images; an image without objects scores one minus its highest wrong score."""
        matches = match_boxes(self.truth, self.found, len(class_names))
        precisions = matches.precisions()[0]
        highest = [float(own.scores.max()) if len(own.scores) else 0.0 for own in self.found]
        by_image = matches.by_image()
        outcomes = np.where(np.isnan(by_image), 1 - np.array(highest), by_image)
        by_class = [None if np.isnan(own) else float(own) for own in precisions.mean(1)]
        figures = {
            **{f"map{at}": _mean(precisions[:, (at - 50) // 5]) for at in (50, 75)},
            "objects": sum(int(own.objects.sum()) for own in matches.classes),
            "ap": dict(zip(class_names, by_class, strict=True)),
        }
        return Score(
            _mean(precisions.mean(1)),
            sum(self.losses) / len(self.losses) if self.losses else math.nan,
            tuple(outcomes.tolist()),
            figures,
            predictions=BoxPredictions(tuple(self.found), matches),
            resampled=matches.resampled,
        )


def _mean(by_class: Any) -> float:
    """Return the mean of the classes that have objects."""
    return float(mean_known(by_class[None])[0])
