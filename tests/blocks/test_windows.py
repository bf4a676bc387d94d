"""Windows: cut and put together again, and blocks of windows with options other than their defaults."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attn_surgeon.blocks.self_attention.windows import cut, inside, join

from .helpers import bits, block, still

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("window", {"shift": True}),
    ("window", {"window": 2, "shift": True, "heads": 4}),
    ("halo", {"block": 1, "halo": 2}),
    ("halo", {"block": 2, "halo": 0, "heads": 1}),
    ("outlook", {"kernel_size": 5, "heads": 4}),
    ("lambda", {"kernel_size": 1, "heads": 2}),
    ("cot", {"kernel_size": 5, "share": 2}),
    ("focal", {"levels": 1}),
    ("bat", {"bands": 2}),
    ("sk", {"least": 2}),
    ("cross", {"heads": 1}),
]


@pytest.mark.parametrize(("step", "before"), [(1, 0), (3, 0), (4, 2), (5, 3), (7, 4)])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (7, 5), (8, 8)])
def test_windows_are_reassembled(step: int, before: int, size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    windows = cut(x, step, before=before)
    assert torch.equal(join(windows, x, step, before=before), x)
    seen = inside(x, step, before=before).flatten(1)
    assert bool((windows[~seen] == 0).all())
    assert int(seen.sum()) == 2 * size[0] * size[1]
    assert bool(seen.any(1).all())  # a window that sees nothing would have no softmax


@pytest.mark.parametrize(("step", "halo"), [(1, 2), (2, 3), (4, 1), (8, 3)])
@pytest.mark.parametrize("size", [(1, 1), (2, 9), (7, 5), (8, 8)])
def test_windows_with_a_halo(step: int, halo: int, size: tuple[int, int]) -> None:
    x = torch.randn(1, 1, *size)
    windows, seen = cut(x, step, halo=halo), inside(x, step, halo=halo).flatten(1)
    wide = -(-size[1] // step)
    for index, (window, on_map) in enumerate(zip(windows, seen, strict=True)):
        top, left = index // wide * step - halo, index % wide * step - halo
        for place in range((step + 2 * halo) ** 2):
            row, column = top + place // (step + 2 * halo), left + place % (step + 2 * halo)
            assert on_map[place] == (0 <= row < size[0] and 0 <= column < size[1])
            assert window[place] == (x[0, 0, row, column] if on_map[place] else 0)


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
@pytest.mark.parametrize("size", [(1, 9), (5, 7), (12, 8)])
def test_other_options_start_as_the_identity_and_learn(
    name: str, options: dict[str, Any], size: tuple[int, int]
) -> None:
    module, x = block(name, 16, **options), torch.randn(3, 16, *size)
    assert torch.equal(bits(module(x)), bits(x))
    assert still(module, x) == set()


def test_a_position_that_sees_itself_alone() -> None:
    with pytest.raises(ValueError, match="each position would look at itself alone"):
        block("halo", 8, block=1, halo=0)


@pytest.mark.parametrize("name", ["window", "halo", "lambda", "outlook", "cross", "cot", "bat"])
def test_counts_that_do_not_divide_the_channels(name: str) -> None:
    options: dict[str, Any] = {"groups" if name in ("cot", "bat") else "heads": 3}
    with pytest.raises(ValueError, match="not divisible"):
        block(name, 16, **options)
