"""An ONNX file in eight-bit integers: scales from calibration images, one for each channel of the weights.

Scales are symmetric with zero point 0, as TensorRT wants them. Poolings over a whole map become operators that have an
integer form first. Where it costs less accuracy, the grafts stay in float.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from attn_surgeon.errors import ExportError, first_line
from attn_surgeon.export.network import INPUT, in_graft
from attn_surgeon.export.onnx.pooling import pool_globally
from attn_surgeon.export.onnx.runtime import opened
from attn_surgeon.export.parity import Array
from attn_surgeon.export.quiet import quiet


@dataclass(frozen=True)
class Choice:
    """What was quantised, and the error of each way: root mean square over that of the outputs."""

    grafts_in_float: bool
    errors: dict[str, float]

    @property
    def told(self) -> str:
        """Tell it in a sentence."""
        errors = ", ".join(f"{error:.1%} with {way} in integers" for way, error in self.errors.items())
        return f"error of the outputs: {errors}" + ("; the grafts stay in float" if self.grafts_in_float else "")


def to_integer(source: Path, target: Path, images: Sequence[Array], *, classes: int = 0, biases: bool = True) -> Choice:
    """Write a model in eight-bit integers, calibrated on batches of inputs; raise ExportError where it cannot be.

    `classes` is the place of the output whose error counts; `biases` are quantised too, to 32 bits, which ONNX Runtime
    is fast with and TensorRT does not read.
    """
    import onnx

    model: Any = onnx.load(str(source))
    pool_globally(model)
    grafts = [node.name for node in model.graph.node if in_graft(node.name)]
    ways = {"everything": [], **({"all but the grafts": grafts} if grafts else {})}
    with tempfile.TemporaryDirectory() as folder:
        pooled = Path(folder) / "pooled.onnx"
        onnx.save(model, str(pooled))
        files = {way: Path(folder) / f"{index}.onnx" for index, way in enumerate(ways)}
        for way, left_out in ways.items():
            _quantise(pooled, files[way], images, left_out, biases=biases)
        errors = {way: _error(source, file, images, classes) for way, file in files.items()}
        best = min(errors, key=lambda way: errors[way])
        shutil.copyfile(files[best], target)
    return Choice(best != "everything", errors)


def _quantise(source: Path, target: Path, images: Sequence[Array], left_out: list[str], *, biases: bool) -> None:
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    try:
        with quiet():
            quantize_static(
                str(source),
                str(target),
                _Reader(images),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QInt8,
                weight_type=QuantType.QInt8,
                nodes_to_exclude=left_out,
                extra_options={"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": biases},
            )
    except Exception as error:
        raise ExportError(f"the model cannot be written in integers: {first_line(error)}", "--int8") from error


def _error(source: Path, target: Path, images: Sequence[Array], place: int) -> float:
    """Give the root mean square of an output's error over that of the output."""
    wrong, whole = 0.0, 0.0
    with opened(source) as exact, opened(target) as rounded:
        for batch in images:
            one, other = (session.run({INPUT: batch})[place].astype(np.float64) for session in (exact, rounded))
            wrong, whole = wrong + float(((one - other) ** 2).sum()), whole + float((one**2).sum())
    return math.sqrt(wrong / whole if whole else wrong)


class _Reader:
    """Hand calibration images to the quantiser, one batch at a time."""

    def __init__(self, images: Sequence[Array]) -> None:
        self.left = iter(images)

    def get_next(self) -> dict[str, Array] | None:
        """Give the next batch, None at the end."""
        batch = next(self.left, None)
        return None if batch is None else {INPUT: batch}
