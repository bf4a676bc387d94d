"""Published weights on real images: every block leaves every logit as it was, to the last bit."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.blocks import block_names, get_card
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.opening import open_dataset
from attn_surgeon.networks.preprocessing import PreprocessingOverrides
from attn_surgeon.tasks.accuracy import Accuracy, measure_accuracy
from tests.surveyed import surveyed_once

REPO = Path(__file__).parents[2]
DATA = REPO.parent / "shared" / "data"
WEIGHTS, ARCHIVE = DATA / "resnet20-12fca82f.th", DATA / "cifar10-jpeg.tar.xz"
EXTRACTED = Path.home() / ".cache" / "attn-surgeon-data" / "cifar10-jpeg"

FEW = 30  # images for each block

pytestmark = pytest.mark.skipif(
    not (WEIGHTS.exists() and (ARCHIVE.exists() or EXTRACTED.is_dir())), reason="weights or images are not at hand"
)


@pytest.fixture(scope="module")
def loaded() -> Iterator[LoadedNetwork]:
    images = PreprocessingOverrides((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (32, 32))
    made = open_network(f"{REPO / 'examples' / 'cifar_resnet.py'}:resnet20", weights=str(WEIGHTS), images=images)
    with surveyed_once(made.model, made.example):
        yield made


@pytest.fixture(scope="module")
def data(loaded: LoadedNetwork, tmp_path_factory: pytest.TempPathFactory) -> ImageData:
    root = EXTRACTED
    if not (root / "val").is_dir():
        folder = tmp_path_factory.mktemp("images")
        with tarfile.open(ARCHIVE) as archive:
            wanted = (member for member in archive if member.name.startswith("cifar10-jpeg/val/"))
            archive.extractall(folder, wanted, filter="data")
        root = folder / "cifar10-jpeg"
    return open_dataset(str(root), "val", loaded.preprocessing)


@pytest.fixture(scope="module")
def original(loaded: LoadedNetwork, data: ImageData) -> Accuracy:
    return measure_accuracy(loaded.model, data, limit=500)


def test_the_original_is_as_good_as_published(original: Accuracy) -> None:
    assert original.images == 500
    assert 0.75 < original.top1 < 0.88


@pytest.mark.parametrize("block", ["cbam", "channel", "eca", "se", "spatial"])
def test_every_logit_stays(loaded: LoadedNetwork, data: ImageData, original: Accuracy, block: str) -> None:
    operated = insert(loaded.model, block, after="layer*.*.bn2", example=loaded.example)
    found = measure_accuracy(operated, data, limit=500)
    assert (found.correct, found.correct5, found.loss) == (original.correct, original.correct5, original.loss)
    assert found.logits_sha256 == original.logits_sha256


@pytest.fixture(scope="module")
def few(loaded: LoadedNetwork, data: ImageData) -> Accuracy:
    return measure_accuracy(loaded.model, data, limit=FEW)


@pytest.mark.parametrize("block", [name for name in block_names() if not get_card(name).selective])
def test_every_block_after_every_stage(loaded: LoadedNetwork, data: ImageData, few: Accuracy, block: str) -> None:
    operated = insert(loaded.model, block, after="layer*", example=loaded.example)
    assert measure_accuracy(operated, data, limit=FEW).logits_sha256 == few.logits_sha256
