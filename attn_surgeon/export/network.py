"""A network as it is shipped: images in, tensors with names out, with normalisation and softmax where wanted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attn_surgeon.errors import ExportError
from attn_surgeon.export.images import normalise
from attn_surgeon.graph.forwards.operated import RESERVED
from attn_surgeon.graph.running import run
from attn_surgeon.preprocessing import Preprocessing

INPUT = "images"
INNER = "network"


class Shipped(nn.Module):
    """Run a network on images; of several outputs, nested as they may be, give the tensors in a row."""

    def __init__(self, network: nn.Module, preprocessing: Preprocessing | None, softmax: bool) -> None:
        super().__init__()
        self.network, self.preprocessing, self.softmax = network, preprocessing, softmax

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Take float (N, C, H, W), or uint8 (N, H, W, C) where the preprocessing is inside."""
        x = images if self.preprocessing is None else normalise(images, self.preprocessing)
        outputs = tuple(tensor for _, tensor in named_tensors(self.network(x)))
        return (outputs[0].softmax(1), *outputs[1:]) if self.softmax else outputs


@dataclass(frozen=True)
class Network:
    """A module to export, and the names of its outputs."""

    module: nn.Module
    outputs: tuple[str, ...]
    preprocessing: Preprocessing | None


def ship(model: nn.Module, example: Tensor, preprocessing: Preprocessing, *, inside: bool, softmax: bool) -> Network:
    """Prepare a network for export; `inside` puts the normalisation in it. Raises ExportError where it cannot be."""
    output = run(model, example)
    names = [name for name, _ in named_tensors(output)]
    if not names:
        raise ExportError("the network gives no tensor", "", "export a network that does")
    if softmax:
        _require_classes(output)
        names[0] = "probabilities"
    # a module that is wrapped has other names for its parameters in the file, so what needs no wrapping has none
    plain = isinstance(output, Tensor) and not inside and not softmax
    given = preprocessing if inside else None
    return Network(model if plain else Shipped(model, given, softmax).eval(), tuple(names), given)


def in_graft(name: str) -> bool:
    """Tell by its name whether a node of an exported network is a graft's."""
    return f"{RESERVED}." in name


def _require_classes(output: Any) -> None:
    first = next(tensor for _, tensor in named_tensors(output))
    if first.ndim < 2:
        raise ExportError("there are no classes to take a softmax over", "--softmax", "leave it out")


def named_tensors(output: Any) -> list[tuple[str, Tensor]]:
    """List the tensors of an output with names: one is `logits` or `output`, of several each has its keys."""
    if isinstance(output, Tensor):
        return [("logits" if output.ndim == 2 else "output", output)]
    found = _walk(output, ())
    return [(_name(path), tensor) for path, tensor in found]


def _walk(value: Any, path: tuple[str, ...]) -> list[tuple[tuple[str, ...], Tensor]]:
    if isinstance(value, Tensor):
        return [(path, value)]
    if isinstance(value, Mapping):
        items = [(str(key), item) for key, item in value.items()]
    elif isinstance(value, (tuple, list)):
        items = [(str(index), item) for index, item in enumerate(value)]
    elif hasattr(value, "__dict__") and not callable(value):
        items = list(vars(value).items())
    else:
        return []
    return [found for key, item in items for found in _walk(item, (*path, key))]


def _name(path: tuple[str, ...]) -> str:
    name = "_".join(path)
    return f"output_{name}" if name[0].isdigit() else name
