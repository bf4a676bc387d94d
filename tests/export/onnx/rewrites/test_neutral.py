"""Nodes that change nothing leave the grafts, and slices of slices are one; the results stay."""

from __future__ import annotations

import onnx_ir
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.export.module import ExportModule
from attn_surgeon.export.onnx.convert import convert_to_onnx


class Nothing(nn.Module):
    """Sums with zeros, products with ones and a padding by nothing, between operators."""

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x.relu() * torch.ones(4, 1, 1) + torch.zeros(4, 1, 1), (0, 0, 0, 0)).sigmoid()


class Wider(nn.Module):
    """A sum with zeros and a product with ones that widen the features."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid((x[:, :1] + torch.zeros(4, 1, 1)).relu()[:, :, :1] * torch.ones(5, 1))


class Slices(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        rows = x[:, :, 1:4]
        return torch.add(rows[:, :, :, :-1].relu(), rows[:, :, :, 1:].relu())


class Normalised(nn.Module):
    """A division by an expanded norm: the division widens it itself."""

    def forward(self, x: Tensor) -> Tensor:
        return x.div(x.norm(dim=1, keepdim=True).expand_as(x))


class Network(nn.Module):
    def __init__(self, graft: nn.Module) -> None:
        super().__init__()
        self.attn_surgeon = nn.ModuleList([graft])

    def forward(self, x: Tensor) -> Tensor:
        return torch.tanh(self.attn_surgeon[0](x))


@pytest.mark.parametrize(
    ("graft", "operators"),
    [
        (Nothing(), ["Relu", "Sigmoid", "Tanh"]),
        (Wider(), ["Slice", "Add", "Relu", "Slice", "Mul", "Sigmoid", "Tanh"]),
        (Slices(), ["Slice", "Relu", "Slice", "Relu", "Add", "Tanh"]),
        (Normalised(), ["ReduceL2", "Div", "Tanh"]),
    ],
)
def test_only_what_changes_something_is_left(graft: nn.Module, operators: list[str]) -> None:
    import onnxruntime

    network, x = Network(graft).eval(), torch.randn(2, 4, 5, 6)
    model = convert_to_onnx(ExportModule(network, ("y",), None, None, softmax=False), x, ())
    assert [node.op_type for node in model.graph] == operators
    session = onnxruntime.InferenceSession(onnx_ir.to_proto(model).SerializeToString())
    assert torch.allclose(torch.from_numpy(session.run(None, {"images": x.numpy()})[0]), network(x), atol=1e-6)
