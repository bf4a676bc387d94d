"""Attention written out computes the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from attn_surgeon.export.api import export_onnx
from attn_surgeon.export.onnx.explicit_attention import attention, explicit_attention

# of the query; of the mask
SHAPES: list[tuple[tuple[int, ...], tuple[int, ...] | None]] = [
    ((5, 6), (5, 5)),
    ((3, 5, 6), None),
    ((3, 5, 6), (5, 5)),
    ((3, 5, 6), (3, 5, 5)),
    ((3, 5, 6), (1, 5, 5)),
    ((2, 4, 5, 6), (2, 1, 5, 5)),
    ((2, 3, 4, 5, 6), None),
    ((2, 3, 4, 5, 6), (4, 5, 5)),
    ((2, 3, 4, 5, 6), (3, 1, 5, 5)),
    ((2, 3, 4, 5, 6), (2, 1, 4, 5, 5)),
    ((2, 1, 3, 4, 5, 6), (5, 5)),
]


@pytest.mark.parametrize(("shape", "masked"), SHAPES)
def test_it_computes_the_same(shape: tuple[int, ...], masked: tuple[int, ...] | None) -> None:
    query, key, value = torch.randn(3, *shape)
    mask = None if masked is None else torch.randn(masked)
    value = torch.cat([value, value.square()], -1)  # of another width than the queries
    expected = F.scaled_dot_product_attention(query, key, value, mask, scale=0.7)
    with explicit_attention():
        found = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.7)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    "more",
    [
        {"is_causal": True},
        {
            "attn_mask": torch.tensor(
                [[True, False, True], [False, False, False], [True, True, True], [False, True, True]]
            )
        },
        {"enable_gqa": True, "scale": 2.0},
    ],
    ids=["causal", "a query that attends to nothing", "grouped queries"],
)
def test_other_arguments_mean_the_same(more: dict[str, Any]) -> None:
    query, key, value = torch.randn(2, 4, 4, 6), torch.randn(2, 2, 3, 6), torch.randn(2, 2, 3, 5)
    if "enable_gqa" not in more:
        query = query[:, :2]
    torch.testing.assert_close(
        attention(query, key, value, **more), F.scaled_dot_product_attention(query, key, value, **more)
    )


class Biased(nn.Module):
    """Attends among the pixels of a map, without an axis for heads, with a bias from the queries."""

    def forward(self, x: Tensor) -> Tensor:
        tokens = x.flatten(2).mT
        bias = tokens @ tokens.mT
        return F.scaled_dot_product_attention(tokens, tokens, tokens, attn_mask=bias).mean(1)


def test_three_axes_and_a_bias_are_exported(tmp_path: Path) -> None:
    images = torch.randn(5, 3, 6, 6)
    export_onnx(Biased(), tmp_path / "m.onnx", example=images)
    (found,) = onnxruntime.InferenceSession(tmp_path / "m.onnx").run(None, {"images": images.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), Biased()(images), rtol=1e-4, atol=1e-5)
