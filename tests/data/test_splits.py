"""Which images, in which order, how augmented: a function of seed, epoch and image."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from attn_surgeon.data.sampling import EpochImages, EpochSampler, shuffled
from attn_surgeon.data.splits import open_labelled_splits, with_substitutes
from attn_surgeon.data.subsets import labels_of, stratified
from attn_surgeon.data.unreadable_images import listed
from attn_surgeon.errors import DataError, for_python
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks.demo import DEMO_PREPROCESSING
from attn_surgeon.networks.preprocessing import Preprocessing

from ..finetune.helpers import equal

RGB = Preprocessing((0.5,) * 3, (0.5,) * 3, (32, 32))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", 6), ("val", 3)):
        for name in ("cat", "dog"):
            folder = tmp_path / part / name
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = torch.randint(256, (32, 32, 3), generator=generator, dtype=torch.uint8).numpy()
                Image.fromarray(pixels).save(folder / f"{index}.png")
    return tmp_path


def cut(path: Path) -> None:
    """Leave the head and some of the pixels of a file."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])


def save_jpegs(folder: Path) -> None:
    """Put JPEGs in the place of images."""
    for path in sorted(folder.iterdir()):
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()


def drawn(folder: Path, seed: int, epoch: int) -> list[Tensor]:
    parts = open_labelled_splits(str(folder), RGB, FinetuneSettings(seed=seed))
    data = EpochImages(parts, seed)
    return [data[(epoch, index)][0] for index in range(len(data))]


