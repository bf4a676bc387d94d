"""Compare the outputs of an exported file with PyTorch's at several input sizes, and explain a mismatch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch import Tensor

from attn_surgeon.errors import ExportError, option
from attn_surgeon.export.detections import objects_difference, objects_of
from attn_surgeon.export.dynamic_axes import Size
from attn_surgeon.export.module import apply_softmax, named_tensors, run_on_images
from attn_surgeon.export.parity import Array, OutputDifference, Parity, ParityError, difference
from attn_surgeon.export.prepared import PreparedNetwork
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.running import run_network
from attn_surgeon.tasks.detectors.base import find_detector

Compute = Callable[[Tensor], Sequence[Array]]


def check_parity(
    prepared: PreparedNetwork, compute: Compute, tolerance: float, name: str, *, explain: bool = True
) -> Parity:
    """Compare a file with PyTorch at both ends of every dynamic axis.

    Args:
        prepared: the network that was exported.
        compute: a function that runs the file on a batch and returns its outputs.
        tolerance: the largest allowed relative difference, unless the settings have one.
        name: the name of the file in an error.
        explain: whether an error names rounding or random numbers in PyTorch itself as the cause.

    Raises:
        ParityError: the outputs differ by more than the tolerance.
        ExportError: the network returns no finite number, so that nothing can be compared.
        ExampleError: the network does not run at one of the sizes.
    """

    def compare(size: Size) -> OutputDifference:
        expected = expected_outputs(prepared, size)
        return outputs_difference(prepared, name_size(size), compute(prepared.inputs(size)), expected)

    parity = Parity("PyTorch", allowed(prepared, tolerance), tuple(map(compare, prepared.sizes())))
    return require_parity(prepared, parity, name, explain=explain)


def outputs_difference(
    prepared: PreparedNetwork, size: str, actual: Sequence[Array], expected: Sequence[Array]
) -> OutputDifference:
    """Compute the difference between the outputs of a file and expected ones; objects are matched."""
    if prepared.exported.objects:
        return objects_difference(size, actual, expected)
    return difference(size, actual, expected, prepared.exported.classes)


def allowed(prepared: PreparedNetwork, tolerance: float) -> float:
    """Return the tolerance of the settings, or else that of the format."""
    return tolerance if prepared.settings.tolerance is None else prepared.settings.tolerance


def require_parity(prepared: PreparedNetwork, parity: Parity, name: str, *, explain: bool) -> Parity:
    """Return a comparison that passed; raise ParityError for one that did not."""
    if parity.passed:
        return parity
    worst = next(size for size in prepared.sizes() if name_size(size) == parity.worst.size)
    raise ParityError(parity, name, explain_mismatch(prepared, worst, parity.tolerance) if explain else "")


def expected_outputs(prepared: PreparedNetwork, size: Size) -> list[Array]:
    """Return the outputs in PyTorch at a size, of the network with all of its grafts.

    Raises:
        ExampleError: the network does not run at this size.
        ExportError: no output is finite.
    """
    arrays = _arrays(prepared, run_on_images(prepared.network.model, prepared.normalised(size)))
    values = [array for array in arrays if array.size]
    if values and not any(np.isfinite(array).any() for array in values):
        what = f"all outputs of the network are infinite or NaN on the images compared, {name_size(size)}"
        raise ExportError(what, "", f"compare on real images with {option('images', 'DIR')}, or repair the weights")
    return arrays


def rounding_error(prepared: PreparedNetwork, size: Size) -> float | None:
    """Return the relative difference of PyTorch's outputs in single and double precision; None if unknown."""
    images = prepared.normalised(size).double()
    try:
        exact = run_network(copied(prepared.network.model).double(), images)
    except (RuntimeError, TypeError, ValueError):  # not every network runs in double precision
        return None
    return outputs_difference(
        prepared, name_size(size), _arrays(prepared, exact), expected_outputs(prepared, size)
    ).relative


def explain_mismatch(prepared: PreparedNetwork, size: Size, tolerance: float) -> str:
    """Return whether random numbers or rounding in the network explain a mismatch, as a text; empty for neither."""
    images = prepared.normalised(size)
    first, second = (_arrays(prepared, run_network(prepared.network.model, images, seed=seed)) for seed in (0, 1))
    if outputs_difference(prepared, "", first, second).relative > tolerance:
        return "the network draws random numbers, so its outputs differ from run to run"
    rounding = rounding_error(prepared, size)
    if rounding is None or rounding <= tolerance / 10:
        return ""
    explained = f"rounding alone changes PyTorch's own outputs by {rounding:.2g}"
    if find_detector(prepared.network.model) is not None:
        return f"{explained}: an untrained detector picks the best of nearly equal scores; train it first"
    return f"{explained}, compared with double precision"


def _arrays(prepared: PreparedNetwork, output: Any) -> list[Array]:
    if prepared.exported.objects:
        return [tensor.numpy() for tensor in objects_of(output)]
    softmax_index = prepared.exported.classes if prepared.exported.softmax else None
    outputs = apply_softmax([tensor for _, tensor in named_tensors(output)], softmax_index)
    return [tensor.numpy() for tensor in outputs]


def name_size(size: Size) -> str:
    """Return a size as N×H×W.

    >>> name_size({"batch": 1, "height": 224, "width": 320})
    '1×224×320'
    """
    return "×".join(str(size[name]) for name in ("batch", "height", "width"))
