"""How many ONNX nodes a block takes once it has learnt something."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.export.module import ExportModule
from attn_surgeon.export.onnx.convert import convert_to_onnx

from .helpers import at_random, block


class Side(nn.Module):
    """Blocks in the place of grafts, side by side, each with its own images: one export takes less time than many."""

    def __init__(self, names: Sequence[str], channels: int) -> None:
        super().__init__()
        self.attn_surgeon = nn.ModuleList(at_random(block(name, channels)).eval() for name in names)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return tuple(part(images[:, :, place]) for place, part in enumerate(self.attn_surgeon))


def count_nodes(names: Sequence[str], shape: tuple[int, int, int]) -> dict[str, Counter[str]]:
    """Count the nodes, by operator, of each block's static export; the one that picks its images is left out."""
    channels, height, width = shape
    model = convert_to_onnx(
        ExportModule(Side(names, channels).eval(), tuple(names), None, None, softmax=False),
        torch.randn(1, channels, len(names), height, width),
        (),
        20,
    )
    return {value.name: _behind(value) for value in model.graph.outputs}


def _behind(value: Any) -> Counter[str]:
    found, todo = {}, [value.producer()]
    while todo:
        node = todo.pop()
        if node is None or id(node) in found:
            continue
        found[id(node)] = node.op_type
        todo += [each.producer() for each in node.inputs if each is not None]
    return Counter(found.values()) - Counter({"Gather": 1})
