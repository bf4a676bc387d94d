"""What attention costs in ONNX Runtime: python -m tests.benchmarks.latency [ROUNDS].

resnet50 with a block at the end of every residual branch, as attn-surgeon exports it before and after training, and
with timm's own block at the same sites, as a graft and written into the network by hand: one image of 224 × 224, one
thread, turn by turn so that drift cancels.
"""

from __future__ import annotations

import copy
import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import torch
from timm.layers import create_attn
from torch import nn
from torchvision.models.resnet import Bottleneck, resnet50

from attn_surgeon import register_block
from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.blocks import closing_parameters
from attn_surgeon.export.module import INPUT
from attn_surgeon.export.onnx.format import write_onnx
from attn_surgeon.export.onnx.session import OnnxSession, as_feeds, open_session
from attn_surgeon.export.settings import ExportRequest
from attn_surgeon.measure.latency import time_interleaved
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts

BLOCKS = {"se": {"rd_ratio": 1 / 16}, "eca": {}, "cbam": {"rd_ratio": 1 / 16}, "coord": None}


def networks(build: Callable[[], nn.Module], size: int) -> dict[str, LoadedNetwork]:
    """Return the networks by their names in the table."""
    torch.manual_seed(0)
    plain = build().eval()
    example = torch.randn(1, 3, size, size)
    made: dict[str, nn.Module] = {"plain": plain}
    for name, options in BLOCKS.items():
        inserted = insert(plain, name, example=example, at="residual")
        made |= {f"{name} untrained": inserted} if name == "se" else {}
        made[name] = open_gates(insert(plain, name, example=example, at="residual"))
        if options is not None:
            block = of_timm(name, options)
            register_block(f"timm-{name}", block)
            made[f"timm-{name}"] = insert(plain, f"timm-{name}", example=example, at="residual", init="paper")
            made[f"timm-{name} by hand"] = by_hand(plain, block)
    images = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (size, size))
    provenance = Provenance(SourceSpec("object", "resnet50"), images)
    return {name: LoadedNetwork(set_provenance(model.eval(), provenance)) for name, model in made.items()}


def open_gates(model: nn.Module) -> nn.Module:
    """Give the gates of grafts small values, as training does."""
    for made in list_grafts(model):
        for parameter in closing_parameters(made.block).values():
            parameter.data += torch.randn_like(parameter) / 10
    return model


def by_hand(plain: nn.Module, block: Callable[[int], nn.Module]) -> nn.Module:
    """Put a block at the same sites without this package."""
    model = copy.deepcopy(plain)
    for module in [each for each in model.modules() if isinstance(each, Bottleneck)]:
        module.bn3 = nn.Sequential(module.bn3, block(module.bn3.num_features))
    return model


def of_timm(name: str, options: dict[str, float]) -> Callable[[int], nn.Module]:
    """Give what makes timm's own block."""
    return lambda channels: create_attn(name, channels, **options)


def timed(sessions: dict[str, OnnxSession], rounds: int, size: int) -> dict[str, list[float]]:
    """Run every session once a round, after some rounds to warm up."""
    feeds = as_feeds(INPUT, torch.randn(1, 3, size, size))
    turns = time_interleaved([partial(session.time, feeds) for session in sessions.values()], rounds)
    return dict(zip(sessions, turns, strict=True))


def main(rounds: int, build: Callable[[], nn.Module] = resnet50, size: int = 224) -> None:
    """Print the table: medians, and medians of each round's ratio to the plain network."""
    torch.set_num_threads(1)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        sessions, nodes = {}, {}
        for name, loaded in networks(build, size).items():
            path = folder / f"{name.replace(' ', '-')}.onnx"
            report = write_onnx(ExportRequest(network=loaded, targets={"fp32": path}))
            nodes[name], sessions[name] = report.files[0].nodes, stack.enter_context(open_session(path))
        times = timed(sessions, rounds, size)
    print("| network | nodes | one image | × plain |\n|---|---|---|---|")
    for name, spent in times.items():
        ratio = statistics.median(one / other for one, other in zip(spent, times["plain"], strict=True))
        print(f"| {name} | {nodes[name]} | {1e3 * statistics.median(spent):.1f} ms | {ratio:.3f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 40)
