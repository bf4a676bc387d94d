"""Write a TensorRT engine that computes what the network computes. Never run on TensorRT."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from attn_surgeon.export.axes import NAMES
from attn_surgeon.export.job import Job
from attn_surgeon.export.onnx.onnx_file import TOLERANCES
from attn_surgeon.export.parity import Array, Parity
from attn_surgeon.export.tensorrt.build import Options, build, load, run
from attn_surgeon.export.tensorrt.shapes import Shapes, sides
from attn_surgeon.files import staged
from attn_surgeon.progress import StepProgress

ROUNDS = 20
# TF32 rounds the inputs of convolutions to ten bits where nothing forbids it
TOLERANCE = {**TOLERANCES, "fp32": 5e-3}


@dataclass(frozen=True)
class Engine:
    """An engine that was written, how it compares, and its seconds for the usual shape."""

    path: Path
    parity: Parity
    seconds: float


def write_engine(
    trt: Any,
    job: Job,
    onnx: Path,
    target: Path,
    shapes: Shapes,
    options: Options,
    precision: str,
    progress: StepProgress,
) -> Engine:
    """Build an engine of an ONNX file; raise ParityError, and leave nothing, where it computes something else."""
    progress("build the engine")
    plan = build(trt, onnx, shapes, options, pixels=job.settings.preprocess)
    progress("compare with PyTorch")
    engine = load(trt, plan)
    context = engine.create_execution_context()

    def compute(images: torch.Tensor) -> list[Array]:
        outputs = run(trt, engine, context, images.cuda())
        return [outputs[name].float().cpu().numpy() for name in job.network.outputs]

    parity = job.check(compute, TOLERANCE[precision], target.name, single=precision == "fp32")
    images = job.inputs(dict(zip(NAMES, sides(shapes.usual), strict=True))).cuda()
    seconds = _seconds(lambda: run(trt, engine, context, images))
    with staged(target) as temporary:
        temporary.write_bytes(plan)
    return Engine(target, parity, seconds)


def _seconds(once: Callable[[], object]) -> float:
    spent = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        once()
        spent.append(time.perf_counter() - start)
    return statistics.median(spent)
