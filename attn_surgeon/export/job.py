"""A network made ready for export: what is wanted of it, and the images that files made of it are checked on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.export.axes import Axis, Size, corners, fill_ranges, traced
from attn_surgeon.export.identity import closed_grafts, without_closed
from attn_surgeon.export.images import Pixels, folder_pixels, normalise, seeded_pixels
from attn_surgeon.export.network import Network, named_tensors, ship
from attn_surgeon.export.parity import Array, difference
from attn_surgeon.graph.running import run
from attn_surgeon.graph.surgery import list_grafts
from attn_surgeon.subject import Subject

DEFAULT_OPSET = 20
PROTOBUF_LIMIT = 1_900_000_000


@dataclass(frozen=True)
class Settings:
    """How a network is to be exported; a file above `external_above` bytes keeps its tensors in one beside it."""

    axes: tuple[Axis, ...] = (Axis("batch"),)
    opset: int = DEFAULT_OPSET
    keep_identity: bool = False
    preprocess: bool = False
    softmax: bool = False
    images: str | Path | None = None
    tolerance: float | None = None
    external_above: int = PROTOBUF_LIMIT


@dataclass(frozen=True)
class Job:
    """A network made ready for export; `dropped` grafts are the identity and not in it, `kept` ones have learnt."""

    subject: Subject
    settings: Settings
    network: Network
    axes: tuple[Axis, ...]
    dropped: tuple[str, ...]
    closed: tuple[str, ...]
    grafts: tuple[str, ...]

    @property
    def untrained(self) -> bool:
        """Say whether there are grafts and every one is the identity."""
        return bool(self.grafts) and self.closed == self.grafts

    @cached_property
    def pixels(self) -> Pixels:
        """Give what makes images (N, H, W, C) of a size."""
        source, preprocessing = self.settings.images, self.subject.preprocessing
        return seeded_pixels(preprocessing.channels) if source is None else folder_pixels(source, preprocessing)[0]

    def inputs(self, size: Size) -> Tensor:
        """Make what the exported network takes at a size."""
        pixels = self.pixels(size)
        return pixels if self.settings.preprocess else normalise(pixels, self.subject.preprocessing)

    @property
    def example(self) -> Tensor:
        """Make the input that exporters trace with."""
        return self.inputs(traced(self.axes, self.subject.preprocessing.size))

    def sizes(self) -> Iterator[Size]:
        """List the sizes to check."""
        return corners(self.axes, self.subject.preprocessing.size)

    def expected(self, size: Size) -> list[Array]:
        """Compute what PyTorch gives at a size, with every graft that the network has."""
        return self._arrays(run(self.subject.model, normalise(self.pixels(size), self.subject.preprocessing)))

    def _arrays(self, output: Any) -> list[Array]:
        outputs = [tensor for _, tensor in named_tensors(output)]
        if self.settings.softmax:
            outputs[0] = outputs[0].softmax(1)
        return [tensor.numpy() for tensor in outputs]

    def rounding(self, size: Size) -> float | None:
        """Say how far single precision alone moves PyTorch's outputs, relative to the largest; None if unknown."""
        images = normalise(self.pixels(size), self.subject.preprocessing).double()
        try:
            exact = run(copy.deepcopy(self.subject.model).double(), images)
        except (RuntimeError, TypeError, ValueError):  # not every network runs in double precision
            return None
        return difference(name_size(size), self.expected(size), self._arrays(exact)).relative

    def original(self) -> Network:
        """Give the network without any grafts, prepared in the same way."""
        return _shipped(self.subject, self.subject.base(), self.settings)


def prepare(subject: Subject, settings: Settings) -> Job:
    """Make a network ready for export; raise ExportError where it cannot be."""
    subject.model.to(torch.device("cpu")).eval()
    grafts = tuple(made.path for made in list_grafts(subject.model))
    closed = tuple(made.path for made in closed_grafts(subject.model))
    dropped = () if settings.keep_identity else closed
    model = without_closed(subject.model) if dropped else subject.model
    axes = fill_ranges(settings.axes, model, subject.preprocessing)
    return Job(subject, settings, _shipped(subject, model, settings), axes, dropped, closed, grafts)


def _shipped(subject: Subject, model: nn.Module, settings: Settings) -> Network:
    inside, softmax = settings.preprocess, settings.softmax
    return ship(model, subject.example, subject.preprocessing, inside=inside, softmax=softmax)


def name_size(size: Size) -> str:
    """Write a size as N×H×W."""
    return "×".join(str(size[name]) for name in ("batch", "height", "width"))
