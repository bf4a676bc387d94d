"""Augmentation: decided by a key, whatever was drawn before, and leaving the random streams alone."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as v2

from attn_surgeon.data.augment import RandomResizedCrop, augmentation, seeded_by, shift_and_mirror
from attn_surgeon.data.opening import open_dataset
from attn_surgeon.networks.preprocessing import Preprocessing

LARGE = Preprocessing((0.4, 0.5, 0.6), (0.2, 0.3, 0.1), (64, 64), interpolation="bicubic")


@pytest.mark.parametrize(("channels", "side", "kind"), [(1, 64, "none"), (3, 31, "none"), (3, 32, "shift")])
def test_small_and_grey_images_are_not_cropped(channels: int, side: int, kind: str) -> None:
    found = augmentation(Preprocessing((0.5,) * channels, (0.5,) * channels, (side, side), channels))
    assert found is {"none": None, "shift": shift_and_mirror}[kind]


def test_a_crop_is_a_part_of_the_file_brought_to_size(tmp_path: Path) -> None:
    """A picture whose red says where along, and whose green how far down, tells where its crop is from."""
    along = torch.arange(200).repeat(100, 1)
    down = torch.arange(100)[:, None].repeat(1, 200)
    pixels = torch.stack([along, down * 2, torch.zeros_like(along)], -1).to(torch.uint8)
    (tmp_path / "ant").mkdir()
    Image.fromarray(pixels.numpy()).save(tmp_path / "ant" / "a.png")
    dataset, crop = open_dataset(str(tmp_path), "train", LARGE).dataset, augmentation(LARGE)
    assert isinstance(crop, RandomResizedCrop)
    wide, mirrored = set(), set()
    for draw in range(40):
        image, label = crop(dataset, 0, f"0:{draw}:0")
        assert (label, tuple(image.shape)) == (0, (3, 64, 64))
        seen = image * torch.tensor(LARGE.std)[:, None, None] + torch.tensor(LARGE.mean)[:, None, None]
        assert torch.allclose(seen[2], torch.zeros(64, 64), atol=1e-6)
        ends = 255 * seen[0].mean(0)[[0, -1]]
        mirrored.add(bool(ends[0] > ends[1]))
        wide.add(round(float((ends[1] - ends[0]).abs())))
    assert mirrored == {True, False}
    assert len(wide) > 20
    assert min(wide) < 60
    assert max(wide) > 110


def test_draws_are_decided_by_their_key_and_leave_no_trace(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    noise = torch.randint(256, (3, 80, 80), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    v2.to_pil_image(noise).convert("RGBA").save(tmp_path / "ant" / "a.png")
    dataset, crop = open_dataset(str(tmp_path), "train", LARGE).dataset, augmentation(LARGE)
    assert crop is not None
    random.seed(1), torch.manual_seed(1)
    before = random.getstate(), torch.get_rng_state()
    first = crop(dataset, 0, "0:0:0")[0]
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
    random.seed(2), torch.manual_seed(2)
    assert torch.equal(crop(dataset, 0, "0:0:0")[0], first)
    assert not torch.equal(crop(dataset, 0, "0:1:0")[0], first)


def test_random_states_are_restored_after_an_error() -> None:
    before = random.getstate(), torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded_by("0:0:0"):
        random.random(), torch.rand(1), 1 / 0
    assert random.getstate() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
