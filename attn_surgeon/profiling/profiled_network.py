"""The networks and ONNX files to profile, with their parameters, MACs and memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.errors import excerpt, option
from attn_surgeon.measure.cost import macs, parameters
from attn_surgeon.measure.peak_memory import peak_memory
from attn_surgeon.profiling.onnx_file import OnnxInput
from attn_surgeon.surgery.allocation import require_runnable
from attn_surgeon.surgery.graft_check import check
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import mode
from attn_surgeon.surgery.running import run_network


@dataclass(frozen=True)
class ProfileInput:
    """A network or an ONNX file to profile.

    Args:
        name: its name in tables.
        source: the network or the file.
        time_limit: the seconds that one run in ONNX Runtime may take; None for the default.
    """

    name: str
    source: LoadedNetwork | OnnxInput
    time_limit: float | None = None


@dataclass(frozen=True)
class NetworkCost:
    """The parameters, the MACs for one image (None if unknown), and the shape of the image without the batch."""

    parameters: int
    macs: int | None
    image: tuple[int, ...]


def original(source: LoadedNetwork | OnnxInput) -> LoadedNetwork | None:
    """Return the network without its grafts; None where it has none."""
    if isinstance(source, OnnxInput) or not list_grafts(source.model):
        return None
    return replace(source, model=source.base(), notes=())


def cost_of(item: ProfileInput) -> NetworkCost:
    """Return parameters and multiply-accumulates; those of an ONNX file are not counted."""
    source = item.source
    if isinstance(source, OnnxInput):
        return NetworkCost(source.parameters, None, source.image)
    example = source.example.to(_device(source.model))
    check(source.model, example)
    run_once = partial(run_network, source.model, example)
    return NetworkCost(parameters(source.model), macs(run_once), tuple(example.shape[1:]))


def images(loaded: LoadedNetwork, batch: int, device: torch.device) -> Tensor:
    """Return a batch (N, C, H, W) of the example; raise MemoryLimitError where there is no memory to run it."""
    shape = (batch, *loaded.example.shape[1:])
    require_runnable(loaded.model, shape, f"a batch of {excerpt(batch, 20)}", f"choose a smaller {option('batch')}")
    return loaded.example.repeat(batch, 1, 1, 1).to(device)


def memory(loaded: LoadedNetwork, batch: int, device: torch.device) -> int:
    """Return the peak of the bytes of activations and kernel workspaces in a forward pass."""
    model, x = loaded.model.to(device), images(loaded, batch, device)
    with mode(model, training=False), torch.inference_mode():
        model(x)  # first, because libraries allocate memory once that is not for activations
        return peak_memory(partial(model, x), device)


def _device(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
