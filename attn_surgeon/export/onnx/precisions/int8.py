"""Convert an ONNX file to int8 by static quantisation, in QDQ format with one scale per channel of the weights.

Quantisation is symmetric (zero point 0), as TensorRT requires. Reductions over a whole map are rewritten as poolings,
which have an integer form. Both the whole network and all but the grafts are quantised, and the more accurate is kept.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attn_surgeon.export.module import INPUT, in_graft
from attn_surgeon.export.onnx.rewrites.pooling import pool_globally
from attn_surgeon.export.onnx.session import open_session, quantise
from attn_surgeon.export.parity import Array


@dataclass(frozen=True)
class Quantisation:
    """The result of a quantisation; `errors` are the relative root mean square errors of the output by candidate."""

    grafts_in_float: bool
    errors: dict[str, float]

    def describe(self) -> str:
        """Return the errors as a sentence."""
        errors = ", ".join(f"{error:.1%} with {what} in integers" for what, error in self.errors.items())
        return f"error of the outputs: {errors}" + ("; the grafts stay in float" if self.grafts_in_float else "")


def to_int8(
    source: Path, target: Path, images: Sequence[Array], *, classes: int = 0, biases: bool = True
) -> Quantisation:
    """Write a model in int8; raise ExportError where it cannot be quantised.

    Args:
        source: the file in single precision.
        target: the file to write.
        images: batches of calibration inputs.
        classes: the index of the output whose error decides between the candidates.
        biases: quantise biases to 32 bits, which is faster in ONNX Runtime, but which TensorRT does not support.
    """
    import onnx
    import onnx_ir

    model = onnx_ir.from_proto(onnx.load(str(source)))
    pool_globally(model)
    grafts = [node.name for node in model.graph if in_graft(node.name or "")]
    candidates = {"everything": [], **({"all but the grafts": grafts} if grafts else {})}
    with tempfile.TemporaryDirectory() as folder:
        pooled = Path(folder) / "pooled.onnx"
        onnx.save(onnx_ir.to_proto(model), str(pooled))
        files = {what: Path(folder) / f"{index}.onnx" for index, what in enumerate(candidates)}
        for what, excluded in candidates.items():
            quantise(pooled, files[what], [{INPUT: batch} for batch in images], excluded=excluded, biases=biases)
        errors = {what: _error(source, file, images, classes) for what, file in files.items()}
        best = min(errors, key=lambda what: errors[what])
        shutil.copyfile(files[best], target)
    return Quantisation(best != "everything", errors)


def _error(source: Path, target: Path, images: Sequence[Array], output: int) -> float:
    """Return the root mean square error of an output relative to the root mean square of the output."""
    squared_error, squares = 0.0, 0.0
    with open_session(source) as exact, open_session(target) as rounded:
        for batch in images:
            expected, actual = (s.run({INPUT: batch})[output].astype(np.float64) for s in (exact, rounded))
            squared_error += float(((expected - actual) ** 2).sum())
            squares += float((expected**2).sum())
    return math.sqrt(squared_error / squares if squares else squared_error)
