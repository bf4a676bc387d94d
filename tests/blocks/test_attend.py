"""Attention among positions: right for every width, and never holding all pairs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from attn_surgeon.blocks import get_card
from attn_surgeon.blocks.self_attention.attend import attend, positions, tokens

from .helpers import NAMES, block

AMONG = [name for name in NAMES if get_card(name).kind == "self-attention"]


class Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """How many numbers the largest tensor holds that anything computes."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found = 0

    def __torch_dispatch__(
        self, made_by: Callable[..., Any], types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        made = made_by(*args, **(kwargs or {}))
        sizes = [each.untyped_storage().nbytes() // 4 for each in tree_leaves(made) if isinstance(each, Tensor)]
        self.found = max([self.found, *sizes])
        return made


def by_hand(query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    return (scale * query @ key.transpose(2, 3)).softmax(3) @ value


@pytest.mark.parametrize("heads", [1, 3])
@pytest.mark.parametrize(("width", "wanted"), [(4, 4), (8, 8), (1, 8), (4, 33), (8, 64), (12, 5), (5, 13), (32, 4)])
def test_attention_for_any_widths(heads: int, width: int, wanted: int) -> None:
    query, key = torch.randn(2, 2, heads, 7, width).double()
    key, value = torch.cat((key, key[:, :, :2]), 2), torch.randn(2, heads, 9, wanted).double()
    for scale in (1.0, 0.3):
        torch.testing.assert_close(attend(query, key, value, scale), by_hand(query, key, value, scale))


def test_positions_are_tokens_again() -> None:
    for x in (torch.randn(2, 12, 3, 5), torch.randn(2, 12, 3, 5).to(memory_format=torch.channels_last)):
        made = tokens(x, 4)
        assert made.shape == (2, 4, 15, 3)
        assert made.stride(3) == 1
        assert torch.equal(made[1, 2, 7], x[1, 6:9, 1, 2])
        assert torch.equal(positions(made, x), x)


@pytest.mark.parametrize("name", AMONG)
def test_all_pairs_are_never_held(name: str) -> None:
    side, channels = 40, 16
    module, x = block(name, channels), torch.randn(1, channels, side, side)
    with Largest() as largest:
        module(x).sum().backward()
    assert channels * side**2 <= largest.found < side**4 / 4


def test_referenced_pairs_are_found() -> None:
    module, x = block("nonlocal", 16, mode="concatenation"), torch.randn(1, 16, 40, 40)
    with Largest() as largest:
        module(x)
    assert largest.found == 40**4


@pytest.mark.parametrize("name", ["mhsa", "axial", "botnet"])
def test_heads_that_do_not_divide_the_channels(name: str) -> None:
    with pytest.raises(ValueError, match="12 channels are not divisible by heads=8"):
        block(name, 12, heads=8)


@pytest.mark.parametrize(("channels", "heads"), [(12, 6), (12, 4), (3, 2)])
def test_heads_of_efficient_attention_have_two_channels(channels: int, heads: int) -> None:
    with pytest.raises(ValueError, match=f"inner channels are not split by heads={heads} into heads of two or more"):
        block("efficient", channels, heads=heads)


def test_attention_along_axes_on_one_line_is_attention_among_all() -> None:
    one, all_, x = block("axial", 12, "paper"), block("mhsa", 12, "paper"), torch.randn(2, 12, 1, 9)
    named = {name.removeprefix("rows."): value for name, value in one.state_dict().items() if name.startswith("rows.")}
    all_.load_state_dict({f"attention.{name}": value for name, value in named.items()})
    for name, parameter in one.named_parameters():
        if name.startswith("columns.project"):
            parameter.data.zero_()
    torch.testing.assert_close(one(x), all_(x))
