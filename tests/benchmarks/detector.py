"""Images per second of `finetune` on boxes beside torchvision's reference loop: python -m tests.benchmarks.detector.

Both train torchvision's Faster R-CNN with a MobileNetV3 (320, FPN) from random weights on the blood cells, SE after the
layers of its pyramid, on the same images without augmentation, with the same optimizer, by turns on one thread. The
reference is what `train_one_epoch` of torchvision's references/detection does for a batch. Seconds are those of the
process, since other processes may run, and without the first batch of each.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.artefact.provenance import provenance_of, set_provenance
from attn_surgeon.data.boxes.dataset import BoxImages, as_lists
from attn_surgeon.data.sampling import EpochImages, EpochSampler
from attn_surgeon.data.splits import Splits
from attn_surgeon.finetune.loop import train
from attn_surgeon.finetune.parameter_groups import make_optimizer
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.tasks import get_task

from .cifar import unpacked
from .trials import one_core

ROUNDS = 5
SETTINGS = FinetuneSettings(task="detection", epochs=1, batch_size=4, limit=24, augment=False)
ARGUMENTS = {"num_classes": "4", "min_size": "192", "max_size": "256", "box_batch_size_per_image": "64"}
SITES = "backbone.fpn.layer_blocks.*"


def reference(model: nn.Module, parts: Splits, settings: FinetuneSettings) -> float:
    """Train one epoch as torchvision's references do; return images per second."""
    optimizer = make_optimizer(model, settings)
    data = EpochImages(parts, settings.seed)
    loader = DataLoader(
        data, settings.batch_size, sampler=EpochSampler(len(data), settings.seed), collate_fn=as_lists, drop_last=True
    )

    def steps() -> Iterator[float]:
        for images, boxes in loader:
            targets = [{"boxes": own.boxes, "labels": own.labels + 1} for own in boxes]
            loss = sum(model(images, targets).values())
            assert math.isfinite(loss.item())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield time.process_time()

    model.train()
    return _speed(list(steps()), settings)


def ours(model: nn.Module, parts: Splits, settings: FinetuneSettings, example: torch.Tensor) -> float:
    """Train one epoch with `finetune`'s loop; return images per second."""
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        train(model, parts, settings, Path(folder), example, lambda done, total: times.append(time.process_time()))
    return _speed(times, settings)


def _speed(times: list[float], settings: FinetuneSettings) -> float:
    """Return images per second from the time after each batch."""
    return settings.batch_size * (len(times) - 1) / (times[-1] - times[0])


def compare(network: LoadedNetwork, data: Path, sites: str) -> None:
    """Print the medians of both, and of their ratio by turns."""
    parts = get_task("detection").open_splits(str(data), network.preprocessing, SETTINGS)
    few: BoxImages = parts.val.dataset  # type: ignore[assignment]
    parts = replace(parts, val=replace(parts.val, dataset=few.having(few.annotations.subset([0, 1]))))
    measured: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        models = [insert(network.model, "se", after=sites, example=network.example) for _ in range(2)]
        set_provenance(models[0], provenance_of(network.model))
        runs: list[Callable[[], float]] = [
            lambda model=models[0]: ours(model, parts, SETTINGS, network.example),  # type: ignore[misc]
            lambda model=models[1]: reference(model, parts, SETTINGS),  # type: ignore[misc]
        ]
        first, second = [run() for run in (runs if number % 2 == 0 else runs[::-1])]
        measured.append((first, second) if number % 2 == 0 else (second, first))
    speeds = [statistics.median(values) for values in zip(*measured, strict=True)]
    ratios = sorted(one / two for one, two in measured)
    spread = f"{ratios[0]:.3f} … {ratios[-1]:.3f}"
    print(f"{speeds[0]:.2f} and {speeds[1]:.2f} images/s, {statistics.median(ratios):.3f} × ({spread})", flush=True)


def main() -> None:
    """Compare both loops on the blood cells."""
    one_core()
    network = open_network("tv/fasterrcnn_mobilenet_v3_large_320_fpn", weights="none", args=ARGUMENTS)
    compare(network, unpacked("blood-cells"), SITES)


if __name__ == "__main__":
    main()
