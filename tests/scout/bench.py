"""The network of a study with its images, and short fine-tunes of single grafts from cached features."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.data.sampling import shuffled
from attn_surgeon.data.splits import Splits
from attn_surgeon.finetune.freezing import freeze, train_mode
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.operations.insert import insert_block
from attn_surgeon.scouting.candidates import Candidate, Lineup, line_up
from attn_surgeon.scouting.head import fit_linear_head
from attn_surgeon.scouting.short_training import take_steps
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.sites.selection import Selection
from attn_surgeon.tasks import get_task

from .networks import Subject, chained

TASK = get_task("classification")
EVALUATED = 250  # images at once
Labelled = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Size:
    """How large a study is: images to train and to validate on, epochs, blocks, and how scores are computed.

    Of all pairs of sites and blocks every n-th is trained, by turns over both.
    """

    train: int = 2000
    val: int = 2000
    epochs: int = 3
    blocks: tuple[str, ...] = ("se", "eca", "cbam", "coord", "cpca", "gc")
    batches: int = 16
    batch_size: int = 32
    every: int = 2


@dataclass(frozen=True)
class Bench:
    """A network whose head is fitted on frozen features, its data, and the modules that run one after the other."""

    network: LoadedNetwork
    splits: Splits
    train: Labelled
    val: Labelled
    chain: Sequence[str]
    settings: FinetuneSettings
    size: Size

    @classmethod
    def open(cls, subject: Subject, size: Size) -> Bench:
        """Open data and network; the images that are trained on are not those that candidates are scored on."""
        scored = size.batches * size.batch_size
        settings = FinetuneSettings(freeze="base", epochs=size.epochs, augment=False, limit=size.train + 3 * scored)
        loaded = subject.open()
        splits = TASK.open_splits(str(subject.data()), loaded.preprocessing, settings)
        loaded = TASK.fit_head(loaded, splits.train.class_names, settings)
        train, val = _images(splits.train, 3 * scored, size.train), _images(splits.val, 0, size.val)
        batches = list(zip(torch.split(train[0], 64), torch.split(train[1], 64), strict=True))
        fit_linear_head(loaded.model, loaded.example, TASK, settings, batches)
        loaded.model.to(memory_format=torch.channels_last)  # faster, most of all for depthwise convolutions
        return cls(loaded, splits, train, val, chained(loaded, subject.chain), settings, size)

    def line_up(self, seed: int = 0) -> Lineup:
        """Return all candidates in one network."""
        specs = [BlockSpec.read(block, {}) for block in self.size.blocks]
        return line_up(self.network, specs, Selection.read(at=("residual", "stages")), seed=seed)

    def starts(self, lineup: Lineup) -> dict[Candidate, int]:
        """Return the candidates to train, with the position in the chain of the module that holds each.

        Those of late sites come first: they take the least time.
        """
        grafts = lineup.grafts
        sites = list(dict.fromkeys((each.site, each.side) for each in grafts))
        turn = {each: sites.index((each.site, each.side)) + self.size.blocks.index(each.block) for each in grafts}
        chosen = [each for each in reversed(grafts) if turn[each] % self.size.every == 0]
        return {each: self.position(grafts[each].owner) for each in chosen}

    def position(self, owner: str) -> int:
        """Return the position in the chain of the module that is, or holds, the owner of a graft."""
        return max((n for n, path in enumerate(self.chain) if f"{owner}.".startswith(f"{path}.")), default=0)

    def features(self, position: int) -> tuple[Labelled, Labelled]:
        """Return what the module at a position of the chain takes, for the training and the validation images."""
        module = self.network.model.get_submodule(self.chain[position])
        return _inputs(self.network.model, module, self.train), _inputs(self.network.model, module, self.val)

    def fine_tune(
        self, candidate: Candidate | None, seed: int, position: int, data: tuple[Labelled, Labelled]
    ) -> dict[str, Any]:
        """Train one graft and the head, or the head alone, and return top-1 and loss on the validation images."""
        model = copied(self.network.model)
        if candidate is not None:
            insert_block(model, *_single(candidate), self.network.example, seed=seed, inplace=True)
        norms = freeze(model, self.settings, self.network.example)
        train_mode(model, norms)
        with skipped(model, self.chain[:position]):
            self._train(model, data[0], seed)
            model.eval()
            with torch.no_grad():
                logits = torch.cat([model(part) for part in torch.split(data[1][0], EVALUATED)])
        labels = data[1][1]
        return {
            "top1": float((logits.argmax(1) == labels).float().mean()),
            "loss": float(F.cross_entropy(logits, labels)),
        }

    def _train(self, model: nn.Module, data: Labelled, seed: int) -> None:
        size, epochs = self.settings.batch_size, self.settings.epochs
        steps = len(data[0]) // size
        chosen = (shuffled(len(data[0]), seed, epoch)[: steps * size] for epoch in range(epochs))
        parts = (order[place : place + size] for order in chosen for place in range(0, len(order), size))
        batches = ((data[0][part], data[1][part]) for part in parts)
        take_steps(model, TASK, self.settings, batches, steps * epochs)


@contextmanager
def skipped(model: nn.Module, paths: Sequence[str]) -> Iterator[None]:
    """Make modules return their input until the context ends, so that the network takes what the next one takes."""
    modules = [model.get_submodule(path) for path in paths]
    for module in modules:
        vars(module)["forward"] = _unchanged
    try:
        yield
    finally:
        for module in modules:
            del vars(module)["forward"]


def _unchanged(x: Tensor) -> Tensor:
    return x


def _single(candidate: Candidate) -> tuple[BlockSpec, Selection]:
    return BlockSpec.read(candidate.block, {}), Selection.read(**{candidate.side: candidate.site})


@torch.no_grad()
def _inputs(model: nn.Module, module: nn.Module, data: Labelled) -> Labelled:
    taken: list[Tensor] = []
    handle = module.register_forward_pre_hook(lambda own, args: taken.append(args[0].clone()))
    model.eval()
    for part in torch.split(data[0], EVALUATED):
        model(part)
    handle.remove()
    return torch.cat(taken), data[1]


def _images(data: Any, skip: int, count: int) -> Labelled:
    chosen = shuffled(len(data.dataset), 0, 0)[skip:][:count]
    items = [data.dataset[number] for number in chosen]
    images = torch.stack([item[0] for item in items]).contiguous(memory_format=torch.channels_last)
    return images, torch.tensor([item[1] for item in items])
