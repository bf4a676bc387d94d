"""Does everything export with parity? python -m tests.sweep.export blocks, or networks NAME …

`blocks`: every block of the catalogue on resnet18 at residual and at stages, with batch, height and width open, in
single and in half precision.
`networks`: those named, or all of timm's and torchvision's classifiers, with SE at stages and without, the batch open.
Weights are random and gates stand open. Each line of the output is one export.
"""

from __future__ import annotations

import itertools
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import nn

from attn_surgeon.artefact import Provenance
from attn_surgeon.blocks import names as blocks
from attn_surgeon.errors import SurgeonError, first_line
from attn_surgeon.export.axes import read_axes
from attn_surgeon.export.identity import is_gate
from attn_surgeon.export.job import Settings, prepare
from attn_surgeon.export.onnx_file import Wanted, write_onnx
from attn_surgeon.graph.surgery import list_grafts
from attn_surgeon.operations import insert
from attn_surgeon.preprocessing import Preprocessing
from attn_surgeon.sources import SourceSpec
from attn_surgeon.subject import Subject, open_subject

SMALL = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (64, 64))


def open_gates(model: nn.Module) -> nn.Module:
    """Give the gates of grafts small values, as training does."""
    torch.manual_seed(1)
    for made in list_grafts(model):
        for parameter in made.block.parameters():
            if is_gate(parameter):
                parameter.data += torch.randn_like(parameter) / 10
    return model


def outcome(subject: Subject, axes: str, precisions: Sequence[str] = ("fp32",)) -> tuple[bool, str]:
    """Export a network; say whether it went, and how close it came or why not."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            job = prepare(subject, Settings(read_axes(axes)))
            report = write_onnx(job, Wanted({name: Path(folder) / f"{name}.onnx" for name in precisions}), {})
    except SurgeonError as error:
        return False, str(error)[:300]
    except Exception as error:
        return False, f"{type(error).__name__}: {first_line(error)[:300]}"
    told = [f"{made.precision} {made.parities[0].worst.relative:.1e} {made.nodes} nodes" for made in report.files]
    return True, ", ".join(told)


def operated(subject: Subject, block: str, group: str) -> Subject:
    """Insert a block at a group of sites, its gates open."""
    model = insert(subject.model, block, example=subject.example, at=group)
    return Subject(open_gates(model).eval(), subject.provenance)


def of_blocks(chosen: Sequence[str]) -> Iterator[tuple[str, Subject, str]]:
    """Make every block's two networks."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    plain = Subject(resnet18().eval(), Provenance(SourceSpec("object", "resnet18"), SMALL))
    for name, group in itertools.product(chosen or blocks(), ("residual", "stages")):
        try:
            yield f"{name} {group}", operated(plain, name, group), "batch,height,width"
        except SurgeonError as error:
            print(f"-\t{name} {group}\t{error}", flush=True)


def of_networks(chosen: Sequence[str]) -> Iterator[tuple[str, Subject, str]]:
    """Make each network, without grafts and with."""
    for name in chosen or classifiers():
        try:
            plain = open_subject(name, weights="none")
            yield f"{name} original", plain, "batch"
            yield f"{name} se", operated(plain, "se", "stages"), "batch"
        except Exception as error:
            print(f"-\t{name}\t{type(error).__name__}: {first_line(error)[:300]}", flush=True)


def classifiers() -> list[str]:
    """List timm's architectures and torchvision's classifiers."""
    import timm

    from .from_torchvision import names, task

    mine = [f"tv/{name}" for name in names() if task(name) == "classification"]
    return [*(f"timm/{name}" for name in timm.list_models()), *mine]


def main(arguments: Sequence[str]) -> int:
    """Export all of them; the exit code tells whether any failed."""
    torch.set_num_threads(1)
    cases = {"blocks": of_blocks, "networks": of_networks}[arguments[0]](arguments[1:])
    failed = count = 0
    for name, subject, axes in cases:
        start = time.perf_counter()
        went, detail = outcome(subject, axes, ("fp32", "fp16") if arguments[0] == "blocks" else ("fp32",))
        failed, count = failed + (not went), count + 1
        print(f"{'ok' if went else 'FAILED'}\t{name}\t{detail}\t{time.perf_counter() - start:.1f} s", flush=True)
    print(f"{count - failed} of {count} exported")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
