"""The axes left open, and where they are checked."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.errors import ExportError
from attn_surgeon.export.dynamic_axes import Axis, corners, fill_ranges, read_axes, traced
from attn_surgeon.networks.preprocessing import Preprocessing

SQUARE = Preprocessing((0.5,), (0.5,), (32, 32), 1)


class Picky(nn.Module):
    """Takes a width of 32 only, and heights that 24 divides or are 32."""

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[3] != 32 or (x.shape[2] != 32 and x.shape[2] % 24):
            raise ValueError(f"no map of {x.shape[2]} × {x.shape[3]}")
        return x.mean((2, 3))


def test_axes_are_read_in_their_order() -> None:
    assert read_axes("") == ()
    assert read_axes("width, batch=1:8,height") == (Axis("batch", 1, 8, ranged=True), Axis("height"), Axis("width"))


@pytest.mark.parametrize(
    ("text", "parts"),
    {
        "batchs": ("'batchs'", "did you mean batch?"), "colour": ("'colour'", "batch, height, width"),
        "batch,batch": ("batch is named twice",), "batch=4": ("'4'", "batch=1:32"), "height=9:3": ("'9:3'",),
        "batch=0:3": ("'0:3'",), "batch=a:b": ("'a:b'",),
    }.items(),
)  # fmt: skip
def test_an_invalid_axis_is_reported(text: str, parts: tuple[str, ...]) -> None:
    with pytest.raises(ExportError) as error:
        read_axes(text)
    assert [part for part in parts if part not in str(error.value)] == []


def test_a_side_is_checked_at_the_next_size_that_the_network_takes() -> None:
    assert fill_ranges([Axis("batch"), Axis("height")], Picky(), SQUARE) == (
        Axis("batch", 1, 3),
        Axis("height", 32, 48),
    )
    given = Axis("height", 24, 48, ranged=True)
    assert fill_ranges([given], Picky(), SQUARE) == (given,)


def test_a_network_of_one_width_cannot_leave_it_open() -> None:
    with pytest.raises(ExportError, match="takes no width but 32: no map of 32 × 64"):
        fill_ranges([Axis("width")], Picky(), SQUARE)


def test_every_corner_is_checked() -> None:
    axes = (Axis("batch", 1, 3), Axis("width", 32, 64))
    found = [tuple(size.values()) for size in corners(axes, (16, 32))]
    assert found == [(1, 16, 32), (1, 16, 64), (3, 16, 32), (3, 16, 64)]
    assert traced(axes, (16, 32)) == {"batch": 3, "height": 16, "width": 32}
    assert traced((Axis("height", 40, 48, ranged=True),), (32, 32)) == {"batch": 1, "height": 40, "width": 32}


def test_the_images_are_zeros_that_run_in_eval_mode() -> None:
    model = nn.Sequential(nn.BatchNorm2d(1), Picky())
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fill_ranges([Axis("height")], model, SQUARE)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
