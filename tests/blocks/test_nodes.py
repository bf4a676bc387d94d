"""A learnt graft takes no more ONNX nodes than its card says, and none of them works out a shape."""

from __future__ import annotations

import pytest

from attn_surgeon.blocks import get_card
from attn_surgeon.blocks.base.card import KINDS

from .helpers import NAMES
from .nodes import count_nodes


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_the_nodes_are_those_on_the_card(kind: str) -> None:
    names = [name for name in NAMES if get_card(name).kind == kind]
    counted = count_nodes(names, (64, 14, 14))
    assert {name: found.total() for name, found in counted.items()} == {name: get_card(name).nodes for name in names}
    for name, found in counted.items():
        assert not found.keys() & {"Shape", "Size", "Range", "ConstantOfShape", "If", "Loop", "IsInf"}, name
