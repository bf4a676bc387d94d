"""What is found before training: leaks, class sizes, images that are too small or cannot be read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from attn_surgeon.data import checks
from attn_surgeon.data.checks import enlargement_notes, inspect_images, report_on, without_unreadable
from attn_surgeon.data.folders import Files
from attn_surgeon.data.images import ImageData, Pictures, relabelled
from attn_surgeon.data.opening import open_dataset
from attn_surgeon.errors import DataError, for_command_line, for_python
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.tasks.classification import match_classes

from .helpers import PLAIN, contents, picture, png, write, write_tar

LARGER = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, size=(3, 3))


def reported(root: Path, preprocessing: Preprocessing = PLAIN, leaks: str = "warn") -> checks.DataReport:
    train, val = (open_dataset(str(root), split, preprocessing) for split in ("train", "val"))
    first, second = (looked(data) for data in (train, val))
    return report_on(first, second, train.class_names, preprocessing.size, leaks)


def looked(data: ImageData) -> checks.InspectedImages:
    """Look at all images."""
    assert isinstance(data.dataset, Pictures)
    return inspect_images(data.dataset, range(len(data.dataset)), decode=True, max_bad=0.5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write two classes, of two and one images to train on and of one each to measure on."""
    for value, name in enumerate(("train/ant/0", "train/ant/1", "train/bee/0", "val/ant/0", "val/bee/0")):
        write(tmp_path / f"{name}.png", value)
    return tmp_path


def test_sound_images_are_counted_and_only_sizes_reported(root: Path) -> None:
    found = reported(root)
    sound = {"empty_classes": [], "unreadable": 0, "too_small": {"count": 0, "first": []}}
    assert found.facts == {
        "classes": 2,
        "train": {"images": 3, "fewest_of_a_class": 1, "most_of_a_class": 2, **sound},
        "val": {"images": 2, "fewest_of_a_class": 1, "most_of_a_class": 1, **sound},
        "duplicates": {"count": 0, "first": []},
    }
    assert found.notes == ("classes have 1 to 2 training images",)


@pytest.mark.parametrize("big", [checks.BIG, 1])
def test_leaks_are_found_by_their_bytes(root: Path, big: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "BIG", big)  # with threads too
    shutil.copy(root / "train" / "ant" / "1.png", root / "val" / "bee" / "again.png")
    found = reported(root)
    assert found.facts["duplicates"] == {"count": 1, "first": [str(root / "val" / "bee" / "again.png")]}
    assert found.notes[-1].startswith("validation images that are byte for byte among the training images: 1 (")
    with pytest.raises(DataError, match=r"byte for byte among the training images: 1; .*again\.png; .*leaks=warn"):
        reported(root, leaks="refuse")


def test_leaks_are_found_in_shards(root: Path) -> None:
    write_tar(root / "a.tar", {"0.png": png(0), "0.cls": b"0", "1.png": png(9), "1.cls": b"0"})
    shard = open_dataset(f"wds/{root}/a.tar", "train", PLAIN)
    files = open_dataset(str(root), "train", PLAIN)
    assert checks.duplicates(looked(files), looked(shard)) == [f"{root}/a.tar/0.png"]


def test_classes_without_images_and_small_images_are_named(root: Path) -> None:
    (root / "train" / "cow").mkdir()
    picture(7, side=3).save(root / "train" / "ant" / "3.png")
    (root / "val" / "ant" / "0.png").unlink()
    (root / "val" / "cow").mkdir()
    found = reported(root, LARGER)
    assert found.facts["train"]["empty_classes"] == ["cow"]
    assert found.facts["val"]["empty_classes"] == ["ant", "cow"]
    assert found.facts["train"]["too_small"]["count"] == 3
    assert found.notes == (
        "classes have 0 to 3 training images",
        "classes have 0 to 1 validation images",
        "classes without training images: cow",
        "classes without validation images: ant, cow",
        f"images smaller than 3×3, enlarged: 4 ({root}/train/ant/0.png, {root}/train/ant/1.png, "
        f"{root}/train/bee/0.png, {root}/val/bee/0.png)",
    )


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"no image", lambda data: data[:40]])
def test_what_cannot_be_read_is_left_out_up_to_a_share(root: Path, damage: Callable[[bytes], bytes]) -> None:
    path = root / "train" / "ant" / "1.png"
    path.write_bytes(damage(path.read_bytes()))
    data = open_dataset(str(root), "train", PLAIN)
    left, notes = without_unreadable(data, 0.4)
    assert contents(left) == [(0, 0), (2, 1)]
    assert notes == (f"unreadable images, left out: 1 ({path})",)
    with pytest.raises(DataError, match=r"1 of 3 images are unreadable, more than max_bad=0\.3 allows; .*1\.png"):
        without_unreadable(data, 0.3)
    assert without_unreadable(data, 0) == (data, ())


def test_the_reason_is_the_same_each_time(root: Path) -> None:
    (root / "train" / "ant" / "1.png").write_bytes(b"no image")
    first, again = (str(reported(root).unreadable[0]) for _ in range(2))
    assert first == again
    assert first.endswith("1.png; repair or remove it (unknown image format)")


def test_classes_are_numbered_as_in_the_network(root: Path) -> None:
    data = open_dataset(str(root), "train", PLAIN)
    assert contents(relabelled(data, ("bee", "cow", "ant"))) == [(0, 2), (1, 2), (2, 0)]
    assert contents(match_classes(data, ("bee", "cow", "ant"), 3)) == [(0, 2), (1, 2), (2, 0)]
    assert match_classes(data, None, 2) is data


def test_classes_that_a_network_does_not_know_are_matched_by_index_only_where_asked_for(root: Path) -> None:
    data = open_dataset(str(root), "train", PLAIN)
    other = match_classes(data, ("bee", "cow"), 2)
    assert contents(other) == contents(data)
    assert other.notes == ("the data's class names are not the network's: matched by index",)
    for names in (None, ("bee", "cow", "dog")):
        with pytest.raises(DataError, match=r"has 3 outputs, the data 2 classes, .*; data; .*classes_by_index=True"):
            match_classes(data, names, 3)
    with pytest.raises(DataError, match="has 1 outputs, the data 2 classes"):
        match_classes(data, None, 1, by_index=True)
    chosen = match_classes(data, None, 3, by_index=True)
    assert contents(chosen) == contents(data)
    assert chosen.notes == ("the network has 3 outputs, the data 2 classes: matched by index to the first 2",)


def test_images_much_smaller_than_the_input_are_noted() -> None:
    (note,) = enlargement_notes([(32, 32), (30, 32), (33, 33)], (224, 224), "evaluate")
    assert for_python(note).startswith("the images are 32×32 and are enlarged to the network's input size 224×224")
    assert for_command_line(note).endswith("evaluate with --size 32")
    assert enlargement_notes([(32, 32), (500, 375), (640, 480)], (224, 224), "evaluate") == ()
    assert enlargement_notes([(150, 300)], (224, 224), "evaluate") == ()
    assert enlargement_notes([], (224, 224), "evaluate") == ()


@pytest.mark.parametrize("decode", [False, True])
def test_a_png_without_pixels_is_unreadable(tmp_path: Path, decode: bool) -> None:
    whole = png(0)
    start = whole.index(b"IDAT") - 4
    (tmp_path / "a.png").write_bytes(whole[:start] + whole[whole.index(b"IEND") - 4 :])
    error = checks.inspect_file(Files([tmp_path / "a.png"], [0]), 0, decode=decode).error
    assert str(error).startswith(f"cannot read this image; {tmp_path / 'a.png'}; repair or remove it")
