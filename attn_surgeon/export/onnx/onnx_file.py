"""Write a network as ONNX files that are put in their places only if they compute what the network computes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attn_surgeon.export.images import folder_pixels, normalise
from attn_surgeon.export.job import Job, name_size
from attn_surgeon.export.measuring import Data, Measured, measure, open_data
from attn_surgeon.export.network import INPUT
from attn_surgeon.export.onnx.bfloat import to_bfloat, widen
from attn_surgeon.export.onnx.half import to_half
from attn_surgeon.export.onnx.integer import Choice, to_integer
from attn_surgeon.export.onnx.runtime import as_feeds, opened
from attn_surgeon.export.onnx.to_onnx import to_onnx
from attn_surgeon.export.parity import Array, Parity, difference
from attn_surgeon.files import staged
from attn_surgeon.progress import StepProgress, no_steps

# of the largest output; integers are held to no more than being about right, and their accuracy is for --data to tell
TOLERANCES = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 5e-2, "int8": 0.5}
CALIBRATION_IMAGES = 128
_FLOATS = {"fp16": to_half, "bf16": to_bfloat}


@dataclass(frozen=True)
class Written:
    """A file that was written, and how it compares."""

    path: Path
    precision: str
    nodes: int
    parities: tuple[Parity, ...]


@dataclass(frozen=True)
class Report:
    """What an export to ONNX made; `choice` tells what was quantised."""

    files: tuple[Written, ...]
    measured: tuple[Measured, ...]
    choice: Choice | None


@dataclass(frozen=True)
class Wanted:
    """The files to write by precision, the images to calibrate integers on, and the data to measure on.

    Precisions are measured beside one another, unless no `table` is wanted. For TensorRT, biases stay in float.
    """

    targets: Mapping[str, Path]
    calibrate: str | Path | None = None
    data: Data | None = None
    table: bool = True
    tensorrt: bool = False

    @property
    def measured(self) -> bool:
        """Say whether the table of accuracy, size and latency is wanted."""
        return self.table and (self.data is not None or set(self.targets) != {"fp32"})


def write_onnx(job: Job, wanted: Wanted, story: Mapping[str, str], progress: StepProgress = no_steps) -> Report:
    """Export to ONNX files; raise ParityError, and leave nothing, where one computes something else."""
    if wanted.data is not None:
        open_data(job, wanted.data)  # refuses early what is not there
    progress("trace")
    model = to_onnx(job.network, job.example, job.axes, job.settings.opset)
    model.metadata_props.update(story)
    with ExitStack() as stack:
        work = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        places = {name: stack.enter_context(staged(target)) for name, target in wanted.targets.items()}
        paths = {"fp32": work / "fp32.onnx", **places}
        save_model(model, paths["fp32"], job.settings.external_above)
        parities, choice = {"fp32": _check_single(job, paths["fp32"], progress)}, None
        for precision in [name for name in paths if name != "fp32"]:
            progress(f"convert to {precision}")
            choice = _convert(job, wanted, precision, paths) or choice
            parities[precision] = (_check(job, precision, paths[precision]),)
        if wanted.measured:
            progress("measure")
        runnable = {name: path for name, path in paths.items() if name != "bf16"}
        measured = measure(job, runnable, wanted.data) if wanted.measured else []
        files = [Written(wanted.targets[name], name, count_nodes(places[name]), parities[name]) for name in places]
    return Report(tuple(files), tuple(measured), choice)


def save_model(model: Any, path: Path, external_above: int) -> None:
    """Write an `onnx_ir.Model`; a large one keeps its tensors in a file of its name with `.data` added."""
    import onnx_ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    external = f"{path.name}.data" if size > external_above else None
    onnx_ir.save(model, path, external_data=external)


def count_nodes(path: Path) -> int:
    """Count the nodes of an ONNX file."""
    import onnx

    return len(onnx.load(str(path), load_external_data=False).graph.node)


def _convert(job: Job, wanted: Wanted, precision: str, paths: Mapping[str, Path]) -> Choice | None:
    if precision in _FLOATS:
        _FLOATS[precision](paths["fp32"], paths[precision])
        return None
    images = calibration(job, wanted.calibrate or "demo")
    classes = job.network.classes or 0
    return to_integer(paths["fp32"], paths[precision], images, classes=classes, biases=not wanted.tensorrt)


def calibration(job: Job, source: str | Path) -> list[Array]:
    """Read images to calibrate on, in batches that the file takes; raise DataError where there are none."""
    make, count = folder_pixels(source, job.loaded.preprocessing)
    size = next(job.sizes())
    images = make({**size, "batch": min(count, CALIBRATION_IMAGES)})
    inputs = images if job.settings.preprocess else normalise(images, job.loaded.preprocessing)
    return [
        np.ascontiguousarray(part.numpy()) for part in torch.split(inputs, size["batch"]) if len(part) == size["batch"]
    ]


def _check_single(job: Job, path: Path, progress: StepProgress) -> tuple[Parity, ...]:
    progress("compare with PyTorch")
    parities = [_check(job, "fp32", path)]
    if job.untrained and not job.dropped:
        progress("compare with the original")
        parities.append(_check_original(job, path))
    return tuple(parities)


def _check(job: Job, precision: str, path: Path) -> Parity:
    """Compare a file's outputs with PyTorch's at every corner of the sizes it is made for."""
    with _runnable(path, precision) as file, opened(file) as session:

        def compute(inputs: Tensor) -> list[Array]:
            return session.run(as_feeds(INPUT, inputs))

        return job.check(compute, TOLERANCES[precision], f"in {precision}", single=precision == "fp32")


@contextmanager
def _runnable(path: Path, precision: str) -> Iterator[Path]:
    """Give a file that ONNX Runtime runs on a CPU: of bfloat16, the one with its weights in single precision."""
    if precision != "bf16":
        yield path
        return
    with tempfile.TemporaryDirectory() as folder:
        wide = Path(folder) / path.name
        widen(path, wide)
        yield wide


def _check_original(job: Job, path: Path) -> Parity:
    """Compare with the original's own export: no graft has learnt, so nothing may have changed."""
    model = to_onnx(job.original(), job.example, job.axes, job.settings.opset)
    with tempfile.TemporaryDirectory() as folder:
        beside = Path(folder) / "original.onnx"
        save_model(model, beside, job.settings.external_above)
        with opened(path) as session, opened(beside) as original:
            feeds = {name_size(size): as_feeds(INPUT, job.inputs(size)) for size in job.sizes()}
            found = tuple(
                difference(name, session.run(fed), original.run(fed), job.network.classes)
                for name, fed in feeds.items()
            )
    parity = Parity("the original's export", job.tolerance(TOLERANCES["fp32"]), found)
    return job.required(parity, "in fp32", single=False)
