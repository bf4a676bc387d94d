"""Sliding windows: the same scores as the whole image where nothing else is to be expected."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.tasks.sliding_windows import bands, starts


def whole(predict: nn.Module, image: Tensor, window: tuple[int, int], overlap: float) -> Tensor:
    found = list(bands(predict, image, window, overlap))
    assert [top for top, _ in found] == [sum(part.shape[1] for _, part in found[:n]) for n in range(len(found))]
    return torch.cat([scores for _, scores in found], 1)


def test_windows_cover_a_side_and_end_with_it() -> None:
    assert starts(16, 16, 12) == [0]
    assert starts(10, 16, 12) == [0]
    assert starts(40, 16, 12) == [0, 12, 24]
    assert starts(41, 16, 12) == [0, 12, 24, 25]
    assert starts(512, 128, 96) == [0, 96, 192, 288, 384]


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("size", [(16, 24), (37, 53), (9, 60), (60, 9), (5, 7)])
def test_a_network_that_looks_at_single_pixels_sees_the_whole(size: tuple[int, int], overlap: float) -> None:
    network = nn.Conv2d(3, 4, 1).double()
    image = torch.randn(3, *size, dtype=torch.double)
    with torch.no_grad():
        torch.testing.assert_close(whole(network, image, (16, 24), overlap), network(image[None])[0])


def test_one_window_is_one_run_to_the_bit() -> None:
    network = nn.Conv2d(3, 4, 3, padding=1)
    image = torch.randn(3, 16, 24)
    with torch.no_grad():
        assert torch.equal(whole(network, image, (16, 24), 0.5), network(image[None])[0])


def test_scores_are_the_mean_over_the_windows_that_see_a_pixel() -> None:
    """Against a plain sum over the whole image, for scores that depend on where a pixel is in its window."""

    class Placed(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.arange(64.0).view(8, 8).expand(len(x), 1, 8, 8)

    sums, counts = torch.zeros(1, 21, 18), torch.zeros(21, 18)
    for top in (0, 6, 12, 13):
        for left in (0, 6, 10):
            sums[:, top : top + 8, left : left + 8] += torch.arange(64.0).view(8, 8)
            counts[top : top + 8, left : left + 8] += 1
    torch.testing.assert_close(whole(Placed(), torch.zeros(3, 21, 18), (8, 8), 0.25), sums / counts)


def test_no_more_than_a_row_of_windows_is_held() -> None:
    seen: list[int] = []

    class Watched(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            seen.append(x.shape[0] * x.shape[2] * x.shape[3])
            return x[:, :1]

    parts = list(bands(Watched(), torch.zeros(1, 3000, 2000), (256, 256), 0.25))
    assert max(seen) <= 2**20
    assert max(scores.shape[1] for _, scores in parts) <= 256
