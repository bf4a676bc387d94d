"""What is profiled: a PyTorch network or an ONNX file, under a name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.errors import excerpt, option
from attn_surgeon.measure.cost import macs, parameters
from attn_surgeon.measure.peak_memory import peak_memory
from attn_surgeon.profiling.onnx_input import OnnxInput
from attn_surgeon.surgery.allocation import require_runnable
from attn_surgeon.surgery.check import check
from attn_surgeon.surgery.installed import list_grafts
from attn_surgeon.surgery.isolation import mode
from attn_surgeon.surgery.running import run_network


@dataclass(frozen=True)
class ProfileInput:
    """A network or an ONNX file, under the name that tables call it by.

    `time_limit` are the seconds that running it once in ONNX Runtime may take, None for the default.
    """

    name: str
    given: LoadedNetwork | OnnxInput
    time_limit: float | None = None


@dataclass(frozen=True)
class NetworkCost:
    """Parameters, MACs of one image (None where they are unknown), and the image's shape without the batch."""

    parameters: int
    macs: int | None
    image: tuple[int, ...]


def original(given: LoadedNetwork | OnnxInput) -> LoadedNetwork | None:
    """Return the same network without its grafts, or None where it has none."""
    if isinstance(given, OnnxInput) or not list_grafts(given.model):
        return None
    return replace(given, model=given.base(), notes=())


def cost_of(item: ProfileInput) -> NetworkCost:
    """Return parameters and multiply-accumulates; those of an ONNX file are not counted."""
    given = item.given
    if isinstance(given, OnnxInput):
        return NetworkCost(given.parameters, None, given.image)
    example = given.example.to(_device(given.model))
    check(given.model, example)
    run_once = partial(run_network, given.model, example)
    return NetworkCost(parameters(given.model), macs(run_once), tuple(example.shape[1:]))


def images(loaded: LoadedNetwork, batch: int, device: torch.device) -> Tensor:
    """Return a batch (N, C, H, W) of the example; raise MemoryLimitError where there is no memory to run it."""
    shape = (batch, *loaded.example.shape[1:])
    require_runnable(loaded.model, shape, f"a batch of {excerpt(batch, 20)}", f"choose a smaller {option('batch')}")
    return loaded.example.repeat(batch, 1, 1, 1).to(device)


def memory(loaded: LoadedNetwork, batch: int, device: torch.device) -> int:
    """Return the most bytes that activations and kernels' workspaces take at one time in a forward pass."""
    model, x = loaded.model.to(device), images(loaded, batch, device)
    with mode(model, training=False), torch.inference_mode():
        model(x)  # what libraries allocate once is no activation
        return peak_memory(partial(model, x), device)


def _device(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
