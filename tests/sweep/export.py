"""Does everything export with parity? python -m tests.sweep.export blocks, or networks.

`blocks`: every block of the catalogue on resnet18 at residual and at stages, with batch, height and width open, in
single and in half precision.
`networks`: timm's and torchvision's classifiers with SE at stages, the batch open, in an order that is drawn once, so
that a part of them stands for all. Where one fails, the network without grafts tells whose fault it is.
Weights are random, those that start as zeros too, BatchNorms have the statistics of a batch, and gates stand open.
Each line of the output is one export; what a --file holds is not done again.
"""

from __future__ import annotations

import argparse
import itertools
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.blocks import block_names as blocks
from attn_surgeon.blocks import closing_parameters
from attn_surgeon.errors import SurgeonError, first_line
from attn_surgeon.export.dynamic_axes import read_axes
from attn_surgeon.export.example_images import normalise, seeded_pixels
from attn_surgeon.export.onnx.format import OnnxOptions, write_onnx
from attn_surgeon.export.settings import ExportRequest, ExportSettings
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts

LARGEST = 150_000_000  # parameters: these take minutes and gigabytes each
SMALL = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (64, 64))


def open_gates(model: nn.Module) -> nn.Module:
    """Give the gates of grafts small values, as training does."""
    torch.manual_seed(1)
    for made in list_grafts(model):
        for parameter in closing_parameters(made.block).values():
            parameter.data += torch.randn_like(parameter) / 10
    return model


def outcome(
    name: str, loaded: LoadedNetwork, axes: str, precisions: Sequence[str] = ("fp32",)
) -> tuple[bool, str, str]:
    """Export a network; say whether it went, its name, and how close it came or why not."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            targets = {kind: Path(folder) / f"{kind}.onnx" for kind in precisions}
            settings, options = ExportSettings(axes=read_axes(axes)), OnnxOptions(benchmark=False)
            request = ExportRequest(network=loaded, settings=settings, options=options, targets=targets)
            report = write_onnx(request)
    except SurgeonError as error:
        return False, name, " ".join(str(error).split())[:300]
    except Exception as error:
        return False, name, f"{type(error).__name__}: {first_line(error)[:300]}"
    told = [f"{made.precision} {made.parities[0].worst.relative:.1e} {made.nodes} nodes" for made in report.files]
    return True, name, ", ".join(told)


def operated(loaded: LoadedNetwork, block: str, group: str) -> LoadedNetwork:
    """Insert a block at a group of sites, its gates open."""
    model = insert(loaded.model, block, example=loaded.example, at=group)
    return LoadedNetwork(set_provenance(open_gates(model).eval(), loaded.provenance))


def of_blocks(chosen: Sequence[str], done: set[str]) -> Iterator[tuple[bool, str, str]]:
    """Export every block's two networks."""
    from torchvision.models import resnet18

    torch.manual_seed(0)
    plain = LoadedNetwork(set_provenance(resnet18().eval(), Provenance(SourceSpec("object", "resnet18"), SMALL)))
    for name, group in itertools.product(chosen, ("residual", "stages")):
        if f"{name} {group}" in done:
            continue
        try:
            made = operated(plain, name, group)
        except SurgeonError as error:  # some blocks take two maps, and there is one
            print(f"-\t{name} {group}\t{first_line(error)[:200]}", flush=True)
            continue
        yield outcome(f"{name} {group}", made, "batch,height,width", ("fp32", "fp16"))


def of_networks(chosen: Sequence[str], done: set[str], largest: float = LARGEST) -> Iterator[tuple[bool, str, str]]:
    """Export each network with grafts; where that fails, without."""
    for name in (name for name in chosen if name not in done):
        parameters = size_of(name)
        if parameters > largest:
            yield True, name, f"not tried: {parameters / 1e6:.0f} million parameters"
            continue
        torch.manual_seed(0)  # the same weights whatever was tried before
        plain = settled(woken(open_network(name, weights="none")))
        found = with_grafts(name, plain)
        yield found
        if not found[0]:
            yield outcome(f"{name} without grafts", plain, "batch")


@torch.no_grad()
def woken(loaded: LoadedNetwork) -> LoadedNetwork:
    """Draw the weights that start as zeros, as heads and last norms do: nothing behind them would be compared."""
    torch.manual_seed(2)
    for name, parameter in loaded.model.named_parameters():
        if not parameter.any() and not name.endswith("bias"):
            parameter.normal_(std=0.02 if parameter.ndim > 1 else 0.1)  # more makes noise of rounding in HaloNet
    return loaded


@torch.no_grad()
def settled(loaded: LoadedNetwork) -> LoadedNetwork:
    """Give BatchNorms the statistics of such images as are compared; with others, depth makes noise of rounding."""
    norms = [module for module in loaded.model.modules() if isinstance(module, _BatchNorm)]
    for norm in norms:
        norm.momentum = None
        norm.reset_running_stats()
    torch.manual_seed(0)
    if norms:
        known = loaded.preprocessing
        pixels = seeded_pixels(known.channels)({"batch": 4, "height": known.size[0], "width": known.size[1]})
        loaded.model.train()(normalise(pixels, known))
    loaded.model.eval()
    return loaded


def with_grafts(name: str, plain: LoadedNetwork) -> tuple[bool, str, str]:
    """Export a network with SE at its stages."""
    try:
        made = operated(plain, "se", "stages")
    except SurgeonError as error:
        return False, name, f"no graft: {first_line(error)[:300]}"
    return outcome(name, made, "batch")


def size_of(name: str) -> int:
    """Count the parameters of a network, without making any if its initialisation allows that."""
    try:
        with torch.device("meta"):
            model = open_network(name, weights="none").model
    except SurgeonError:
        model = open_network(name, weights="none").model
    return sum(parameter.numel() for parameter in model.parameters())


def classifiers() -> list[str]:
    """List timm's architectures and torchvision's classifiers in the order that they are tried."""
    import timm

    from .from_torchvision import names, task

    mine = [f"tv/{name}" for name in names() if task(name) == "classification"]
    every = [*(f"timm/{name}" for name in timm.list_models()), *mine]
    return random.Random(0).sample(every, len(every))


def done_before(file: Path | None) -> set[str]:
    """Name what an earlier run exported."""
    lines = file.read_text().splitlines() if file is not None and file.exists() else []
    return {line.split("\t")[1] for line in lines}


def main(arguments: Sequence[str] | None = None) -> int:
    """Export all of them; the exit code tells whether any failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("blocks", "networks"))
    parser.add_argument("names", nargs="*")
    parser.add_argument("--file", type=Path, help="keep the lines here too")
    parser.add_argument("--largest", type=float, default=LARGEST, help="the most parameters of a network that is tried")
    parser.add_argument("--part", type=int, nargs=2, default=(0, 1), metavar=("I", "N"), help="the I-th of every N")
    given = parser.parse_intermixed_args(arguments)  # names may follow options
    networks = partial(of_networks, largest=given.largest)
    torch.set_num_threads(1)
    every, export = (blocks, of_blocks) if given.what == "blocks" else (classifiers, networks)
    wanted = (given.names or list(every()))[given.part[0] :: given.part[1]]
    failed, start = 0, time.perf_counter()
    for went, name, detail in export(wanted, done_before(given.file)):
        failed += not went
        line = f"{'ok' if went else 'FAILED'}\t{name}\t{detail}\t{time.perf_counter() - start:.1f} s"
        start = time.perf_counter()
        print(line, flush=True)
        if given.file is not None:
            with given.file.open("a") as file:
                file.write(f"{line}\n")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
