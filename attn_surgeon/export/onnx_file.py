"""Write a network as an ONNX file that is put in its place only if it computes what the network computes."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attn_surgeon.errors import ExportError
from attn_surgeon.export.job import Job, name_size
from attn_surgeon.export.network import INPUT
from attn_surgeon.export.parity import Difference, Parity, ParityError, difference
from attn_surgeon.export.runtime import Session, as_feeds, opened
from attn_surgeon.export.to_onnx import to_onnx
from attn_surgeon.storage import staged

TOLERANCE = 1e-4
Progress = Callable[[str], None]


@dataclass(frozen=True)
class Written:
    """A file that was written, what it holds, and how it compares."""

    path: Path
    nodes: int
    parities: tuple[Parity, ...]


def write_onnx(job: Job, target: Path, story: Mapping[str, str], progress: Progress = lambda step: None) -> Written:
    """Export to an ONNX file; raise ParityError, and leave nothing, where it computes something else."""
    progress("trace")
    model = to_onnx(job.network, job.example, job.axes, job.settings.opset)
    model.metadata_props.update(story)
    with staged(target) as temporary:
        save_model(model, temporary, job.settings.external_above)
        with opened(temporary) as session:
            progress("compare with PyTorch")
            parities = [check(job, session)]
            if job.untrained and not job.dropped:
                progress("compare with the original")
                parities.append(_check_original(job, session))
        require(parities, target)
    return Written(target, len(model.graph), tuple(parities))


def save_model(model: Any, path: Path, external_above: int) -> None:
    """Write an `onnx_ir.Model`; a large one keeps its tensors in a file of its name with `.data` added."""
    import onnx_ir

    size = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    external = f"{path.name}.data" if size > external_above else None
    try:
        onnx_ir.save(model, path, external_data=external)
    except OSError as error:
        raise ExportError(f"cannot write: {error.strerror}", str(path.name), "choose another --output") from None


def check(job: Job, session: Session, tolerance: float = TOLERANCE) -> Parity:
    """Compare a file's outputs with PyTorch's at every corner of the sizes it is made for."""
    found = tuple(_at(job, session, size, job.expected(size)) for size in job.sizes())
    return Parity("PyTorch", job.settings.tolerance or tolerance, found)


def _check_original(job: Job, session: Session) -> Parity:
    """Compare with the original's own export: no graft has learnt, so nothing may have changed."""
    model = to_onnx(job.original(), job.example, job.axes, job.settings.opset)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "original.onnx"
        save_model(model, path, job.settings.external_above)
        with opened(path) as original:
            feeds = {name_size(size): as_feeds(INPUT, job.inputs(size)) for size in job.sizes()}
            found = tuple(difference(name, session.run(fed), original.run(fed)) for name, fed in feeds.items())
    return Parity("the original's export", job.settings.tolerance or TOLERANCE, found)


def _at(job: Job, session: Session, size: Any, expected: Any) -> Difference:
    return difference(name_size(size), session.run(as_feeds(INPUT, job.inputs(size))), expected)


def require(parities: list[Parity], target: Path) -> None:
    """Raise ParityError for the first that did not pass."""
    for parity in parities:
        if not parity.passed:
            raise ParityError(parity, target.name)
