"""The Task protocol, through which fine-tuning, evaluation and export work, and the scores that it returns."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.data.corrupted import Corrupt
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError, option
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.progress import Progress, no_progress, of_jobs
from attn_surgeon.tasks.bootstrap import Resampled
from attn_surgeon.tasks.settings import TaskSettings
from attn_surgeon.tasks.statistics import PairedTest, compare_ranks


@dataclass(frozen=True)
class Metric:
    """A metric, a fraction that is larger for better predictions: its key in JSON and its title in tables."""

    key: str
    title: str


@dataclass(frozen=True)
class Score:
    """The score of a network on a dataset.

    Args:
        metric: the value of the task's metric.
        loss: the mean loss.
        outcomes: a value for each image, in order, by which two networks are compared; larger is better.
        figures: further JSON values.
        outputs_sha256: a hash of all outputs, where the task computes one.
        predictions: the predictions from which the task derives details.
        pseudo_values: where the metric is not the mean of the outcomes, jackknife pseudo-values of the images, whose
            mean is the metric.
        resampled: where the metric is no smooth function of the images either, a function that maps how often each
            image is drawn (B, N) to the metric of each resample (B,), for the bootstrap.
    """

    metric: float
    loss: float
    outcomes: tuple[float, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)
    outputs_sha256: str | None = None
    predictions: Any = field(default=None, compare=False, repr=False)
    pseudo_values: tuple[float, ...] | None = None
    resampled: Resampled | None = field(default=None, compare=False, repr=False)

    @property
    def by_image(self) -> tuple[float, ...]:
        """A value for each image, whose mean is the metric."""
        return self.outcomes if self.pseudo_values is None else self.pseudo_values


@dataclass(frozen=True)
class ScoreOptions:
    """How a dataset is scored: images per batch, data-loading processes, the device, and whether the loss is needed.

    A task that needs a second pass for the loss leaves it out, as NaN, where it is not needed.
    """

    batch_size: int = 256
    workers: int = 0
    device: str | torch.device = "cpu"
    with_loss: bool = True


DEFAULT_OPTIONS = ScoreOptions()


class Task(Protocol):
    """The interface of a task: its data, head, loss, metric, comparison and report. Instances have no state.

    A new task subclasses this; methods with a body here are optional.

    Attributes:
        name: its key in TASKS.
        metric: the metric over a dataset.
        image_metric: the metric that is the mean of the outcomes, by which results on corrupted images are compared.
        class_metric: the metric of single classes, if any; its key in a score's figures has it by class name.
        mixable: whether Mixup and CutMix can mix the targets.
        unused_settings: the settings of a fine-tune that have no meaning for the task, and are refused.
    """

    name: str
    metric: Metric
    image_metric: Metric
    class_metric: Metric | None = None
    mixable: bool = True
    unused_settings: Collection[str] = ()

    def recognises(self, spec: str) -> bool:
        """Return whether data is recognisably for this task."""
        return False

    def open_splits(self, spec: str, preprocessing: Preprocessing, settings: TaskSettings) -> Splits:
        """Open and check training and validation data; raise DataError where the two do not match."""
        ...

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
        """Open the data to evaluate a network on, with the class numbers of the network's outputs.

        Args:
            network: the network.
            spec: the data, as for `open_pictures`, or in a format of the task.
            split: the split to open.
            settings: how the data is read.
            preprocessing: replaces that of the network.
            by_index: match classes by index where their names do not match those of the network.
        """
        ...

    def outputs(self, network: LoadedNetwork) -> int:
        """Return the number of classes that a network predicts."""
        ...

    def fit_head(self, network: LoadedNetwork, class_names: tuple[str, ...], settings: TaskSettings) -> LoadedNetwork:
        """Return the network with a head for these classes."""
        ...

    def logits(self, output: Any) -> Tensor:
        """Return the logits (N, K, ...) in a network's output; distillation compares them with the teacher's."""
        ...

    def loss(self, output: Any, targets: Tensor, settings: TaskSettings) -> Tensor:
        """Return the loss (scalar) of a batch."""
        ...

    def batch_loss(
        self, forward: Callable[[Any], Any], images: Any, targets: Any, settings: TaskSettings
    ) -> tuple[Tensor, Any]:
        """Return the loss (scalar) of a batch and the network's output; a network may compute its loss itself.

        Args:
            forward: the network in train mode, wrapped for several processes or compiled.
            images: (N, C, H, W), or what `Splits.collate` makes of the images.
            targets: (N, ...), or what `Splits.collate` makes of the targets.
            settings: how it is trained.
        """
        output = forward(images)
        return self.loss(output, targets, settings), output

    def score(
        self,
        model: nn.Module,
        data: ImageData,
        options: ScoreOptions = DEFAULT_OPTIONS,
        progress: Progress = no_progress,
    ) -> Score:
        """Score a network on a dataset, in eval mode."""
        ...

    def score_each(
        self,
        models: Sequence[nn.Module],
        data: Sequence[ImageData],
        options: ScoreOptions = DEFAULT_OPTIONS,
        progress: Progress = no_progress,
    ) -> list[Score]:
        """Score networks on the same images, preprocessed for each; a task can override it to read an image once."""
        steps = [of_jobs(progress, number, len(models)) for number in range(len(models))]
        return [self.score(model, item, options, step) for model, item, step in zip(models, data, steps, strict=True)]

    def samples(self, data: ImageData) -> Iterable[Tensor]:
        """Yield batches (N, C, H, W) of the first images, preprocessed for the network."""
        ...

    def run(self, model: nn.Module, images: Tensor) -> None:
        """Run a network on a batch of `samples`."""
        model(images)

    def compare(self, first: Sequence[float], second: Sequence[float]) -> PairedTest:
        """Test the outcomes of two networks on the same images."""
        return compare_ranks(first, second)

    def corruptions(self, data: ImageData, seed: int) -> Corrupt:
        """Return a function that maps the kind and severity of a corruption to the corrupted data."""
        raise DataError(f"there are no corruptions for {self.name}", option("robust"), f"leave {option('robust')} out")

    def details(self, score: Score, data: ImageData) -> dict[str, Any]:
        """Return further JSON values for an evaluation."""
        return {}

    def compare_details(self, first: Score, second: Score, data: ImageData) -> dict[str, Any]:
        """Return further JSON values for a comparison."""
        return {}

    def rows(self, document: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the rows of the table of an evaluation, as names and values, from its JSON values."""
        return [
            ("images", f"{document['images']:,}"),
            (self.metric.title, f"{100 * document[self.metric.key]:.2f} %"),
            ("loss", f"{document['loss']:.4f}"),
        ]

    def pictures(self, model: nn.Module, data: ImageData, score: Score) -> Mapping[str, bytes]:
        """Return image and table files, by name, that show the predictions of a network."""
        return {}
