"""Blocks export to ONNX with a batch, height and width left open, and ONNX Runtime computes the same."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from attn_surgeon.blocks import get_card
from attn_surgeon.blocks.base.card import KINDS
from tests.turns import in_turns

from .helpers import NAMES, block
from .test_sizes import OPTIONS, published

SIZES = [(2, 12, 14), (1, 7, 9), (3, 20, 31)]
# a softmax of sums over all positions, of hundreds: single precision holds no more than four digits of its powers
SPREAD = {"cam": 0.3, "danet": 0.3}
GROUPS = 16  # with blocks of every kind in each; one is run each time
BY_KIND = sorted(NAMES, key=lambda name: KINDS.index(get_card(name).kind))
OPEN = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}


class Side(nn.Module):
    """Blocks side by side, each by its published formula and as it starts: one export takes less time than many."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.spread = [SPREAD.get(name, 1.0) for name in names]
        self.published = nn.ModuleList(published(name, 16) for name in names)
        self.identity = nn.ModuleList(block(name, 16, **OPTIONS.get(name, {})).eval() for name in names)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        by_formula = [part(x * spread) for part, spread in zip(self.published, self.spread, strict=True)]
        return (*by_formula, *(part(x) for part in self.identity))


def exported(names: Sequence[str], path: Path) -> Side:
    module = Side(names)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own
        torch.onnx.export(
            module,
            (torch.randn(SIZES[0][0], 16, *SIZES[0][1:]),),
            path,
            dynamo=True,
            opset_version=20,
            input_names=["x"],
            dynamic_shapes={"x": OPEN},
            verbose=False,
            external_data=False,
        )
    return module


@torch.no_grad()
@pytest.mark.parametrize(
    "names",
    in_turns([BY_KIND[i::GROUPS] for i in range(GROUPS)], GROUPS),
    ids=lambda names: names[0],
)
def test_onnx_runtime_computes_the_same_at_other_sizes(names: Sequence[str], tmp_path: Path) -> None:
    module = exported(names, tmp_path / "blocks.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "blocks.onnx", providers=["CPUExecutionProvider"])
    for count, height, width in SIZES:
        x = torch.randn(count, 16, height, width)
        got = session.run(None, {"x": x.numpy()})
        made = module(x)
        for place, name in enumerate(names):
            expected = made[place].numpy()
            highest = max(1.0, abs(expected).max())
            np.testing.assert_allclose(got[place], expected, rtol=0, atol=1e-5 * highest, err_msg=name)
            np.testing.assert_array_equal(got[len(names) + place], x.numpy(), err_msg=name)
