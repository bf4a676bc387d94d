"""A network as it is shipped: images in, tensors with names out, with normalisation and softmax where wanted."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attn_surgeon.errors import ExampleError, ExportError, first_line
from attn_surgeon.export.images import normalise
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.surgery.rewrite.grafts import RESERVED
from attn_surgeon.surgery.running import run

INPUT = "images"
INNER = "network"
CLASSES = ("logits", "out")  # what outputs that hold classes are called
PROBABILITIES = "probabilities"
_OF_CLASSES = (2, 4, 5)  # axes; with three, classes may be the second or the last


class Shipped(nn.Module):
    """Run a network on images and give its output; of several, nested as they may be, a dict by name."""

    def __init__(
        self, network: nn.Module, names: Sequence[str], preprocessing: Preprocessing | None, softmax: int | None
    ) -> None:
        super().__init__()
        self.network, self.names, self.preprocessing, self.softmax = network, tuple(names), preprocessing, softmax

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """Take float (N, C, H, W), or uint8 (N, H, W, C) where the preprocessing is inside."""
        x = images if self.preprocessing is None else normalise(images, self.preprocessing)
        outputs = with_softmax([tensor for _, tensor in named_tensors(self.network(x))], self.softmax)
        return outputs[0] if len(outputs) == 1 else dict(zip(self.names, outputs, strict=True))


@dataclass(frozen=True)
class Network:
    """A module to export, its outputs by name, the place of the one with classes, and whether as probabilities."""

    module: nn.Module
    outputs: tuple[str, ...]
    preprocessing: Preprocessing | None
    classes: int | None
    softmax: bool


def ship(model: nn.Module, example: Tensor, preprocessing: Preprocessing, *, inside: bool, softmax: bool) -> Network:
    """Prepare a network for export; `inside` puts the normalisation in it.

    Raises ExportError where it cannot be, and ExampleError where it does not run on the example.
    """
    output = tried(model, example)
    found = named_tensors(output)
    if not found:
        raise ExportError("the network gives no tensor", "", "export a network that does")
    classes = _place_of_classes(found)
    if softmax and classes is None:
        what = f"none of the outputs is plainly the one with classes: {', '.join(name for name, _ in found)}"
        raise ExportError(what, "--softmax", "call that one logits, of the form (N, classes) or (N, classes, H, W)")
    chosen = classes if softmax else None
    names = _distinct([PROBABILITIES if place == chosen else name for place, (name, _) in enumerate(found)])
    # a module that is wrapped has other names for its parameters in the file, so what needs no wrapping has none
    plain = isinstance(output, Tensor) and not inside and not softmax
    given = preprocessing if inside else None
    module = model if plain else Shipped(model, names, given, chosen).eval()
    return Network(module, tuple(names), given, classes, softmax)


def with_softmax(outputs: list[Tensor], place: int | None) -> list[Tensor]:
    """Turn the logits at a place into probabilities."""
    return [tensor.softmax(1) if index == place else tensor for index, tensor in enumerate(outputs)]


def tried(model: nn.Module, images: Tensor) -> Any:
    """Run a network; raise ExampleError where it does not run on these images."""
    try:
        return run(model, images)
    except Exception as error:  # whatever the network's code raises
        shape = "×".join(map(str, images.shape))
        what = f"the network does not run on images {shape}: {first_line(error).rstrip('.')}"
        raise ExampleError(what, "", "give the size, the range of sizes and the channels that it takes") from error


def _distinct(names: Sequence[str]) -> list[str]:
    """Give every output a name of its own, which is not the input's."""
    distinct: list[str] = []
    for name in names:
        free = (f"{name}_{number}" if number else name for number in itertools.count())
        distinct.append(next(each for each in free if each not in (INPUT, *distinct)))
    return distinct


def in_graft(name: str) -> bool:
    """Tell by its name whether a node of an exported network is a graft's."""
    return f"{RESERVED}." in name


def _place_of_classes(outputs: Sequence[tuple[str, Tensor]]) -> int | None:
    """Find the one output (N, classes, …) that holds classes: by its name, or as the only one (N, classes)."""
    several = [place for place, (_, tensor) in enumerate(outputs) if tensor.ndim in _OF_CLASSES]
    named = [place for place in several if outputs[place][0] in CLASSES]
    flat = [place for place in several if outputs[place][1].ndim == 2]
    return next((found[0] for found in (several, named, flat) if len(found) == 1), None)


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
