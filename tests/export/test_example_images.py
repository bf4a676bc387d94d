"""The images that files are tried on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from attn_surgeon.data.opening import open_dataset
from attn_surgeon.errors import DataError
from attn_surgeon.export.example_images import folder_pixels, normalise, seeded_pixels
from attn_surgeon.networks.demo import DEMO_PREPROCESSING
from attn_surgeon.networks.preprocessing import Preprocessing

COLOUR = Preprocessing((0.5, 0.4, 0.3), (0.2, 0.25, 0.3), (6, 8))
SIZE = {"batch": 5, "height": 6, "width": 8}


def test_seeded_images_are_the_same_every_time_and_differ_from_one_another() -> None:
    first, second = (seeded_pixels(3)(SIZE) for _ in range(2))
    assert torch.equal(first, second)
    assert (first.shape, first.dtype) == ((5, 6, 8, 3), torch.uint8)
    assert len({image.numpy().tobytes() for image in first}) == 5
    assert first.float().std() > 30


def test_images_of_a_folder_equal_those_of_its_dataset(tmp_path: Path) -> None:
    for index, name in enumerate(("a/x.png", "a/y.png", "b/z.png")):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        generator = torch.Generator().manual_seed(index)
        pixels = torch.randint(0, 256, (10, 12, 3), dtype=torch.uint8, generator=generator)
        Image.fromarray(pixels.numpy()).save(path)
    make, count = folder_pixels(str(tmp_path), COLOUR)
    assert count == 3
    found = normalise(make({**SIZE, "batch": 3}), COLOUR)
    dataset = open_dataset(str(tmp_path), "val", COLOUR).dataset
    expected = [dataset[index][0] for index in range(3)]
    for image in expected:
        assert min((image - other).abs().max().item() for other in found) < 1e-6
    again = make(SIZE)
    assert torch.equal(again[:2], again[3:])


def test_the_demos_images_are_its_own() -> None:
    make, count = folder_pixels("demo", DEMO_PREPROCESSING)
    dataset = open_dataset("demo", "train", DEMO_PREPROCESSING).dataset
    assert count == len(dataset)  # type: ignore[arg-type]
    found = normalise(make({"batch": 2, "height": 32, "width": 32}), DEMO_PREPROCESSING)
    everything = torch.stack([dataset[index][0] for index in range(count)])
    assert ((everything[None] - found[:, None]).abs().amax((2, 3, 4)).amin(1) < 1e-6).all()


@pytest.mark.parametrize("kind", ["missing", "empty", "file", "channels"])
def test_where_there_are_no_images(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "here"
    if kind in ("empty", "channels"):
        path.mkdir()
    if kind == "file":
        path.write_text("x")
    preprocessing = Preprocessing((0.5,) * 4, (0.5,) * 4, (6, 8), 4) if kind == "channels" else COLOUR
    parts = {"missing": "no such folder", "empty": "no images", "file": "not a folder", "channels": "1 or 3 channels"}
    with pytest.raises(DataError, match=parts[kind]):
        folder_pixels(str(path), preprocessing)
