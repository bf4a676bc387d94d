"""Shards: patterns and folders of tar files, read image by image."""

from __future__ import annotations

import json
import pickle
import tarfile
from pathlib import Path

import pytest

from attn_surgeon.data.opening import has_splits, open_dataset
from attn_surgeon.data.settings import DataSettings
from attn_surgeon.data.shards import expanded
from attn_surgeon.errors import DataError

from .helpers import PLAIN, contents, png, write_tar


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Write two shards of two images each, and one whose labels are in JSON."""
    write_tar(tmp_path / "a-00.tar", {"0.png": png(10), "0.cls": b"1\n", "1.cls": b"0", "1.png": png(20)})
    write_tar(
        tmp_path / "a-01.tar", {"x/2.png": png(30), "x/2.json": b'{"label": 0}', "x/2.cls": b"3", "3.png": png(40)}
    )
    write_tar(tmp_path / "b-00.tar", {"0.jpg": png(50), "0.json": b'{"label": 2}', "0.seg.png": png(60)})
    return tmp_path


def test_braces_are_written_out_as_by_a_shell() -> None:
    assert expanded("f-{008..011}.tar") == ["f-008.tar", "f-009.tar", "f-010.tar", "f-011.tar"]
    assert expanded("{a,b}/{0..1}") == ["a/0", "a/1", "b/0", "b/1"]
    assert expanded("plain.tar") == ["plain.tar"]


def test_a_pattern_returns_the_labelled_images_in_order(shards: Path) -> None:
    data = open_dataset(f"wds/{shards}/a-{{00..01}}.tar", "train", PLAIN)
    assert data.class_names == ("0", "1", "2", "3")
    assert contents(data) == [(10, 1), (20, 0), (30, 3)]
    assert contents(pickle.loads(pickle.dumps(data))) == contents(data)
    assert not has_splits(f"wds/{shards}/a-{{00..01}}.tar")


def test_shards_lie_in_the_folder_that_is_given(shards: Path) -> None:
    assert contents(open_dataset("wds/b-00.tar|1", "train", PLAIN, DataSettings(data_dir=str(shards)))) == [(50, 2)]


def test_labels_may_be_words(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", {"0.png": png(1), "0.cls": b"dog", "1.png": png(2), "1.cls": b"cat"})
    data = open_dataset(f"wds/{tmp_path}/a.tar", "train", PLAIN)
    assert data.class_names == ("cat", "dog")
    assert contents(data) == [(1, 1), (2, 0)]


def test_returns_the_shards_of_each_split_in_a_folder(shards: Path) -> None:
    splits = {
        "train": {"filenames": ["a-00.tar", "a-01.tar"]},
        "validation": {"filenames": ["b-00.tar"], "alt_label": "label"},
    }
    (shards / "_info.json").write_text(json.dumps({"splits": splits}))
    assert has_splits(f"wds/{shards}")
    assert contents(open_dataset(f"wds/{shards}", "train", PLAIN)) == [(10, 1), (20, 0), (30, 3)]
    assert contents(open_dataset(f"wds/{shards}", "val", PLAIN)) == [(50, 2)]
    with pytest.raises(DataError, match=r"no split 'test'; .*; splits here: train, validation"):
        open_dataset(f"wds/{shards}", "test", PLAIN)


def test_wrong_shards_are_reported_in_one_line(shards: Path) -> None:
    with tarfile.open(shards / "c.tar", "w:gz"):
        pass
    write_tar(shards / "d.tar", {"0.png": png(1)})
    (shards / "e").mkdir()
    (shards / "e" / "_info.json").write_text("[]")
    (shards / "f").mkdir()
    for name, words in {
        "a-{00..03}.tar": r"no such shard: .*a-02\.tar, .*a-03\.tar",
        "c.tar": r"the shard is unreadable .*c\.tar; it must be a plain tar",
        "d.tar": r"no images with labels; .*1\.cls",
        "e": r"invalid description .*_info\.json",
        "f": r"the folder has no _info\.json",
    }.items():
        with pytest.raises(DataError, match=words):
            open_dataset(f"wds/{shards}/{name}", "train", PLAIN)


@pytest.mark.parametrize("settings", [DataSettings(), DataSettings(data_dir="here"), DataSettings(download=True)])
def test_nothing_is_fetched_unasked(settings: DataSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.download_url_to_file", lambda *_, **__: pytest.fail("fetched"))
    with pytest.raises(DataError, match=r"not on this machine; .*download=True with data_dir=DIR"):
        open_dataset("wds/https://example.org/a-{0..1}.tar", "train", PLAIN, settings)


def test_shards_elsewhere_are_fetched_once(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []

    def fetch(url: str, path: str, progress: bool) -> None:
        fetched.append(url)
        Path(path).write_bytes((shards / "b-00.tar").read_bytes())

    monkeypatch.setattr("torch.hub.download_url_to_file", fetch)
    settings = DataSettings(data_dir=str(shards / "new"), download=True)
    for _ in range(2):
        assert contents(open_dataset("wds/https://example.org/z.tar", "train", PLAIN, settings)) == [(50, 2)]
    assert fetched == ["https://example.org/z.tar"]
