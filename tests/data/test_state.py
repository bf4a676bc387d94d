"""The state of a dataset's files, and what has changed between two."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from attn_surgeon.data.settings import DataSettings
from attn_surgeon.data.shards import expanded
from attn_surgeon.data.state import DataState, read_data_state, require_same_data
from attn_surgeon.errors import DataError

SETTINGS = DataSettings()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            for number in range(3):
                (folder / f"{number}.png").write_bytes(bytes([number]) * 9000)
    return tmp_path / "data"


def changed(root: Path, before: DataState) -> str:
    with pytest.raises(DataError) as caught:
        require_same_data(before, read_data_state(str(root), SETTINGS), str(root))
    return caught.value.what.removeprefix("the data has changed since the run began: ")


def test_what_has_changed_is_named(root: Path) -> None:
    before = read_data_state(str(root), SETTINGS)
    assert {folder: count for folder, (count, _) in before.items()} == {
        f"{split}/{name}": 3 for split in ("train", "val") for name in ("cat", "dog")
    }
    (root / "train/cat/9.png").write_bytes(b"new")
    assert changed(root, before) == "train/cat has 4 files, not 3"
    (root / "train/cat/9.png").unlink()
    require_same_data(before, read_data_state(str(root), SETTINGS), str(root))
    for end in (0, 8999):
        content = bytearray(9000)
        content[end] = 1
        (root / "val/dog/0.png").write_bytes(bytes(content))
        assert changed(root, before) == "val/dog has other files"
    (root / "val/dog/0.png").write_bytes(bytes(9000))
    require_same_data(before, read_data_state(str(root), SETTINGS), str(root))
    (root / "val/dog/0.png").rename(root / "val/dog/7.png")
    assert changed(root, before) == "val/dog has other files"
    (root / "val/dog").rename(root / "val/wolf")
    assert changed(root, before) == "val/dog is missing, val/wolf is new"


def test_neither_dates_nor_hidden_files_nor_the_place_count(root: Path) -> None:
    before = read_data_state(str(root), SETTINGS)
    os.utime(root / "train/cat/0.png", (0, 0))
    (root / "train/cat/.thumbnail").touch()
    (root / ".cache").mkdir()
    (root / ".cache/x").touch()
    moved = root.rename(root.parent / "moved")
    require_same_data(before, read_data_state(str(moved), SETTINGS), str(moved))


def test_links_and_special_files_are_no_trap(root: Path) -> None:
    (root / "train/cat/up").symlink_to(root)
    (root / "train/cat/broken.png").symlink_to("nowhere")
    (root / "elsewhere").mkdir()
    (root / "elsewhere/0.png").touch()
    (root / "linked").symlink_to(root / "elsewhere", target_is_directory=True)
    if hasattr(os, "mkfifo"):
        os.mkfifo(root / "train/cat/pipe.png")
    assert {"elsewhere", "linked"} & read_data_state(str(root), SETTINGS).keys()


def test_data_that_is_no_files_has_no_state(tmp_path: Path) -> None:
    for spec in ("demo", "torch/cifar10", str(tmp_path / "nowhere"), "x" * 5000):
        assert read_data_state(spec, SETTINGS) == {}


def test_shards_and_other_validation_data(root: Path, tmp_path: Path) -> None:
    (tmp_path / "a-0.tar").write_bytes(b"tar")
    spec, settings = f"wds/{tmp_path}/a-{{0..1}}.tar", DataSettings(val_data=str(root / "val"))
    before = read_data_state(spec, settings)
    assert list(before) == [spec, "val_data:cat", "val_data:dog"]
    (tmp_path / "a-1.tar").touch()
    with pytest.raises(DataError, match="has 2 files, not 1"):
        require_same_data(before, read_data_state(spec, settings), spec)


@pytest.mark.parametrize(
    "pattern",
    ["a-{0..999999999}.tar", "{0..999}" * 9, "{,,}" * 99, f"a-{{{'9' * 5000}..1}}", f"{{1..{'9' * 5000}}}"],
)
def test_patterns_of_shards_without_end_are_refused(pattern: str) -> None:
    since = time.process_time()
    with pytest.raises(DataError, match="more than 100,000 shards") as caught:
        expanded(pattern)
    assert len(str(caught.value)) < 300
    assert time.process_time() - since < 1
