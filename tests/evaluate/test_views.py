"""Views: the same bits as plain data, and each network's own preprocessing."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from attn_surgeon.data import open_dataset
from attn_surgeon.data.corruptions import KINDS, corrupt
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.views import Corruption, Views, image_names, open_views, pools_of
from attn_surgeon.networks.demo import DEMO_PREPROCESSING
from attn_surgeon.networks.preprocessing import Preprocessing, fit

PLAIN = Preprocessing((0.0,) * 3, (1.0,) * 3, (16, 16))
SHIFTED = replace(PLAIN, mean=(0.5,) * 3)
LARGER = replace(PLAIN, size=(24, 20))


@pytest.fixture
def folder(tmp_path: Path) -> str:
    dice = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = dice.integers(0, 256, (40, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return str(tmp_path)


def views(folder: str, *wanted: Preprocessing) -> Views:
    return cast(Views, open_views(folder, "val", wanted)[0].dataset)


def corrupted(own: Views, kind: str, strength: int = 3) -> Views:
    return Views(own.pictures, own.wanted, Corruption(kind, strength, 0), pools_of(own))


@pytest.mark.parametrize("task", ["demo", "demo-clutter"])
def test_views_of_a_task_are_its_images(task: str) -> None:
    plain: Any = open_dataset(task, "val", DEMO_PREPROCESSING).dataset
    own = views(task, DEMO_PREPROCESSING, DEMO_PREPROCESSING)
    for index in (0, 5, 500):
        (image,), label = own[index]  # one view for all who want the same
        assert torch.equal(image, plain[index][0])
        assert label == plain[index][1]


def test_each_network_gets_its_own_preprocessing(folder: str) -> None:
    own = views(folder, PLAIN, LARGER)
    for index in range(len(own)):
        found, label = own[index]
        for image, preprocessing in zip(found, (PLAIN, LARGER), strict=True):
            plain: Any = open_dataset(folder, "val", preprocessing).dataset
            assert torch.equal(image, plain[index][0])
            assert label == plain[index][1]


@pytest.mark.parametrize("kind", KINDS)
def test_images_are_corrupted_alike_before_they_are_normalised(folder: str, kind: str) -> None:
    own = corrupted(views(folder, PLAIN, SHIFTED), kind)
    (plain, shifted), _ = own[1]
    picture, others = own.pictures[1][0], [other for index, other in pools_of(own)[0].items() if index != 1]
    expected = corrupt(fit(picture, PLAIN), kind, 3, (0, 1), others)
    assert torch.equal(plain, PLAIN.transform()(expected))
    assert torch.allclose(shifted, plain - 0.5, atol=1e-6)
    (clean, _), _ = Views(own.pictures, own.wanted)[1]
    assert not torch.equal(plain, clean)
    assert 0 <= float(plain.min()) <= float(plain.max()) <= 1
    assert torch.equal(own[1][0][0], plain)
    assert torch.equal(pickle.loads(pickle.dumps(own))[1][0][0], plain)  # as workers get it


def test_clutter_never_comes_from_the_image_itself(folder: str) -> None:
    own = corrupted(views(folder, PLAIN), "clutter", 5)
    pool = {index: Image.new("RGB", (16, 16), "black" if index == 1 else "white") for index in range(6)}
    grey = [Image.new("RGB", (16, 16), "gray")] * 6
    made = Views(list(zip(grey, [0] * 6, strict=True)), own.wanted, own.corruption, [pool])  # type: ignore[arg-type]
    assert set(made[1][0][0].flatten().tolist()) == {float(torch.tensor(128 / 255)), 1.0}
    assert 0.0 in made[2][0][0]


def test_clutter_needs_other_images(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "ant" / "a.png")
    with pytest.raises(DataError, match="there is one only"):
        pools_of(views(str(tmp_path), PLAIN))


def test_images_are_named_by_file_or_index(folder: str) -> None:
    named = image_names(open_views(folder, "val", [PLAIN])[0], None)
    assert named == [str(Path(folder) / name / f"{number}.png") for name in ("ant", "bee") for number in range(3)]
    few = image_names(open_views(folder, "val", [PLAIN])[0], 2)
    assert len(few) == 2
    assert [Path(str(name)).parent.name for name in few] == ["ant", "bee"]
    assert image_names(open_views("demo", "val", [DEMO_PREPROCESSING])[0], None)[:3] == [0, 1, 2]
