"""Prepare a network for export: single precision, CPU, eval mode, without identity grafts; and its example images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.errors import ExampleError, ExportError, option
from attn_surgeon.export.dynamic_axes import Axis, Size, corners, fill_ranges, traced
from attn_surgeon.export.example_images import Pixels, folder_pixels, normalise, seeded_pixels
from attn_surgeon.export.identity_grafts import closed_grafts, without_closed
from attn_surgeon.export.module import ExportModule, build_export_module
from attn_surgeon.export.settings import ExportSettings
from attn_surgeon.surgery.allocation import require_runnable
from attn_surgeon.surgery.graft_check import check
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import copied


@dataclass(frozen=True)
class PreparedNetwork:
    """A network in single precision on the CPU, with the module that exporters trace.

    Args:
        network: the network with all of its grafts.
        settings: the settings of the export.
        exported: the module that exporters trace.
        axes: the dynamic axes with their ranges.
        grafts: the paths of all grafts.
        closed: the paths of those that are exactly the identity.
        dropped: the paths of those that are not in the exported module.
    """

    network: LoadedNetwork
    settings: ExportSettings
    exported: ExportModule
    axes: tuple[Axis, ...]
    grafts: tuple[str, ...]
    closed: tuple[str, ...]
    dropped: tuple[str, ...]

    @property
    def module(self) -> nn.Module:
        """The module that exporters trace."""
        return self.exported.module

    @property
    def untrained(self) -> bool:
        """Whether there are grafts and every one is the identity."""
        return bool(self.grafts) and self.closed == self.grafts

    @cached_property
    def pixels(self) -> Pixels:
        """A function that returns uint8 images (N, H, W, C) of a size."""
        source, preprocessing = self.settings.images, self.network.preprocessing
        return seeded_pixels(preprocessing.channels) if source is None else folder_pixels(source, preprocessing)[0]

    def normalised(self, size: Size) -> Tensor:
        """Return images (N, C, H, W), normalised for the network."""
        return normalise(self.pixels(size), self.network.preprocessing)

    def inputs(self, size: Size) -> Tensor:
        """Return images as inputs of the exported file."""
        return self.pixels(size) if self.settings.preprocess else self.normalised(size)

    @property
    def example(self) -> Tensor:
        """The input for tracing."""
        return self.inputs(traced(self.axes, self.network.preprocessing.size))

    def sizes(self) -> Iterator[Size]:
        """Yield the sizes at which files are compared with PyTorch."""
        return corners(self.axes, self.network.preprocessing.size)

    def without_grafts(self) -> ExportModule:
        """Return the module for the network without any grafts."""
        return _build(self.network, self.network.base(), self.settings)


def prepare(network: LoadedNetwork, settings: ExportSettings) -> PreparedNetwork:
    """Return a network ready for export, in single precision on the CPU; the original is not changed.

    Raises:
        ExportError: the network cannot be exported with these settings.
        ExampleError: it does not run on images of its input size.
    """
    network = replace(network, model=_as_single(network.model))
    with suppress(ExampleError):  # raised below, with the size that was asked for
        check(network.model, network.example)
    grafts = tuple(graft.path for graft in list_grafts(network.model))
    closed = tuple(graft.path for graft in closed_grafts(network.model))
    dropped = () if settings.keep_identity else closed
    model = without_closed(network.model) if dropped else network.model
    exported = _build(network, model, settings)  # runs at the input size, before fill_ranges tries others
    chosen = _chosen_axes(settings.axes, objects=exported.objects)
    axes = fill_ranges(chosen, model, network.preprocessing, seeded=settings.images is None)
    for size in corners(axes, network.preprocessing.size):
        shape = (size["batch"], network.preprocessing.channels, size["height"], size["width"])
        what = f"a batch of {'×'.join(map(str, shape))}"
        require_runnable(model, shape, what, f"choose a smaller range in {option('dynamic')}")
    return PreparedNetwork(network, settings, exported, axes, grafts, closed, dropped)


def _chosen_axes(axes: Sequence[Axis] | None, *, objects: bool) -> Sequence[Axis]:
    """Return the axes or else the default ones; raise ExportError for a batch of a network that returns objects."""
    if axes is None:
        return () if objects else (Axis("batch"),)
    if objects and any(axis.name == "batch" for axis in axes):
        what = "the number of objects differs from image to image, so the file takes one image at a time"
        raise ExportError(what, option("dynamic"), "leave the batch out")
    return axes


def _as_single(model: nn.Module) -> nn.Module:
    """Return a model in single precision, on the CPU and in eval mode: the same one if it is, otherwise a copy."""
    tensors = (*model.parameters(), *model.buffers())
    is_single = all(tensor.dtype == torch.float32 for tensor in tensors if tensor.is_floating_point())
    if is_single and all(tensor.device.type == "cpu" for tensor in tensors) and not _in_training(model):
        return model
    return copied(model).to("cpu").float().eval()


def _in_training(model: nn.Module) -> bool:
    return any(module.training for module in model.modules())


def _build(network: LoadedNetwork, model: nn.Module, settings: ExportSettings) -> ExportModule:
    preprocessing = network.preprocessing if settings.preprocess else None
    return build_export_module(model, network.example, preprocessing=preprocessing, softmax=settings.softmax)
