"""Datasets by timm's names, made here in the form in which their libraries keep them."""

from __future__ import annotations

import hashlib
import pickle
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from attn_surgeon.data.opening import has_splits, open_dataset
from attn_surgeon.data.settings import DataSettings
from attn_surgeon.errors import DataError
from attn_surgeon.networks.preprocessing import Preprocessing

from .helpers import PLAIN, contents, png, write

SMALL = Preprocessing(mean=(0.0,) * 3, std=(1.0,) * 3, size=(32, 32))


def write_cifar10(root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, np.ndarray]:
    """Write three training and two test images as CIFAR-10 comes."""
    from torchvision.datasets import CIFAR10

    folder = root / CIFAR10.base_folder
    folder.mkdir()
    pixels, lists = {}, {}
    for part, name, count in (("train", "data_batch_1", 3), ("val", "test_batch", 2)):
        pixels[part] = np.random.default_rng(count).integers(256, size=(count, 3072), dtype=np.uint8)
        (folder / name).write_bytes(pickle.dumps({"data": pixels[part], "labels": [9 - n for n in range(count)]}))
        lists[part] = [[name, _md5(folder / name)]]
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [f"class {n}" for n in range(10)]}))
    monkeypatch.setattr(CIFAR10, "train_list", lists["train"])
    monkeypatch.setattr(CIFAR10, "test_list", lists["val"])
    meta = {**CIFAR10.meta, "md5": _md5(folder / "batches.meta")}
    monkeypatch.setattr(CIFAR10, "meta", meta)
    return pixels


def _md5(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def test_torchvisions_datasets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = write_cifar10(tmp_path, monkeypatch)
    settings = DataSettings(data_dir=str(tmp_path))
    assert has_splits("torch/cifar10", settings)
    for part in ("train", "val"):
        data = open_dataset("torch/cifar10", part, SMALL, settings)
        assert data.class_names[9] == "class 9"
        for index, row in enumerate(pixels[part]):
            image, label = data.dataset[index]
            assert torch.equal((image * 255).round(), torch.from_numpy(row.reshape(3, 32, 32)).float())
            assert label == 9 - index


def test_torchvisions_folders_are_read_as_files(tmp_path: Path) -> None:
    write(tmp_path / "train" / "ant" / "a.png", 10)
    write(tmp_path / "train" / "bee" / "a.png", 20)
    data = open_dataset("torch/image_folder", "train", PLAIN, DataSettings(data_dir=str(tmp_path)))
    assert data.class_names == ("ant", "bee")
    assert contents(data) == [(10, 0), (20, 1)]


def test_hugging_faces_datasets(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["ant", "bee"])})
    for part, values in (("train", (10, 20, 30)), ("validation", (40,))):
        rows = {"image": [{"bytes": png(v), "path": None} for v in values], "label": [v // 10 % 2 for v in values]}
        datasets.Dataset.from_dict(rows, features=features).to_parquet(tmp_path / "set" / f"{part}.parquet")
    settings, spec = DataSettings(data_dir=str(tmp_path / "cache")), f"hfds/{tmp_path}/set"
    assert has_splits(spec, settings)
    data = open_dataset(spec, "train", PLAIN, settings)
    assert data.class_names == ("ant", "bee")
    assert contents(data) == [(10, 1), (20, 0), (30, 1)]
    assert contents(open_dataset(spec, "val", PLAIN, settings)) == [(40, 0)]
    assert contents(open_dataset(spec, "train[:2]", PLAIN, settings)) == [(10, 1), (20, 0)]
    with pytest.raises(DataError, match=r"no split 'test'; .*; splits here: train, validation"):
        open_dataset(spec, "test", PLAIN, settings)


def test_nothing_is_fetched_unasked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    datasets = pytest.importorskip("datasets")
    hub = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("fetched"))
    before = datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE
    settings = DataSettings(data_dir=str(tmp_path))
    for spec in ("hfds/user/name", "torch/cifar10"):
        with pytest.raises(DataError, match="download=True"):
            open_dataset(spec, "train", PLAIN, settings)
    assert before == (datasets.config.HF_HUB_OFFLINE, hub.HF_HUB_OFFLINE)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"`datasets` is missing; .*; pip install 'attn-surgeon\[hfds\]'"):
        open_dataset("hfds/user/name", "train", PLAIN)


def test_wrong_names_are_reported_in_one_line(tmp_path: Path) -> None:
    settings = DataSettings(data_dir=str(tmp_path))
    with pytest.raises(DataError, match="did you mean cifar10"):
        open_dataset("torch/cifar11", "train", PLAIN, settings)
    with pytest.raises(DataError, match="data_dir=DIR"):
        open_dataset("torch/cifar10", "train", PLAIN)
    with pytest.raises(DataError, match=r"tfds/ datasets have no random access; .*hfds/"):
        open_dataset("tfds/mnist", "train", PLAIN)


def test_pictures_that_come_decoded_keep_their_pixels(tmp_path: Path) -> None:
    from attn_surgeon.data.timm_sets import Decoded

    rgba = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(4, 4, 4), "RGBA")
    grey = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    source = Decoded([(rgba, 0), (grey, 0)], [0, 0], "here")
    for index, expected in enumerate((rgba.convert("RGB"), grey)):
        with Image.open(source.open(index)) as found:
            assert found.mode == expected.mode
            assert found.tobytes() == expected.tobytes()
