"""The module that is exported: images in, named tensors out, with normalisation and softmax where wanted."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attn_surgeon.errors import ExampleError, ExportError, first_line, option
from attn_surgeon.export.images import normalise
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.surgery.rewrite.grafts import RESERVED
from attn_surgeon.surgery.running import run_network

INPUT = "images"
WRAPPED = "network"  # the attribute under which InputOutputWrapper has the network
PROBABILITIES = "probabilities"
_NAMES_OF_CLASSES = ("logits", "out")
_RANKS_OF_CLASSES = (2, 4, 5)  # of rank 3, classes may be axis 1 or axis 2


class InputOutputWrapper(nn.Module):
    """Run a network on images and return its output; several outputs, nested as they may be, as a dict by name."""

    def __init__(
        self, network: nn.Module, names: Sequence[str], preprocessing: Preprocessing | None, softmax: int | None
    ) -> None:
        super().__init__()
        self.network, self.names, self.preprocessing, self.softmax = network, tuple(names), preprocessing, softmax

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """Run on float (N, C, H, W), or uint8 (N, H, W, C) where the preprocessing is inside."""
        x = images if self.preprocessing is None else normalise(images, self.preprocessing)
        outputs = apply_softmax([tensor for _, tensor in named_tensors(self.network(x))], self.softmax)
        return outputs[0] if len(outputs) == 1 else dict(zip(self.names, outputs, strict=True))


@dataclass(frozen=True)
class ExportModule:
    """A module to export.

    Args:
        module: what exporters trace.
        outputs: the names of its outputs.
        preprocessing: the normalisation inside the module, None where there is none.
        classes: the index of the output with classes, None where no output plainly is.
        softmax: whether that output is probabilities.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    preprocessing: Preprocessing | None
    classes: int | None
    softmax: bool


def build_export_module(
    model: nn.Module, example: Tensor, *, preprocessing: Preprocessing | None, softmax: bool
) -> ExportModule:
    """Return the module to export for a network; with `preprocessing`, the normalisation is inside.

    Raises:
        ExportError: the network returns no tensor, or softmax is wanted of no output that plainly has classes.
        ExampleError: the network does not run on the example.
    """
    output = run_on_images(model, example)
    found = named_tensors(output)
    if not found:
        raise ExportError("the network returns no tensor", "", "export a network that does")
    classes = _index_of_classes(found)
    if softmax and classes is None:
        what = f"no output is plainly the one with classes: {', '.join(name for name, _ in found)}"
        hint = "name one of them logits, with shape (N, classes) or (N, classes, H, W)"
        raise ExportError(what, option("softmax"), hint)
    place = classes if softmax else None
    names = _distinct([PROBABILITIES if index == place else name for index, (name, _) in enumerate(found)])
    # a wrapped network's parameters have longer names in the file, so one that needs no wrapper gets none
    is_plain = isinstance(output, Tensor) and preprocessing is None and not softmax
    module = model if is_plain else InputOutputWrapper(model, names, preprocessing, place).eval()
    return ExportModule(module, tuple(names), preprocessing, classes, softmax)


def apply_softmax(outputs: list[Tensor], place: int | None) -> list[Tensor]:
    """Return the outputs with the logits at an index as probabilities."""
    return [tensor.softmax(1) if index == place else tensor for index, tensor in enumerate(outputs)]


def run_on_images(model: nn.Module, images: Tensor) -> Any:
    """Return a network's output; raise ExampleError where it does not run on these images."""
    try:
        return run_network(model, images)
    except Exception as error:  # whatever the network's code raises
        shape = "×".join(map(str, images.shape))
        what = f"the network does not run on images {shape}: {first_line(error).rstrip('.')}"
        raise ExampleError(what, "", "give the size, the range of sizes and the channels that it takes") from error


def _distinct(names: Sequence[str]) -> list[str]:
    """Return names of which no two are the same and none is the input's."""
    distinct: list[str] = []
    for name in names:
        candidates = (f"{name}_{number}" if number else name for number in itertools.count())
        distinct.append(next(candidate for candidate in candidates if candidate not in (INPUT, *distinct)))
    return distinct


def in_graft(name: str) -> bool:
    """Return whether a node of an exported graph belongs to a graft, by its name."""
    return f"{RESERVED}." in name


def _index_of_classes(outputs: Sequence[tuple[str, Tensor]]) -> int | None:
    """Return the index of the one output (N, classes, …) with classes: by its name, or as the only one (N, classes)."""
    possible = [index for index, (_, tensor) in enumerate(outputs) if tensor.ndim in _RANKS_OF_CLASSES]
    named = [index for index in possible if outputs[index][0] in _NAMES_OF_CLASSES]
    flat = [index for index in possible if outputs[index][1].ndim == 2]
    return next((found[0] for found in (possible, named, flat) if len(found) == 1), None)


def named_tensors(output: Any) -> list[tuple[str, Tensor]]:
    """Return the tensors of an output by name: one is `logits` or `output`, several have their keys.

    >>> import torch
    >>> [name for name, _ in named_tensors({"aux": None, "maps": (torch.zeros(1), torch.zeros(1))})]
    ['maps_0', 'maps_1']
    """
    if isinstance(output, Tensor):
        return [("logits" if output.ndim == 2 else "output", output)]
    return [(_join(path), tensor) for path, tensor in _walk(output, ())]


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


def _join(path: tuple[str, ...]) -> str:
    name = "_".join(path)
    return f"output_{name}" if name[0].isdigit() else name
