"""Build the module that exporters trace: images in, named tensors out, with optional normalisation and softmax."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from attn_surgeon.errors import ExampleError, ExportError, first_line, option
from attn_surgeon.export.detections import OBJECTS, ObjectsModule, returns_objects
from attn_surgeon.export.example_images import normalise
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.surgery.rewrite.grafts import RESERVED
from attn_surgeon.surgery.running import run_network

INPUT = "images"
WRAPPED = "network"  # the attribute of InputOutputWrapper that is the network
PROBABILITIES = "probabilities"
_NAMES_OF_CLASSES = ("logits", "out")
_RANKS_OF_CLASSES = (2, 4, 5)  # not 3: its classes may be axis 1 or axis 2


class InputOutputWrapper(nn.Module):
    """Run a network on images and return its output, or a flat dict of several nested outputs."""

    def __init__(
        self, network: nn.Module, names: Sequence[str], preprocessing: Preprocessing | None, softmax: int | None
    ) -> None:
        super().__init__()
        self.network, self.names, self.preprocessing, self.softmax = network, tuple(names), preprocessing, softmax

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        """Run on float images (N, C, H, W) or, with preprocessing inside, on uint8 images (N, H, W, C)."""
        x = images if self.preprocessing is None else normalise(images, self.preprocessing)
        outputs = apply_softmax([tensor for _, tensor in named_tensors(self.network(x))], self.softmax)
        return outputs[0] if len(outputs) == 1 else dict(zip(self.names, outputs, strict=True))


@dataclass(frozen=True)
class ExportModule:
    """A module to export.

    Args:
        module: the module that exporters trace.
        outputs: the names of its outputs.
        preprocessing: the normalisation inside the module, if any.
        classes: the index of the output that has logits; None where it is ambiguous.
        softmax: whether that output is probabilities.
        objects: whether the outputs are the objects found in one image, whose number differs from image to image.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    preprocessing: Preprocessing | None
    classes: int | None
    softmax: bool
    objects: bool = False


def build_export_module(
    model: nn.Module, example: Tensor, *, preprocessing: Preprocessing | None, softmax: bool
) -> ExportModule:
    """Build the module to export; with `preprocessing`, the normalisation is inside.

    Raises:
        ExportError: the network returns no tensor, or it is ambiguous which output softmax applies to.
        ExampleError: the network does not run on the example.
    """
    output = run_on_images(model, example)
    if returns_objects(output):
        return _build_objects_module(model, preprocessing, softmax=softmax)
    outputs = named_tensors(output)
    if not outputs:
        raise ExportError("the network returns no tensor", "", "export a network that does")
    classes = _index_of_classes(outputs)
    if softmax and classes is None:
        what = f"it is ambiguous which output has the logits: {', '.join(name for name, _ in outputs)}"
        hint = "name one of them logits, with shape (N, classes) or (N, classes, H, W)"
        raise ExportError(what, option("softmax"), hint)
    softmax_index = classes if softmax else None
    names = _distinct([PROBABILITIES if index == softmax_index else name for index, (name, _) in enumerate(outputs)])
    # The wrapper adds a prefix to the names of parameters in the file, so it is only used where it is needed.
    needs_wrapper = not isinstance(output, Tensor) or preprocessing is not None or softmax
    module = InputOutputWrapper(model, names, preprocessing, softmax_index).eval() if needs_wrapper else model
    return ExportModule(module, tuple(names), preprocessing, classes, softmax)


def _build_objects_module(model: nn.Module, preprocessing: Preprocessing | None, *, softmax: bool) -> ExportModule:
    if softmax:
        raise ExportError("the network returns boxes with scores, not logits", option("softmax"), "leave it out")
    return ExportModule(ObjectsModule(model, preprocessing).eval(), OBJECTS, preprocessing, None, False, objects=True)


def apply_softmax(outputs: list[Tensor], softmax_index: int | None) -> list[Tensor]:
    """Return the outputs with softmax applied to one of them, by its index."""
    return [tensor.softmax(1) if index == softmax_index else tensor for index, tensor in enumerate(outputs)]


def run_on_images(model: nn.Module, images: Tensor) -> Any:
    """Return the output of a network; raise ExampleError where it does not run on these images."""
    try:
        return run_network(model, images)
    except Exception as error:  # of any kind, from the network's code
        shape = "×".join(map(str, images.shape))
        what = f"the network does not run on images {shape}: {first_line(error).rstrip('.')}"
        raise ExampleError(what, "", "set the size, the range of sizes and the channels that it accepts") from error


def _distinct(names: Sequence[str]) -> list[str]:
    """Return the names made unique by numbers, and different from that of the input."""
    distinct: list[str] = []
    for name in names:
        candidates = (f"{name}_{number}" if number else name for number in itertools.count())
        distinct.append(next(candidate for candidate in candidates if candidate not in (INPUT, *distinct)))
    return distinct


def in_graft(name: str) -> bool:
    """Return whether the name of a node in an exported graph is that of a graft's."""
    return f"{RESERVED}." in name


def _index_of_classes(outputs: Sequence[tuple[str, Tensor]]) -> int | None:
    """Return the index of the output (N, classes, …) with the logits, by its name or as the only one (N, classes)."""
    possible = [index for index, (_, tensor) in enumerate(outputs) if tensor.ndim in _RANKS_OF_CLASSES]
    named = [index for index in possible if outputs[index][0] in _NAMES_OF_CLASSES]
    flat = [index for index in possible if outputs[index][1].ndim == 2]
    return next((candidates[0] for candidates in (possible, named, flat) if len(candidates) == 1), None)


def named_tensors(output: Any) -> list[tuple[str, Tensor]]:
    """Return the tensors of an output with names: `logits` or `output` for one, the joined keys for several.

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
    return [pair for key, item in items for pair in _walk(item, (*path, key))]


def _join(path: tuple[str, ...]) -> str:
    name = "_".join(path)
    return f"output_{name}" if name[0].isdigit() else name
