"""The classification task: labelled images, cross-entropy, top-1 accuracy, McNemar's test, confusion matrix."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from typing import Any, cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, Subset

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.data.checks import enlargement_notes, sampled_sizes, without_unreadable
from attn_surgeon.data.corrupted import Corrupt, LabelledImages, corrupted_labelled_images
from attn_surgeon.data.images import ImageData, Pictures, relabelled
from attn_surgeon.data.opening import open_pictures
from attn_surgeon.data.splits import Splits, open_labelled_splits
from attn_surgeon.data.subsets import ImageSubset, balanced
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.optional_dependencies import is_installed
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.surgery.running import run_example
from attn_surgeon.tasks.accuracy import Accuracy, measure_accuracies, require_logits
from attn_surgeon.tasks.base import DEFAULT_OPTIONS, Metric, Score, ScoreOptions, Task
from attn_surgeon.tasks.class_matching import note_on_index
from attn_surgeon.tasks.confusion_files import confusion_csv, confusion_png
from attn_surgeon.tasks.head import replace_head
from attn_surgeon.tasks.predictions import (
    Predictions,
    calibration_error,
    class_scores,
    concatenated,
    confusion_matrix,
    confusions,
    predictions_of,
)
from attn_surgeon.tasks.settings import TaskSettings
from attn_surgeon.tasks.statistics import PairedTest, compare_correctness, image_interval

SAMPLES, SAMPLE_BATCH = 64, 16
WORST = 5


class Classification(Task):
    """The task of predicting one class for each image."""

    name = "classification"
    metric = image_metric = Metric("top1", "top-1")

    def open_splits(self, spec: str, preprocessing: Preprocessing, settings: TaskSettings) -> Splits:
        """Open and check training and validation images."""
        return open_labelled_splits(spec, preprocessing, settings)

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
        """Open the images to evaluate a network on, with the class numbers of the network's outputs."""
        opened = open_pictures(spec, split, _unchanged, settings)
        pictures = opened.dataset
        sizes = sampled_sizes(pictures) if isinstance(pictures, Pictures) else []
        data, notes = without_unreadable(opened, settings.max_bad)
        data = match_classes(data, network.provenance.class_names, self.outputs(network), by_index=by_index)
        preprocessing = preprocessing or network.preprocessing
        images = LabelledImages(data.dataset, preprocessing)
        chosen = range(len(images)) if settings.limit is None else balanced(images.labels, settings.limit)
        notes = (*data.notes, *enlargement_notes(sizes, preprocessing.size, "evaluate"), *notes)
        return ImageData(ImageSubset(images, chosen), data.class_names, notes)

    def outputs(self, network: LoadedNetwork) -> int:
        """Return the number of logits; raise DataError where the network is not a classifier."""
        return self.logits(run_example(network.model, network.example)).shape[1]

    def fit_head(self, network: LoadedNetwork, class_names: tuple[str, ...], settings: TaskSettings) -> LoadedNetwork:
        """Return the network with a head for these classes."""
        return replace_head(network, class_names, self.outputs(network), settings.seed)

    def logits(self, output: Any) -> Tensor:
        """Return the output of a classifier; raise DataError where it is not logits (N, K)."""
        return require_logits(output)

    def loss(self, output: Any, targets: Tensor, settings: TaskSettings) -> Tensor:
        """Return the (binary) cross-entropy of logits (N, K) against labels (N,) or mixed targets (N, K)."""
        logits = self.logits(output)
        if settings.loss == "bce":
            return F.binary_cross_entropy_with_logits(logits, _smoothed(targets, logits, settings.label_smoothing))
        # Mixup and CutMix smooth the targets themselves.
        smoothing = settings.label_smoothing if targets.ndim == 1 else 0.0
        return F.cross_entropy(logits, targets, label_smoothing=smoothing)

    def score(
        self,
        model: nn.Module,
        data: ImageData,
        options: ScoreOptions = DEFAULT_OPTIONS,
        progress: Progress = no_progress,
    ) -> Score:
        """Score a classifier: top-1 accuracy, with 1 or 0 as the outcome of each image."""
        return self.score_each([model], [data], options, progress)[0]

    def score_each(
        self,
        models: Sequence[nn.Module],
        data: Sequence[ImageData],
        options: ScoreOptions = DEFAULT_OPTIONS,
        progress: Progress = no_progress,
    ) -> list[Score]:
        """Score classifiers on the same images, each read once."""
        batches: list[list[Predictions]] = [[] for _ in models]
        watches = [partial(_keep, of_model) for of_model in batches]
        measured = measure_accuracies(
            models,
            data,
            batch_size=options.batch_size,
            workers=options.workers,
            device=options.device,
            progress=progress,
            watches=watches,
        )
        return [_score(accuracy, concatenated(of_model)) for accuracy, of_model in zip(measured, batches, strict=True)]

    def samples(self, data: ImageData) -> Iterator[Tensor]:
        """Yield the first images in batches."""
        dataset: Dataset[Any] = data.dataset
        first = Subset(dataset, range(min(SAMPLES, len(cast(Any, dataset)))))
        for images, *_ in DataLoader(first, SAMPLE_BATCH, generator=torch.Generator()):
            yield images

    def compare(self, first: Sequence[float], second: Sequence[float]) -> PairedTest:
        """Test whether two networks classify equally many images correctly, by McNemar's exact test."""
        return compare_correctness(first, second)

    def corruptions(self, data: ImageData, seed: int) -> Corrupt:
        """Return a function that maps the kind and severity of a corruption to the corrupted images."""
        return corrupted_labelled_images(data, seed)

    def details(self, score: Score, data: ImageData) -> dict[str, Any]:
        """Return the calibration error, the accuracy of each class, and the confusions."""
        predictions: Predictions = score.predictions
        return {
            "ece": calibration_error(predictions),
            "classes": [asdict(score) for score in class_scores(predictions, data.class_names)],
            "confused": [asdict(confusion) for confusion in confusions(predictions, data.class_names)],
        }

    def compare_details(self, first: Score, second: Score, data: ImageData) -> dict[str, Any]:
        """Return the difference on each class, and the images that only one network classifies correctly."""
        correct, other, labels = first.predictions.correct, second.predictions.correct, first.predictions.labels
        names = image_names(data)
        masks = {name: labels == label for label, name in enumerate(data.class_names)}
        return {
            "class_differences": [
                {"name": name, **self._on_class(correct[mask], other[mask])}
                for name, mask in masks.items()
                if mask.any()
            ],
            "only_first": [names[index] for index in (correct & ~other).nonzero().flatten().tolist()],
            "only_second": [names[index] for index in (other & ~correct).nonzero().flatten().tolist()],
        }

    def _on_class(self, correct: Tensor, other: Tensor) -> dict[str, Any]:
        return {
            "images": len(correct),
            "first": float(correct.double().mean()),
            "second": float(other.double().mean()),
            "only_first": int((correct & ~other).sum()),
            "only_second": int((other & ~correct).sum()),
            "difference": asdict(image_interval((correct.double() - other.double()).tolist())),
        }

    def rows(self, document: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the rows of an evaluation's table."""
        top5 = "-" if document["top5"] is None else f"{100 * document['top5']:.2f} %  ({document['correct5']:,})"
        classes = [score for score in document["classes"] if score["images"]]
        worst = sorted(classes, key=lambda score: score["accuracy"])[:WORST]
        confused = [
            f"{pair['label']} as {pair['predicted'] or 'none of these'} ({pair['images']:,})"
            for pair in document["confused"][:WORST]
        ]
        return [
            ("images", f"{document['images']:,}"),
            ("top-1", f"{100 * document['top1']:.2f} %  ({document['correct']:,})"),
            ("top-5", top5),
            ("loss", f"{document['loss']:.4f}"),
            ("ECE", f"{100 * document['ece']:.2f} %  (expected calibration error, 15 bins)"),
            ("worst", ", ".join(f"{score['name']} {100 * score['accuracy']:.2f} %" for score in worst)),
            ("confused", ", ".join(confused) or "-"),
            ("logits", f"sha256 {document['logits_sha256'][:16]}…"),
        ]

    def pictures(self, model: nn.Module, data: ImageData, score: Score) -> dict[str, bytes]:
        """Return the confusion matrix as CSV and, where Matplotlib is installed, as PNG."""
        counts = confusion_matrix(score.predictions, len(data.class_names))
        files = {"confusion.csv": confusion_csv(counts, data.class_names)}
        if is_installed("matplotlib"):
            files["confusion.png"] = confusion_png(counts, data.class_names)
        return files


def _keep(batches: list[Predictions], logits: Tensor, labels: Tensor) -> None:
    batches.append(predictions_of(logits, labels))


def _score(accuracy: Accuracy, predictions: Predictions) -> Score:
    outcomes = tuple(predictions.correct.double().tolist())
    figures = {"correct": accuracy.correct, "correct5": accuracy.correct5, "top5": accuracy.top5}
    return Score(accuracy.top1, accuracy.loss, outcomes, figures, accuracy.logits_sha256, predictions)


def match_classes(
    data: ImageData, class_names: tuple[str, ...] | None, outputs: int, *, by_index: bool = False
) -> ImageData:
    """Return data with the class numbers of a network's outputs.

    Args:
        data: labelled images.
        class_names: the names of the network's outputs, if known.
        outputs: the number of outputs.
        by_index: match classes to outputs by index where the names do not match and the numbers differ.

    Raises:
        DataError: the classes cannot be matched by name, and their number is not that of the outputs.
    """
    if class_names is not None and {*data.class_names} <= {*class_names}:
        return relabelled(data, class_names)
    note = note_on_index(len(data.class_names), outputs, named=class_names is not None, by_index=by_index)
    return replace(data, notes=(*data.notes, note)) if note else data


def image_names(data: ImageData) -> list[str | int]:
    """Return the names of the images that a network is evaluated on, in order."""
    subset = cast(ImageSubset, data.dataset)
    return [cast(LabelledImages, subset.dataset).name(index) for index in subset.chosen]


def _unchanged(picture: Image.Image) -> Image.Image:
    return picture


def _smoothed(targets: Tensor, logits: Tensor, smoothing: float) -> Tensor:
    """Return labels (N,) as smoothed one-hot targets (N, K); mixed targets (N, K) are returned unchanged."""
    if targets.ndim > 1:
        return targets.to(logits.dtype)
    one_hot = F.one_hot(targets, logits.shape[1]).to(logits.dtype)
    return one_hot * (1 - smoothing) + smoothing / logits.shape[1]
