"""An ONNX file in eight-bit integers (QDQ), by static quantisation: one scale for each channel of the weights.

Scales are symmetric with zero point 0, as TensorRT requires. Reductions over a whole map become poolings, which have
an integer form. The grafts stay in float where that costs less accuracy.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attn_surgeon.errors import ExportError, first_line
from attn_surgeon.export.module import INPUT, in_graft
from attn_surgeon.export.onnx.rewrites.pooling import pool_globally
from attn_surgeon.export.onnx.session import conflict, open_session
from attn_surgeon.export.parity import Array
from attn_surgeon.export.silence import silenced


@dataclass(frozen=True)
class Quantisation:
    """What was quantised, and the error of each candidate: its root mean square over that of the outputs."""

    grafts_in_float: bool
    errors: dict[str, float]

    def describe(self) -> str:
        """Return it as a sentence."""
        errors = ", ".join(f"{error:.1%} with {what} in integers" for what, error in self.errors.items())
        return f"error of the outputs: {errors}" + ("; the grafts stay in float" if self.grafts_in_float else "")


def to_int8(
    source: Path, target: Path, images: Sequence[Array], *, classes: int = 0, biases: bool = True
) -> Quantisation:
    """Write a model in eight-bit integers; raise ExportError where it cannot be.

    Args:
        source: the file in single precision.
        target: the file to write.
        images: batches of inputs to calibrate on.
        classes: the index of the output whose error counts.
        biases: quantise biases to 32 bits, with which ONNX Runtime is fast and which TensorRT does not read.
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
            _quantise(pooled, files[what], images, excluded, biases=biases)
        errors = {what: _error(source, file, images, classes) for what, file in files.items()}
        best = min(errors, key=lambda what: errors[what])
        shutil.copyfile(files[best], target)
    return Quantisation(best != "everything", errors)


def _quantise(source: Path, target: Path, images: Sequence[Array], excluded: list[str], *, biases: bool) -> None:
    try:
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

        with silenced():
            quantize_static(
                str(source),
                str(target),
                _Reader(images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=excluded,
                extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": biases},
            )
    except Exception as error:
        what = f"the model cannot be quantised to integers: {first_line(error)}"
        raise ExportError(what, "", conflict()) from error


def _error(source: Path, target: Path, images: Sequence[Array], place: int) -> float:
    """Return the root mean square of an output's error over that of the output."""
    wrong, whole = 0.0, 0.0
    with open_session(source) as exact, open_session(target) as rounded:
        for batch in images:
            one, other = (session.run({INPUT: batch})[place].astype(np.float64) for session in (exact, rounded))
            wrong, whole = wrong + float(((one - other) ** 2).sum()), whole + float((one**2).sum())
    return math.sqrt(wrong / whole if whole else wrong)


class _Reader:
    """Calibration images for the quantiser, one batch at a time."""

    def __init__(self, images: Sequence[Array]) -> None:
        self.left = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        """Return the next batch, None at the end."""
        batch = next(self.left, None)
        return None if batch is None else {INPUT: batch}
