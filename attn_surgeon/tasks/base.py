"""What a task is: a protocol that fine-tuning, evaluation, export and scouting work through."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.data.corrupted import Corrupt
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError, option
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.tasks.settings import TaskSettings
from attn_surgeon.tasks.statistics import PairedTest, compare_ranks


@dataclass(frozen=True)
class Metric:
    """A fraction, larger for better predictions: its key in documents, and its title for people."""

    key: str
    title: str


@dataclass(frozen=True)
class Score:
    """What a network scored on a dataset.

    Args:
        metric: the task's metric.
        loss: the mean loss.
        outcomes: for each image, in order, how well the network does on it; outcomes of two networks are compared.
        pseudo_values: where the metric is not the mean of the outcomes, what stands for each image in it: jackknife
            pseudo-values, whose mean is the metric.
        figures: further plain values for documents.
        outputs_sha256: a hash of all outputs, where the task computes one.
        predictions: what the task keeps of the outputs, to derive details from.
    """

    metric: float
    loss: float
    outcomes: tuple[float, ...]
    figures: Mapping[str, Any] = field(default_factory=dict)
    outputs_sha256: str | None = None
    predictions: Any = field(default=None, compare=False, repr=False)
    pseudo_values: tuple[float, ...] | None = None

    @property
    def by_image(self) -> tuple[float, ...]:
        """What each image adds to the metric: values whose mean it is."""
        return self.outcomes if self.pseudo_values is None else self.pseudo_values


@dataclass(frozen=True)
class ScoreOptions:
    """How a dataset is scored: images per batch, data-loading processes, and the device."""

    batch_size: int = 256
    workers: int = 0
    device: str | torch.device = "cpu"


DEFAULT_OPTIONS = ScoreOptions()


class Task(Protocol):
    """All that differs between tasks; an instance has no state.

    A new task subclasses this and overrides what follows; methods with a body here are optional.

    Attributes:
        name: its key in TASKS.
        metric: the metric over a dataset.
        image_metric: the mean of the outcomes of single images, which corrupted images are compared by.
        class_metric: the key in a score's figures of a table from class names to a metric, if there is one.
        mixable: whether targets can be mixed as Mixup and CutMix do.
    """

    name: str
    metric: Metric
    image_metric: Metric
    class_metric: Metric | None = None
    mixable: bool = True

    def recognises(self, spec: str) -> bool:
        """Whether data is evidently for this task."""
        return False

    def open_splits(self, spec: str, preprocessing: Preprocessing, settings: TaskSettings) -> Splits:
        """Open and check training and validation data; raise DataError where something does not match."""
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
        """Open the data to evaluate a network on, with classes numbered as its outputs are.

        Args:
            network: the network.
            spec: the data, as for `open_pictures` or a format of the task's own.
            split: its split.
            settings: how the data is read.
            preprocessing: is used in place of the network's.
            by_index: match classes whose names do not match the network's by index.
        """
        ...

    def outputs(self, network: LoadedNetwork) -> int:
        """Return how many classes a network predicts."""
        ...

    def fit_head(self, network: LoadedNetwork, class_names: tuple[str, ...], settings: TaskSettings) -> LoadedNetwork:
        """Return the network with a head for these classes."""
        ...

    def logits(self, output: Any) -> Tensor:
        """Return the logits (N, K, ...) in a network's output, which are compared with a teacher's."""
        ...

    def loss(self, output: Any, targets: Tensor, settings: TaskSettings) -> Tensor:
        """Return the loss (scalar) of a batch."""
        ...

    def score(
        self,
        model: nn.Module,
        data: ImageData,
        options: ScoreOptions = DEFAULT_OPTIONS,
        progress: Progress = no_progress,
    ) -> Score:
        """Score a network on a dataset, in eval mode."""
        ...

    def samples(self, data: ImageData) -> Iterable[Tensor]:
        """Yield batches (N, C, H, W) of the first images, as the network takes them."""
        ...

    def compare(self, first: Sequence[float], second: Sequence[float]) -> PairedTest:
        """Test the outcomes of two networks on the same images."""
        return compare_ranks(first, second)

    def corruptions(self, data: ImageData, seed: int) -> Corrupt:
        """Return a function from a corruption's kind and strength to the corrupted data."""
        raise DataError(f"there are no corruptions for {self.name}", option("robust"), f"leave {option('robust')} out")

    def details(self, score: Score, data: ImageData) -> dict[str, Any]:
        """Return further plain values for the document of an evaluation."""
        return {}

    def compare_details(self, first: Score, second: Score, data: ImageData) -> dict[str, Any]:
        """Return further plain values for the document of a comparison."""
        return {}

    def rows(self, document: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Return the names and values, as text, that summarise the document of an evaluation."""
        return [
            ("images", f"{document['images']:,}"),
            (self.metric.title, f"{100 * document[self.metric.key]:.2f} %"),
            ("loss", f"{document['loss']:.4f}"),
        ]

    def pictures(self, model: nn.Module, data: ImageData, score: Score) -> Mapping[str, bytes]:
        """Return files, by name, that show a network's predictions."""
        return {}
