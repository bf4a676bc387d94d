"""Images per second of `finetune` beside a bare PyTorch loop: python -m tests.benchmarks.throughput.

Both train the CIFAR-10 ResNet-20 at 32 × 32 and timm's resnet18 at 64 × 64 with SE at the end of each residual branch,
on the same images, augmented alike, with the same optimizer and clipping, by turns on one thread. Both keep freed
memory, as the command lets its process do; --as-usual leaves the allocator as it is.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, Subset

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.artefact.provenance import provenance_of, set_provenance
from attn_surgeon.data.sampling import EpochImages, EpochSampler
from attn_surgeon.data.splits import Splits, open_labelled_splits
from attn_surgeon.finetune.clipping import clip_gradients
from attn_surgeon.finetune.loop import train
from attn_surgeon.finetune.memory_allocator import keep_freed_memory
from attn_surgeon.finetune.parameter_groups import make_optimizer
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks.preprocessing import PreprocessingOverrides

from .cifar import resnet20, unpacked
from .trials import one_core

ROUNDS = 9
SETTINGS = FinetuneSettings(epochs=1, batch_size=64, limit=1280, freeze="none")


def bare(model: nn.Module, parts: Splits, settings: FinetuneSettings) -> float:
    """Train one epoch with nothing but torch; give images per second."""
    optimizer = make_optimizer(model, settings)
    data = EpochImages(parts, settings.seed)
    loader = DataLoader(data, settings.batch_size, sampler=EpochSampler(len(data), settings.seed), drop_last=True)
    model.train()
    since = time.perf_counter()
    for batch, labels in loader:
        loss = F.cross_entropy(model(batch), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        clip_gradients(optimizer, settings.clip_grad)
        optimizer.step()
        optimizer.zero_grad()
    return len(data) / (time.perf_counter() - since)


def ours(model: nn.Module, parts: Splits, settings: FinetuneSettings, example: torch.Tensor) -> float:
    """Train one epoch with `finetune`'s loop; give images per second, as it says itself."""
    with tempfile.TemporaryDirectory() as folder:
        return float(train(model, parts, settings, Path(folder), example).history[0]["images_per_second"])


def compare(name: str, loaded: LoadedNetwork) -> None:
    """Print the medians of both, and of their ratio by turns."""
    parts = open_labelled_splits(str(unpacked("cifar10-jpeg")), loaded.preprocessing, SETTINGS)
    parts = replace(parts, val=replace(parts.val, dataset=Subset(parts.val.dataset, range(64))))
    for index in range(len(parts.train.dataset)):  # type: ignore[arg-type]
        parts.train.dataset[index]  # read once, where it is kept
    pairs = []
    for _ in range(ROUNDS):
        models = [insert(loaded.model, "se", at="residual", example=loaded.example) for _ in range(2)]
        set_provenance(models[0], provenance_of(loaded.model))
        pairs.append((ours(models[0], parts, SETTINGS, loaded.example), bare(models[1], parts, SETTINGS)))
    first, second = (statistics.median(values) for values in zip(*pairs, strict=True))
    ratios = sorted(one / two for one, two in pairs)
    spread = f"{ratios[0]:.3f} … {ratios[-1]:.3f}"
    print(f"{name}: {first:.1f} and {second:.1f} images/s, {statistics.median(ratios):.3f} × ({spread})", flush=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare both networks."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--as-usual", action="store_true", help="leave the allocator as it is")
    given = parser.parse_args(arguments)
    one_core()
    if not given.as_usual:
        keep_freed_memory()
    compare("ResNet-20 at 32", resnet20())
    size = PreprocessingOverrides(None, None, (64, 64))
    compare("resnet18 at 64", open_network("timm/resnet18", weights="none", args={"num_classes": "10"}, images=size))


if __name__ == "__main__":
    main()
