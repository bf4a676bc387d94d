"""A network made ready for export: what is wanted of it, and the images that files made of it are checked on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.errors import ExampleError, ExportError
from attn_surgeon.export.axes import Axis, Size, corners, fill_ranges, traced
from attn_surgeon.export.identity import closed_grafts, without_closed
from attn_surgeon.export.images import Pixels, folder_pixels, normalise, seeded_pixels
from attn_surgeon.export.network import Network, named_tensors, ship, tried, with_softmax
from attn_surgeon.export.onnx.to_onnx import DEFAULT_OPSET
from attn_surgeon.export.parity import Array, Difference, Parity, ParityError, difference
from attn_surgeon.surgery.check import check
from attn_surgeon.surgery.installed import list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.running import run

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

    loaded: LoadedNetwork
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
        source, preprocessing = self.settings.images, self.loaded.preprocessing
        return seeded_pixels(preprocessing.channels) if source is None else folder_pixels(source, preprocessing)[0]

    def inputs(self, size: Size) -> Tensor:
        """Make what the exported network takes at a size."""
        pixels = self.pixels(size)
        return pixels if self.settings.preprocess else normalise(pixels, self.loaded.preprocessing)

    @property
    def example(self) -> Tensor:
        """Make the input that exporters trace with."""
        return self.inputs(traced(self.axes, self.loaded.preprocessing.size))

    def sizes(self) -> Iterator[Size]:
        """List the sizes to check."""
        return corners(self.axes, self.loaded.preprocessing.size)

    def expected(self, size: Size) -> list[Array]:
        """Compute what PyTorch gives at a size, with every graft that the network has.

        Raises ExampleError where it does not run there, and ExportError where it gives no numbers.
        """
        arrays = self._arrays(tried(self.loaded.model, self._images(size)))
        values = [array for array in arrays if array.size]
        if values and not any(np.isfinite(array).any() for array in values):
            what = f"the network gives no finite numbers for the images compared, {name_size(size)}"
            raise ExportError(what, "", "give real ones with --images, or repair the weights")
        return arrays

    def _images(self, size: Size) -> Tensor:
        return normalise(self.pixels(size), self.loaded.preprocessing)

    def _arrays(self, output: Any) -> list[Array]:
        place = self.network.classes if self.network.softmax else None
        outputs = with_softmax([tensor for _, tensor in named_tensors(output)], place)
        return [tensor.numpy() for tensor in outputs]

    def check(
        self, compute: Callable[[Tensor], Sequence[Array]], usual: float, name: str, *, single: bool = True
    ) -> Parity:
        """Compare what a file computes with the network's outputs at every size; raise ParityError as `required` does.

        `usual` is the tolerance where the settings have none.
        """
        found = tuple(self._compare(size, compute) for size in self.sizes())
        return self.required(Parity("PyTorch", self.tolerance(usual), found), name, single=single)

    def tolerance(self, usual: float) -> float:
        """Give the difference that is allowed."""
        return usual if self.settings.tolerance is None else self.settings.tolerance

    def _compare(self, size: Size, compute: Callable[[Tensor], Sequence[Array]]) -> Difference:
        expected = self.expected(size)
        return difference(name_size(size), compute(self.inputs(size)), expected, self.network.classes)

    def required(self, parity: Parity, name: str, *, single: bool = True) -> Parity:
        """Give a parity that passed; otherwise raise ParityError, for single precision with what PyTorch does there."""
        if parity.passed:
            return parity
        worst = next(size for size in self.sizes() if name_size(size) == parity.worst.size)
        raise ParityError(parity, name, self.excuse(worst, parity.tolerance) if single else "")

    def rounding(self, size: Size) -> float | None:
        """Say how far single precision alone moves PyTorch's outputs, relative to the largest; None if unknown."""
        images = self._images(size).double()
        try:
            exact = run(copied(self.loaded.model).double(), images)
        except (RuntimeError, TypeError, ValueError):  # not every network runs in double precision
            return None
        return difference(name_size(size), self.expected(size), self._arrays(exact)).relative

    def excuse(self, size: Size, tolerance: float) -> str:
        """Say what else than the file may make the difference at a size: the network itself, or rounding."""
        first, other = (self._arrays(run(self.loaded.model, self._images(size), seed=seed)) for seed in (0, 1))
        if difference("", first, other).relative > tolerance:
            return "the network draws random numbers, so that its outputs are others each time"
        rounding = self.rounding(size)
        if rounding is None or rounding <= tolerance / 10:
            return ""
        return f"rounding alone moves PyTorch's own outputs by {rounding:.2g} there, as double precision shows"

    def original(self) -> Network:
        """Give the network without any grafts, prepared in the same way."""
        return _shipped(self.loaded, self.loaded.base(), self.settings)


def prepare(loaded: LoadedNetwork, settings: Settings) -> Job:
    """Make a network ready for export, in single precision; raise ExportError where it cannot be."""
    loaded.model.to(torch.device("cpu")).float().eval()
    with suppress(ExampleError):  # which is told of every size that is asked for
        check(loaded.model, loaded.example)
    grafts = tuple(made.path for made in list_grafts(loaded.model))
    closed = tuple(made.path for made in closed_grafts(loaded.model))
    dropped = () if settings.keep_identity else closed
    model = without_closed(loaded.model) if dropped else loaded.model
    network = _shipped(loaded, model, settings)  # which runs at its own size, before others are tried
    axes = fill_ranges(settings.axes, model, loaded.preprocessing, seeded=settings.images is None)
    return Job(loaded, settings, network, axes, dropped, closed, grafts)


def _shipped(loaded: LoadedNetwork, model: nn.Module, settings: Settings) -> Network:
    inside, softmax = settings.preprocess, settings.softmax
    return ship(model, loaded.example, loaded.preprocessing, inside=inside, softmax=softmax)


def name_size(size: Size) -> str:
    """Write a size as N×H×W."""
    return "×".join(str(size[name]) for name in ("batch", "height", "width"))
