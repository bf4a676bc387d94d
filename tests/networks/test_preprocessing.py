"""Preprocessing: its JSON form, its refusals, and what its transform does to pixels."""

from __future__ import annotations

import json
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from attn_surgeon.errors import DataError
from attn_surgeon.networks.preprocessing import Preprocessing, covering, fit

COLOUR = Preprocessing(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0), size=(4, 4), crop_pct=0.875)
GREY = Preprocessing(mean=(0.5,), std=(0.5,), size=(4, 6), channels=1)
GOOD: dict[str, Any] = {"mean": [0.5], "std": [0.5], "size": [4, 6], "channels": 1}


def picture(height: int, width: int) -> Image.Image:
    """Draw a colour picture of noise."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(noise)


@pytest.mark.parametrize("settings", [COLOUR, GREY])
def test_settings_survive_json(settings: Preprocessing) -> None:
    assert Preprocessing.from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_defaults_fill_in_what_json_leaves_out() -> None:
    assert Preprocessing.from_dict(GOOD) == GREY
    assert Preprocessing.from_dict(GOOD).crop_pct == 1.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": 0.5}, "mean must be a list"),
        ({"mean": ["0.5"]}, "mean.0 must be a number, got '0.5'"),
        ({"mean": [True]}, "mean.0 must be a number, got True"),
        ({"mean": [0.5, 0.5]}, "mean must be 1 finite numbers"),
        ({"std": [0]}, "std must be 1 finite numbers above 0"),
        ({"std": [float("nan")]}, "std must be"),
        ({"size": [32]}, "size.1 is missing"),
        ({"size": [32, 0]}, "size must be"),
        ({"size": [32.0, 32]}, "size.0 must be a whole number, got 32.0"),
        ({"channels": "1"}, "channels must be a whole number"),
        ({"channels": 0, "mean": [], "std": []}, "channels must be from 1 to 4096, got 0"),
        ({"interpolation": 3}, "interpolation must be a string"),
        ({"interpolation": "magic"}, "interpolation must be one of"),
        ({"size": [32, 10**30]}, "size must be .* both from 1 to 65536"),
        ({"channels": 10**30}, "channels must be from 1 to 4096"),
        ({"crop_pct": 0}, "crop_pct must be in"),
        ({"crop_pct": 1.5}, "crop_pct must be in"),
        ({"colour": "red"}, "colour is unknown"),
    ],
)
def test_nonsense_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        Preprocessing.from_dict(GOOD | change)


def test_missing_settings_are_named() -> None:
    with pytest.raises(DataError, match="std is missing; size is missing"):
        Preprocessing.from_dict({"mean": [0.5]})


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(DataError, match="must be a table"):
        Preprocessing.from_dict([1, 2])  # type: ignore[arg-type]


def test_an_image_that_fits_is_only_normalised() -> None:
    image = picture(4, 4)
    raw = torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1).float() / 255
    mean, std = torch.tensor(COLOUR.mean)[:, None, None], torch.tensor(COLOUR.std)[:, None, None]
    found = COLOUR.transform()(image)
    assert type(found) is torch.Tensor
    assert torch.allclose(found, (raw - mean) / std, rtol=0, atol=1e-6)


def test_grey_networks_get_grey_images() -> None:
    image = picture(4, 6)
    expected = (torch.from_numpy(np.asarray(image.convert("L")).copy()).float() / 255 - 0.5) / 0.5
    assert torch.allclose(GREY.transform()(image)[0], expected, rtol=0, atol=1e-6)


def test_colour_networks_get_grey_images_three_times() -> None:
    found = COLOUR.transform()(picture(4, 4).convert("L"))
    planes = found * torch.tensor(COLOUR.std)[:, None, None] + torch.tensor(COLOUR.mean)[:, None, None]
    assert torch.allclose(planes[0], planes[1], atol=1e-6)
    assert torch.allclose(planes[0], planes[2], atol=1e-6)


@pytest.mark.parametrize(
    ("image", "size", "crop_pct", "cover"),
    [
        ((480, 640), (224, 224), 0.875, (256, 341)),
        ((640, 480), (224, 224), 0.875, (341, 256)),
        ((100, 100), (32, 64), 1.0, (64, 64)),
        ((100, 400), (32, 64), 1.0, (32, 128)),
        ((32, 32), (32, 32), 0.5, (64, 64)),
    ],
)
def test_the_shorter_side_is_made_to_cover(
    image: tuple[int, int], size: tuple[int, int], crop_pct: float, cover: tuple[int, int]
) -> None:
    assert covering(image, size, crop_pct) == cover


def test_the_centre_is_kept() -> None:
    # Twice the height at the right width: nothing is to be resampled, the middle rows remain.
    image = picture(8, 6).convert("L")
    assert np.array_equal(np.asarray(fit(image, GREY)), np.asarray(image)[2:6])


def test_resampling_is_the_one_asked_for() -> None:
    settings = Preprocessing(mean=(0.0,), std=(1.0,), size=(4, 4), channels=1, interpolation="bicubic")
    image = picture(10, 10).convert("L")
    expected = np.asarray(image.resize((4, 4), Image.Resampling.BICUBIC))
    assert np.array_equal(np.asarray(fit(image, settings)), expected)


def test_the_transform_can_be_sent_to_a_worker() -> None:
    image = picture(9, 9)
    there = pickle.loads(pickle.dumps(COLOUR.transform()))
    assert torch.equal(there(image), COLOUR.transform()(image))


def test_images_files_cannot_feed_other_channels() -> None:
    settings = Preprocessing(mean=(0.5,) * 4, std=(0.5,) * 4, size=(4, 4), channels=4)
    with pytest.raises(DataError, match="the network takes 4"):
        settings.transform()
