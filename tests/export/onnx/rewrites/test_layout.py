"""Consecutive reshapes and transpositions become fewer that compute the same."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import onnx_ir
import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.export.dynamic_axes import Axis
from attn_surgeon.export.module import ExportModule
from attn_surgeon.export.onnx.convert import convert_to_onnx
from attn_surgeon.export.onnx.rewrites.layout import LayoutStep, contiguous, fewest_steps, reshaped


def applied(x: Any, steps: list[LayoutStep]) -> Any:
    for operator, sides in steps:
        x = x.transpose(sides) if operator == "Transpose" else x.reshape(sides)
    return x


@pytest.mark.parametrize("seed", range(20))
def test_steps_compute_what_the_chain_does(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(50):
        shape = tuple(chance.choice([1, 2, 3, 4]) for _ in range(chance.randint(1, 4)))
        x = y = np.arange(np.prod(shape)).reshape(shape)
        axes: Any = [[part] for part in contiguous(shape)]
        length = chance.randint(2, 5)
        for _ in range(length):
            perm = chance.sample(range(y.ndim), y.ndim)
            y, axes = y.transpose(perm), [axes[axis] for axis in perm]
            split = [factor for side in y.shape for factor in ((2, 2) if side == 4 else (side,))]
            split = [chance.choice([1, split[0]]), *split[1:]] if split[0] == 1 else [1, *split]
            y, axes = y.reshape(split), reshaped(axes, tuple(split))
        steps = fewest_steps(shape, axes, y.shape)
        assert len(steps) <= 3
        assert np.array_equal(applied(x, steps), y)


@pytest.mark.parametrize(
    ("before", "perm", "after", "operators"),
    [
        ((2, 3), (0, 1), (2, 3), []),
        ((2, 3), (0, 1), (6,), ["Reshape"]),
        ((2, 3), (1, 0), (3, 2), ["Transpose"]),
        ((2, 1, 3), (2, 1, 0), (3, 1, 2), ["Transpose"]),
        ((2, 3, 4), (2, 0, 1), (4, 6), ["Reshape", "Transpose"]),
        ((2, 3, 4), (1, 0, 2), (24,), ["Transpose", "Reshape"]),
    ],
)
def test_no_step_is_needless(
    before: tuple[int, ...], perm: tuple[int, ...], after: tuple[int, ...], operators: list[str]
) -> None:
    parts = contiguous(before)
    axes = reshaped([[parts[axis]] for axis in perm], after)
    assert axes is not None
    assert [operator for operator, _ in fewest_steps(before, axes, after)] == operators


def test_a_shape_that_divides_no_axis_is_left() -> None:
    assert reshaped([[(4, 6)], [(6, 1)]], (3, 8)) is None


class Heads(nn.Module):
    """Attention's layout: (N, C, H, W) to (N, heads, H·W, C / heads) and back, with an operator between."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.unflatten(x.flatten(2).transpose(1, 2), 2, (2, 4)).transpose(1, 2).softmax(-1)
        return torch.unflatten(y.transpose(1, 2).flatten(2).transpose(1, 2), 2, x.shape[2:])


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attn_surgeon = nn.ModuleList([Heads()])

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.attn_surgeon[0](x))


@pytest.mark.parametrize("axes", [(), (Axis("batch"),)])
def test_a_dynamic_batch_stays_dynamic(axes: tuple[Axis, ...]) -> None:
    import onnxruntime

    network = Network().eval()
    x = torch.randn(2, 8, 3, 5)
    model = convert_to_onnx(ExportModule(network, ("y",), None, None, softmax=False), x, axes)
    assert [node.op_type for node in model.graph] == ["Reshape", "Transpose", "Softmax", "Transpose", "Reshape", "Relu"]
    session = onnxruntime.InferenceSession(onnx_ir.to_proto(model).SerializeToString())
    for images in (x, torch.randn(3, 8, 3, 5)) if axes else (x,):
        (got,) = session.run(None, {"images": images.numpy()})
        assert np.allclose(got, network(images).numpy(), atol=1e-6)
