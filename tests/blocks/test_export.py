"""Blocks export to ONNX with a batch, height and width left open, and ONNX Runtime computes the same."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

from .helpers import NAMES, block
from .test_sizes import OPTIONS, published

SIZES = [(2, 12, 14), (1, 7, 9), (3, 20, 31)]
# a softmax of sums over all positions, of hundreds: single precision holds no more than four digits of its powers
SPREAD = {"cam": 0.3, "danet": 0.3}
OPEN = {0: torch.export.Dim.DYNAMIC, 2: torch.export.Dim.DYNAMIC, 3: torch.export.Dim.DYNAMIC}


class Both(nn.Module):
    """A block by its published formula, and as it starts."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.published = published(name, 16)
        self.identity = block(name, 16, **OPTIONS.get(name, {})).eval()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.published(x), self.identity(x)


def exported(name: str, path: Path) -> Both:
    module = Both(name)
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
@pytest.mark.parametrize("name", NAMES)
def test_onnx_runtime_computes_the_same_at_other_sizes(name: str, tmp_path: Path) -> None:
    module = exported(name, tmp_path / "block.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "block.onnx", providers=["CPUExecutionProvider"])
    for count, height, width in SIZES:
        x = SPREAD.get(name, 1.0) * torch.randn(count, 16, height, width)
        got, same = session.run(None, {"x": x.numpy()})
        expected = module.published(x).numpy()
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5 * max(1.0, abs(expected).max()))
        np.testing.assert_array_equal(same, x.numpy())
