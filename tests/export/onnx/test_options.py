"""Exported blocks compute what PyTorch does: every option that makes a printed module, every layout, large logits."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir
import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec, SecondInput, block_names, build_block, get_card
from attn_surgeon.export.dynamic_axes import read_axes
from attn_surgeon.export.module import INPUT, build_export_module
from attn_surgeon.export.onnx.convert import convert_to_onnx
from attn_surgeon.export.onnx.session import open_session
from attn_surgeon.surgery.rewrite.grafts import RESERVED
from tests.blocks.helpers import ALONE, at_random
from tests.blocks.prints import PRINTS
from tests.turns import in_turns

CHANNELS, TOGETHER = 16, 4
SIZES = [(2, 12, 14), (1, 9, 8), (3, 20, 16)]
Case = tuple[str, str, Mapping[str, Any], int]  # layout, block, options, channels
VARIANTS: dict[str, Sequence[Mapping[str, Any]]] = {
    "cbam": ({"norm": False, "order": "mean-max", "kernel_size": 3}, {"norm": False, "conv_bias": True}),
    "spatial": ({"norm": False, "order": "mean-max", "kernel_size": 3},),
    "se": ({"bias": False, "least": 1, "activation": "silu", "gate": "hardsigmoid"},),
    "eca": ({"circular": True}, {"gate": "hardsigmoid"}),
    "gate": ({"norm": False},),
}
LAYOUTS = ("NCDHW", "NCL", "NDHWC", "NLC", "NHWC", "NC")


def laid_out(x: Tensor, layout: str) -> Tensor:
    """Return a map (N, C, H, W) in a layout; as volumes, with a second one behind it."""
    if layout == "NC":
        return x.mean((2, 3))
    if "D" in layout:
        x = torch.stack((x, x.flip(1)), 2)
    elif "L" in layout:
        x = x.flatten(2)
    return x.movedim(1, -1) if layout[-1] == "C" else x


class Side(nn.Module):
    """Blocks side by side, under the name that grafts have: one export takes less time than many."""

    def __init__(self, cases: Sequence[Case]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cases = cases
        self.add_module(RESERVED, nn.ModuleList(tamed(build(case)) for case in cases))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        made = {}
        for i, (case, block) in enumerate(zip(self.cases, self.get_submodule(RESERVED).children(), strict=True)):
            layout, name, _, channels = case
            own = laid_out(x[:, :channels], layout)
            other = () if get_card(name).inputs == 1 else (laid_out(x[:, -channels:].tanh(), layout),)
            made[f"{i}"] = block(own, *other)
        return made


def build(case: Case) -> nn.Module:
    layout, name, options, channels = case
    other = None if get_card(name).inputs == 1 else SecondInput(channels, layout)
    return build_block(BlockSpec(name, options, "paper"), channels, layout=layout, positions=168, other=other)


@torch.no_grad()
def tamed(block: nn.Module) -> nn.Module:
    for weight in at_random(block.eval()).parameters():
        weight.div_(max(1, weight[0].numel()) ** 0.5 if weight.ndim > 1 else 1)
    return block


def in_layouts() -> list[Case]:
    """List the blocks that run in each layout, with options that concern it."""
    found = []
    for layout in LAYOUTS:
        for name in sorted(block_names(), key=lambda name: name not in VARIANTS):
            for options in ({}, *VARIANTS.get(name, ())):
                try:
                    build((layout, name, options, CHANNELS))
                except ValueError:
                    continue  # the layout does not suit it
                found.append((layout, name, options, CHANNELS))
    return found


def groups(cases: Sequence[Any]) -> list[Sequence[Any]]:
    return [cases[i : i + TOGETHER] for i in range(0, len(cases), TOGETHER)]


BY_PRINT: list[Case] = [("NCHW", case.block, case.options, min(case.channels)) for case in PRINTS]


def exported(side: Side, widest: int, path: Path) -> Path:
    example = torch.randn(SIZES[0][0], widest, *SIZES[0][1:])
    module = build_export_module(side, example, preprocessing=None, softmax=False)
    onnx_ir.save(convert_to_onnx(module, example, read_axes("batch,height,width")), path)
    return path


@torch.no_grad()
@pytest.mark.parametrize(
    "cases",
    [*in_turns(groups(BY_PRINT), 40), *in_turns(groups(in_layouts()), 200)],
    ids=lambda cases: "-".join(cases[0][:2]),
)
def test_an_exported_file_computes_the_same(cases: Sequence[Case], tmp_path: Path) -> None:
    side, widest = Side(cases).eval(), max(channels for *_, channels in cases)
    with open_session(exported(side, widest, tmp_path / "blocks.onnx")) as session:
        for count, height, width in SIZES:
            x = torch.randn(count, widest, height, width)
            made = session.run({INPUT: x.numpy()})
            for case, got, expected in zip(cases, made, side(x).values(), strict=True):
                highest = max(1.0, float(expected.abs().max()))
                np.testing.assert_allclose(got, expected.numpy(), rtol=0, atol=1e-5 * highest, err_msg=str(case))


def error(made: Tensor, exact: Tensor) -> float:
    """Return the median error, which single positions do not dominate, relative to the largest value."""
    return float((made.double() - exact).abs().median() / exact.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in (1, 2))])
@pytest.mark.parametrize("names", in_turns([("axial",), *groups(ALONE)], 40), ids=lambda names: names[0])
def test_rounding_errors_of_large_weights_are_those_of_torch(names: Sequence[str], seed: int, tmp_path: Path) -> None:
    """A softmax of logits of hundreds amplifies rounding, at single positions to percents, in PyTorch too."""
    side = Side([("NCHW", name, {}, 32) for name in names]).eval()
    torch.manual_seed(seed)
    exact = copy.deepcopy(at_random(side)).double()
    with open_session(exported(side, 32, tmp_path / "blocks.onnx")) as session:
        for shape in ((1, 32, 7, 7), (3, 32, 33, 20), (1, 32, 64, 64))[: 3 if len(names) > 1 else 2]:
            x = torch.randn(shape)
            made = map(torch.from_numpy, session.run({INPUT: x.numpy()}))
            for name, got, own, expected in zip(names, made, side(x).values(), exact(x.double()).values(), strict=True):
                assert error(got, expected) <= 2 * error(own, expected) + 1e-7, name
