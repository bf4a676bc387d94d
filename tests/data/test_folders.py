"""Folders of images as data: layouts, order, and errors that say what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, UnidentifiedImageError

from attn_surgeon.data.images import read_image
from attn_surgeon.data.opening import open_dataset
from attn_surgeon.errors import DataError, ImageError
from attn_surgeon.networks.demo import CLASS_NAMES, DEMO_PREPROCESSING
from attn_surgeon.networks.preprocessing import Preprocessing

from .helpers import PLAIN, contents, write


def test_class_folders_are_read_in_alphabetical_order(tmp_path: Path) -> None:
    write(tmp_path / "zebra" / "a.png", 10)
    write(tmp_path / "ant" / "b.PNG", 30)
    write(tmp_path / "ant" / "a.bmp", 20)
    write(tmp_path / "ant" / "deep" / "c.png", 40)
    data = open_dataset(str(tmp_path), "val", PLAIN)
    assert data.class_names == ("ant", "zebra")
    assert contents(data) == [(20, 0), (30, 0), (40, 0), (10, 1)]


def test_other_and_hidden_files_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "ant" / "a.png", 20)
    write(tmp_path / "ant" / ".b.png", 30)
    write(tmp_path / "ant" / ".small" / "a.png", 40)
    write(tmp_path / ".cache" / "a.png", 50)
    (tmp_path / "ant" / "notes.txt").write_text("none of these")
    data = open_dataset(str(tmp_path), "val", PLAIN)
    assert data.class_names == ("ant",)
    assert contents(data) == [(20, 0)]


def test_the_split_chooses_its_folder(tmp_path: Path) -> None:
    write(tmp_path / "train" / "ant" / "a.png", 1)
    write(tmp_path / "val" / "ant" / "a.png", 2)
    assert contents(open_dataset(str(tmp_path), "train", PLAIN)) == [(1, 0)]
    assert contents(open_dataset(str(tmp_path), "val", PLAIN)) == [(2, 0)]


def test_a_missing_split_names_the_others(tmp_path: Path) -> None:
    write(tmp_path / "train" / "ant" / "a.png", 1)
    write(tmp_path / "test" / "ant" / "a.png", 2)
    with pytest.raises(DataError, match=r"no split 'val'; .*; splits here: test, train"):
        open_dataset(str(tmp_path), "val", PLAIN)


def test_a_class_may_be_called_train(tmp_path: Path) -> None:
    write(tmp_path / "train" / "a.png", 1)
    write(tmp_path / "bus" / "a.png", 2)
    data = open_dataset(str(tmp_path), "val", PLAIN)
    assert data.class_names == ("bus", "train")
    assert contents(data) == [(2, 0), (1, 1)]


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no such folder; .*nowhere; .*masks/, .*COCO.*YOLO.*demo-boxes"):
        open_dataset(str(tmp_path / "nowhere"), "val", PLAIN)


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 1)
    with pytest.raises(DataError, match=r"not a folder; .*a\.png"):
        open_dataset(str(tmp_path / "a.png"), "val", PLAIN)


def test_images_without_class_folders(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 1)
    with pytest.raises(DataError, match="no class folders"):
        open_dataset(str(tmp_path), "val", PLAIN)


def test_no_images_at_all(tmp_path: Path) -> None:
    (tmp_path / "ant").mkdir()
    with pytest.raises(DataError, match=r"no images; .*; supported: \.bmp"):
        open_dataset(str(tmp_path), "val", PLAIN)


def test_a_class_without_images_keeps_its_number(tmp_path: Path) -> None:
    write(tmp_path / "ant" / "a.png", 1)
    (tmp_path / "bee").mkdir()
    write(tmp_path / "cat" / "a.png", 3)
    data = open_dataset(str(tmp_path), "val", PLAIN)
    assert data.class_names == ("ant", "bee", "cat")
    assert contents(data) == [(1, 0), (3, 2)]


@pytest.mark.parametrize("damage", ["text", "cut", "empty"])
def test_an_unreadable_image_is_named(tmp_path: Path, damage: str) -> None:
    write(tmp_path / "ant" / "a.png", 1)
    path = tmp_path / "ant" / "a.png"
    whole = path.read_bytes()
    path.write_bytes({"text": b"no image", "cut": whole[: len(whole) // 2], "empty": b""}[damage])
    dataset: Any = open_dataset(str(tmp_path), "val", PLAIN).dataset
    with pytest.raises(DataError, match=r"cannot read this image; .*a\.png; repair or remove it") as caught:
        dataset[0]
    assert "\n" not in str(caught.value)


def test_the_demo_tasks_need_no_folder() -> None:
    data = open_dataset("demo", "val", DEMO_PREPROCESSING)
    assert data.class_names == CLASS_NAMES
    dataset: Any = data.dataset
    assert len(dataset) == 539
    assert dataset[0][0].shape == (1, 32, 32)


def test_the_demo_tasks_suit_colour_networks_too() -> None:
    settings = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, size=(40, 40))
    dataset: Any = open_dataset("demo-clutter", "val", settings).dataset
    image = dataset[0][0]
    assert image.shape == (3, 40, 40)
    assert torch.equal(image[0], image[2])


def test_an_unknown_format_is_named_though_image_open_looks_for_a_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ultralytics replaces `Image.open` by a function that does."""
    plain = Image.open

    def with_plugins(file: Any) -> Image.Image:
        try:
            return plain(file)
        except UnidentifiedImageError:
            import no_such_plugin  # type: ignore[import-not-found]  # noqa: F401

            raise

    monkeypatch.setattr(Image, "open", with_plugins)
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageError, match="unknown image format"):
        read_image(tmp_path / "a.png")
