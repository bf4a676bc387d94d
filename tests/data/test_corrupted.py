"""Datasets to evaluate on: the same bits as plain data, and corrupted images with labels or masks."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.data.corrupted import (
    CorruptedScenes,
    Corruption,
    LabelledImages,
    corrupted_labelled_images,
    corrupted_scenes,
)
from attn_surgeon.data.corruptions import CORRUPTION_KINDS, corrupt
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.masks import IGNORED
from attn_surgeon.data.opening import open_dataset
from attn_surgeon.data.segmentation_images import Scenes, open_scenes
from attn_surgeon.data.subsets import ImageSubset
from attn_surgeon.errors import DataError
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.demo import DEMO_PREPROCESSING
from attn_surgeon.networks.preprocessing import Preprocessing, fit
from attn_surgeon.tasks.classification import Classification, image_names
from attn_surgeon.tasks.settings import TaskSettings

from .cells import RGB, write

PLAIN = Preprocessing((0.0,) * 3, (1.0,) * 3, (16, 16))
SHIFTED = replace(PLAIN, mean=(0.5,) * 3)
LARGER = replace(PLAIN, size=(24, 20))


@pytest.fixture
def folder(tmp_path: Path) -> str:
    generator = np.random.default_rng(0)
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
        for number in range(3):
            pixels = generator.integers(0, 256, (40, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{number}.png")
    return str(tmp_path)


def opened(spec: str, preprocessing: Preprocessing, **settings: Any) -> ImageData:
    """Open data to evaluate on, for a network with these classes."""
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.LazyLinear(10 if spec.startswith("demo") else 2))
    network = LoadedNetwork(set_provenance(model, Provenance(SourceSpec("object", "net"), preprocessing)))
    return Classification().open_split(network, spec, "val", TaskSettings(max_bad=0.0, **settings))


def images(data: ImageData) -> LabelledImages:
    return cast(LabelledImages, cast(ImageSubset, data.dataset).dataset)


@pytest.mark.parametrize("task", ["demo", "demo-clutter"])
def test_the_images_of_a_demo_are_its_own(task: str) -> None:
    plain: Any = open_dataset(task, "val", DEMO_PREPROCESSING).dataset
    own = opened(task, DEMO_PREPROCESSING).dataset
    for index in (0, 5, 300):
        image, label = own[index]
        assert torch.equal(image, plain[index][0])
        assert label == plain[index][1]


def test_each_network_gets_its_own_preprocessing(folder: str) -> None:
    for preprocessing in (PLAIN, LARGER):
        own = opened(folder, preprocessing).dataset
        plain: Any = open_dataset(folder, "val", preprocessing).dataset
        for index in range(6):
            image, label = own[index]
            assert torch.equal(image, plain[index][0])
            assert label == plain[index][1]


@pytest.mark.parametrize("kind", CORRUPTION_KINDS)
def test_images_are_corrupted_alike_before_they_are_normalised(folder: str, kind: str) -> None:
    clean = opened(folder, PLAIN)
    own, other = (
        corrupted_labelled_images(opened(folder, kind_of), 0)(kind, 3).dataset for kind_of in (PLAIN, SHIFTED)
    )
    plain, shifted = own[1][0], other[1][0]
    pictures: Any = images(clean).pictures
    others = [fit(pictures[index][0], PLAIN) for index in range(6) if index != 1]
    expected = corrupt(fit(pictures[1][0], PLAIN), kind, 3, (0, 1), others)
    assert torch.equal(plain, PLAIN.transform()(expected))
    assert torch.allclose(shifted, plain - 0.5, atol=1e-6)
    assert not torch.equal(plain, clean.dataset[1][0])
    assert 0 <= float(plain.min()) <= float(plain.max()) <= 1
    assert torch.equal(own[1][0], plain)
    assert torch.equal(pickle.loads(pickle.dumps(own))[1][0], plain)  # as workers get it


def test_a_limited_choice_is_corrupted_as_the_whole_is(folder: str) -> None:
    few, whole = (corrupted_labelled_images(opened(folder, PLAIN, limit=limit), 0) for limit in (2, None))
    chosen = cast(ImageSubset, few("noise", 2).dataset)
    assert len(chosen) == 2
    for place, index in enumerate(chosen.chosen):
        assert torch.equal(chosen[place][0], whole("noise", 2).dataset[index][0])


def test_clutter_never_comes_from_the_image_itself() -> None:
    pool = {index: Image.new("RGB", (16, 16), "black" if index == 1 else "white") for index in range(6)}
    grey: Any = [(Image.new("RGB", (16, 16), "gray"), 0)] * 6
    made = LabelledImages(grey, PLAIN, Corruption("clutter", 5, 0, pool))
    assert set(made[1][0].flatten().tolist()) == {float(torch.tensor(128 / 255)), 1.0}
    assert 0.0 in made[2][0]


def test_clutter_needs_other_images(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        (tmp_path / name).mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "ant" / "a.png")
    with pytest.raises(DataError, match="there is only one"):
        corrupted_labelled_images(opened(str(tmp_path), PLAIN), 0)


def test_images_are_named_by_file_or_index(folder: str) -> None:
    named = image_names(opened(folder, PLAIN))
    assert named == [str(Path(folder) / name / f"{number}.png") for name in ("ant", "bee") for number in range(3)]
    few = image_names(opened(folder, PLAIN, limit=2))
    assert len(few) == 2
    assert [Path(str(name)).parent.name for name in few] == ["ant", "bee"]
    assert image_names(opened("demo", DEMO_PREPROCESSING))[:3] == [0, 1, 2]


@pytest.mark.parametrize("kind", CORRUPTION_KINDS)
def test_pixels_are_corrupted_and_what_clutter_covers_does_not_count(tmp_path: Path, kind: str) -> None:
    root = write(tmp_path, count=3, size=(40, 48))
    data = open_scenes(str(root), "val", RGB, ("a", "b", "c"), TaskSettings())
    scenes = cast(Scenes, data.dataset)
    pool = {index: Image.fromarray(scenes.picture(index)[0].permute(1, 2, 0).numpy()) for index in range(3)}
    corrupted = cast(CorruptedScenes, corrupted_scenes(data, 7)(kind, 5).dataset)
    pixels, mask = corrupted.picture(1)
    clean, labels = scenes.picture(1)
    others = [pool[0], pool[2]]
    assert np.array_equal(pixels.permute(1, 2, 0).numpy(), np.array(corrupt(pool[1], kind, 5, (7, 1), others, 16)))
    changed = (pixels != clean).any(0)
    if kind == "clutter":
        assert torch.equal(mask == IGNORED, changed)
        assert 0.02 < changed.float().mean() < 0.8
    assert torch.equal(mask[mask != IGNORED], labels[mask != IGNORED])
    assert bool((mask != IGNORED).all()) == (kind != "clutter")
