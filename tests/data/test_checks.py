"""What is found before training: leaks, class sizes, images that are too small or cannot be read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from attn_surgeon.data import ImageData, Pictures, as_known, checks, open_dataset
from attn_surgeon.data.checks import look_at, report, without_unreadable
from attn_surgeon.errors import DataError
from attn_surgeon.networks.preprocessing import Preprocessing

from .helpers import PLAIN, contents, picture, png, write, write_tar

LARGER = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, size=(3, 3))


def reported(root: Path, preprocessing: Preprocessing = PLAIN, leaks: str = "warn") -> checks.Report:
    train, val = (open_dataset(str(root), split, preprocessing) for split in ("train", "val"))
    first, second = (looked(data) for data in (train, val))
    return report(first, second, train.class_names, preprocessing.size, leaks)


def looked(data: ImageData) -> checks.Part:
    """Look at all images."""
    assert isinstance(data.dataset, Pictures)
    return look_at(data.dataset, range(len(data.dataset)), whole=True, max_bad=0.5)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Write two classes, of two and one images to train on and of one each to measure on."""
    for value, name in enumerate(("train/ant/0", "train/ant/1", "train/bee/0", "val/ant/0", "val/bee/0")):
        write(tmp_path / f"{name}.png", value)
    return tmp_path


def test_what_is_sound_is_counted_and_nothing_said_but_sizes(root: Path) -> None:
    found = reported(root)
    sound = {"empty_classes": [], "unreadable": 0, "too_small": {"count": 0, "first": []}}
    assert found.facts == {
        "classes": 2,
        "train": {"images": 3, "fewest_of_a_class": 1, "most_of_a_class": 2, **sound},
        "val": {"images": 2, "fewest_of_a_class": 1, "most_of_a_class": 1, **sound},
        "duplicates": {"count": 0, "first": []},
    }
    assert found.notes == ("classes have 1 to 2 images to train on",)


@pytest.mark.parametrize("big", [checks.BIG, 1])
def test_leaks_are_found_by_their_bytes(root: Path, big: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "BIG", big)  # with threads too
    shutil.copy(root / "train" / "ant" / "1.png", root / "val" / "bee" / "again.png")
    found = reported(root)
    assert found.facts["duplicates"] == {"count": 1, "first": [str(root / "val" / "bee" / "again.png")]}
    assert found.notes[-1].startswith("trained on and measured on, byte for byte: 1 image, ")
    with pytest.raises(DataError, match=r"byte for byte: 1; .*again\.png; .*--leaks warn"):
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
        "classes have 0 to 3 images to train on",
        "classes have 0 to 1 images to measure on",
        "classes without an image to train on: cow",
        "classes without an image to measure on: ant, cow",
        f"smaller than 3×3, so enlarged: 4 images, {root}/train/ant/0.png, {root}/train/ant/1.png, "
        f"{root}/train/bee/0.png, {root}/val/bee/0.png",
    )


@pytest.mark.parametrize("damage", [lambda data: b"", lambda data: b"no image", lambda data: data[:40]])
def test_what_cannot_be_read_is_left_out_up_to_a_share(root: Path, damage: Callable[[bytes], bytes]) -> None:
    path = root / "train" / "ant" / "1.png"
    path.write_bytes(damage(path.read_bytes()))
    data = open_dataset(str(root), "train", PLAIN)
    left, notes = without_unreadable(data, 0.4)
    assert contents(left) == [(0, 0), (2, 1)]
    assert notes == (f"unreadable, so left out: 1 image, {path}",)
    with pytest.raises(DataError, match=r"1 of 3 images cannot be read, more than --max-bad 0\.3 allows; .*1\.png"):
        without_unreadable(data, 0.3)
    assert without_unreadable(data, 0) == (data, ())


def test_the_reason_is_the_same_each_time(root: Path) -> None:
    (root / "train" / "ant" / "1.png").write_bytes(b"no image")
    first, again = (str(reported(root).unreadable[0]) for _ in range(2))
    assert first == again
    assert first.endswith("1.png; repair or remove it (no image format that is known)")


def test_classes_are_numbered_as_a_network_knows_them(root: Path) -> None:
    data = open_dataset(str(root), "train", PLAIN)
    assert contents(as_known(data, ("bee", "cow", "ant"))) == [(0, 2), (1, 2), (2, 0)]
    for unknown in (None, ("bee", "cow")):
        assert as_known(data, unknown) is data
    assert isinstance(data, ImageData)