def test_an_order_is_a_permutation_that_seed_and_epoch_decide() -> None:
    assert sorted(shuffled(50, 0, 0)) == list(range(50))
    assert shuffled(50, 0, 0) == shuffled(50, 0, 0)
    assert len({tuple(shuffled(50, seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


def test_resuming_within_an_epoch_yields_the_rest_of_it() -> None:
    whole, rest = EpochSampler(20, 3), EpochSampler(20, 3)
    whole.epoch = rest.epoch = 2
    rest.start = 12
    assert list(rest) == list(whole)[12:]
    assert len(rest) == 8


def test_augmentation_is_decided_by_seed_epoch_and_image(images: Path) -> None:
    first = drawn(images, 0, 1)
    torch.manual_seed(5)
    assert all(map(torch.equal, first, drawn(images, 0, 1)))
    assert not all(map(torch.equal, first, drawn(images, 0, 2)))
    assert not all(map(torch.equal, first, drawn(images, 1, 1)))


def test_augmented_images_are_shifted_or_mirrored_parts_of_the_original(images: Path) -> None:
    original = open_labelled_splits(str(images), RGB, FinetuneSettings(augment=False)).train.dataset
    for index, image in enumerate(drawn(images, 0, 0)):
        plain = original[index][0]
        padded = torch.nn.functional.pad(plain, (4, 4, 4, 4))
        places = [padded[:, y : y + 32, x : x + 32] for y in range(9) for x in range(9)]
        assert any(torch.equal(image, place) or torch.equal(image, place.flip(-1)) for place in places)


def test_what_is_measured_on_is_never_augmented(images: Path) -> None:
    one, two = (
        open_labelled_splits(str(images), RGB, FinetuneSettings(augment=augment)).val.dataset
        for augment in (True, False)
    )
    assert all(torch.equal(one[index][0], two[index][0]) for index in range(6))


def test_the_demos_are_not_augmented() -> None:
    assert not open_labelled_splits("demo", DEMO_PREPROCESSING, FinetuneSettings()).augment


def test_a_split_takes_its_share_of_each_class() -> None:
    labels = [0] * 10 + [1] * 30 + [2] * 2
    held = stratified(labels, 0.2, seed=0)
    assert Counter(labels[index] for index in held) == {0: 2, 1: 6, 2: 1}
    assert held == stratified(labels, 0.2, seed=0) != stratified(labels, 0.2, seed=1)


def test_a_folder_without_parts_is_split(images: Path) -> None:
    folder = images / "train"
    parts = open_labelled_splits(str(folder), RGB, FinetuneSettings())
    note = "the data has no validation split: 10% of it is held out (val_split, val_data)"
    assert for_python(parts.report.notes[0]) == note
    assert Counter(labels_of(parts.val.dataset)) == {0: 1, 1: 1}
    assert Counter(labels_of(parts.train.dataset)) == {0: 5, 1: 5}
    parts = open_labelled_splits(str(folder), RGB, FinetuneSettings(val_split=0.5))
    assert not any("held out" in note for note in parts.report.notes)
    assert Counter(labels_of(parts.train.dataset)) == Counter(labels_of(parts.val.dataset)) == {0: 3, 1: 3}
    train = [parts.train.dataset[index][0] for index in range(6)]
    assert not any(torch.equal(parts.val.dataset[index][0], image) for index in range(6) for image in train)


def test_a_class_that_is_not_trained_on_is_refused(images: Path) -> None:
    (images / "val" / "dog").rename(images / "val" / "fox")
    with pytest.raises(DataError, match="no training images of class fox"):
        open_labelled_splits(str(images), RGB, FinetuneSettings())
    (images / "train" / "fox").mkdir()
    with pytest.raises(DataError, match="no training image of class fox"):
        open_labelled_splits(str(images), RGB, FinetuneSettings())


def test_a_class_that_is_not_measured_leaves_the_others_their_numbers(images: Path) -> None:
    shutil.rmtree(images / "val" / "cat")
    parts = open_labelled_splits(str(images), RGB, FinetuneSettings())
    assert parts.val.class_names == ("cat", "dog")
    assert labels_of(parts.val.dataset) == [parts.val.dataset[index][1] for index in range(3)] == [1, 1, 1]
    assert parts.report.notes == (
        "classes have 0 to 3 validation images",
        "classes without validation images: cat",
    )


def test_other_data_may_be_measured_on(images: Path) -> None:
    parts = open_labelled_splits(str(images / "train"), RGB, FinetuneSettings(val_data=str(images / "val")))
    own = open_labelled_splits(str(images), RGB, FinetuneSettings())
    assert len(parts.val.dataset) == 6  # type: ignore[arg-type]
    assert all(torch.equal(parts.val.dataset[index][0], own.val.dataset[index][0]) for index in range(6))
    with pytest.raises(DataError, match="val_split and val_data"):
        open_labelled_splits(str(images), RGB, FinetuneSettings(val_data=str(images), val_split=0.5))


def test_what_cannot_be_read_is_left_out_and_listed(images: Path, tmp_path: Path) -> None:
    save_jpegs(images / "val" / "dog")
    whole = open_labelled_splits(str(images), RGB, FinetuneSettings())
    (images / "train" / "cat" / "2.png").write_bytes(b"no image")
    cut(images / "val" / "dog" / "1.jpg")
    with pytest.raises(DataError, match=r"1 of 12 images are unreadable, more than max_bad=0\.01 allows; .*2\.png"):
        open_labelled_splits(str(images), RGB, FinetuneSettings())
    parts = with_substitutes(open_labelled_splits(str(images), RGB, FinetuneSettings(max_bad=0.2)), tmp_path, 0.2)
    for found, before, gone in ((parts.train, whole.train, 2), (parts.val, whole.val, 4)):
        images_left = [found.dataset[index][0] for index in range(len(labels_of(found.dataset)))]
        expected = [before.dataset[index][0] for index in range(len(labels_of(before.dataset))) if index != gone]
        assert equal(images_left, expected)
    assert [line.partition(": ")[0] for line in sorted(listed(tmp_path))] == [
        str(images / "train" / "cat" / "2.png"),
        str(images / "val" / "dog" / "1.jpg"),
    ]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_only_fails_when_decoded_is_replaced_by_the_next_of_its_class(
    images: Path, tmp_path: Path, workers: int
) -> None:
    whole = open_labelled_splits(str(images), RGB, FinetuneSettings()).train.dataset
    save_jpegs(images / "train" / "dog")
    for name in ("1.jpg", "2.jpg"):
        cut(images / "train" / "dog" / name)
    settings = FinetuneSettings(max_bad=0.2, augment=False, workers=workers)
    parts = with_substitutes(open_labelled_splits(str(images), RGB, settings), tmp_path, 0.2)
    assert parts.report.unreadable == ()
    loader = DataLoader(EpochImages(parts, 0), sampler=[(0, i) for i in range(12)], num_workers=workers)
    found = [image[0] for image, _ in loader]
    assert equal(found[:6], [whole[index][0] for index in range(6)])
    assert torch.equal(found[7], found[9])
    assert torch.equal(found[8], found[9])
    assert not torch.equal(found[9], found[10])
    assert sorted(line.partition(": ")[0][-5:] for line in listed(tmp_path)) == ["1.jpg", "2.jpg"]


def test_more_than_allowed_that_fail_when_decoded_stop_the_run(images: Path, tmp_path: Path) -> None:
    save_jpegs(images / "train" / "dog")
    for name in ("1.jpg", "4.jpg"):
        cut(images / "train" / "dog" / name)
    data = with_substitutes(
        open_labelled_splits(str(images), RGB, FinetuneSettings(max_bad=0.1)), tmp_path, 0.1
    ).train.dataset
    data[7]
    for _ in range(2):
        with pytest.raises(DataError, match="2 images are unreadable, more than max_bad allows"):
            data[10]


def test_a_limit_is_even_over_classes() -> None:
    labels = labels_of(open_labelled_splits("demo", DEMO_PREPROCESSING, FinetuneSettings(limit=30)).train.dataset)
    assert set(Counter(labels).values()) == {3}
