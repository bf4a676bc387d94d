"""What is profiled: a network of PyTorch, or an ONNX file, under a name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.measure.cost import macs, parameters
from attn_surgeon.measure.peak_memory import peak_memory
from attn_surgeon.profiling.onnx_file import OnnxFile
from attn_surgeon.surgery.check import check
from attn_surgeon.surgery.installed import list_grafts
from attn_surgeon.surgery.isolation import mode
from attn_surgeon.surgery.running import run


@dataclass(frozen=True)
class Entrant:
    """A network or an ONNX file, under the name that tables call it by."""

    name: str
    given: LoadedNetwork | OnnxFile


@dataclass(frozen=True)
class Size:
    """Parameters, MACs of one image (None where they are not known), and what comes in."""

    parameters: int
    macs: int | None
    image: tuple[int, ...]


def original(given: LoadedNetwork | OnnxFile) -> LoadedNetwork | None:
    """Give the same network without its grafts, or None where there are none to take out."""
    if isinstance(given, OnnxFile) or not list_grafts(given.model):
        return None
    return replace(given, model=given.base(), notes=())


def size_of(entrant: Entrant) -> Size:
    """Count parameters and multiply-accumulates; what an ONNX file computes is not counted."""
    given = entrant.given
    if isinstance(given, OnnxFile):
        return Size(given.parameters, None, given.image)
    example = given.example.to(_device(given.model))
    check(given.model, example)
    return Size(parameters(given.model), macs(partial(run, given.model, example)), tuple(example.shape[1:]))


def images(loaded: LoadedNetwork, batch: int, device: torch.device) -> Tensor:
    """Make a batch (N, C, H, W) of the example."""
    return loaded.example.repeat(batch, 1, 1, 1).to(device)


def memory(loaded: LoadedNetwork, batch: int, device: torch.device) -> int:
    """Give the most bytes that activations and kernels' workspaces take at one time in a forward pass."""
    model, x = loaded.model.to(device), images(loaded, batch, device)
    with mode(model, training=False), torch.inference_mode():
        model(x)  # what libraries set aside once is no activation
        return peak_memory(partial(model, x), device)


def _device(model: nn.Module) -> torch.device:
    return next((tensor.device for tensor in model.parameters()), torch.device("cpu"))
