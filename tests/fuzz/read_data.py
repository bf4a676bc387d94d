"""Folders of images, masks and shards, and ONNX files."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy
from PIL import Image

from attn_surgeon.data.opening import has_splits, open_dataset
from attn_surgeon.data.settings import DataSettings
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.profiling.onnx_file import read_onnx
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.settings import TaskSettings
from tests.fuzz.draws import changed, damaged, texts
from tests.fuzz.kinds import FuzzKind

_PLAIN = Preprocessing((0.5,), (0.5,), (8, 8), 1)
_FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")


@cache
def image_bytes(kind: str, mode: str = "L") -> bytes:
    """Return a small image in a format, with a few grey levels."""
    pixels = np.arange(144, dtype=np.uint8).reshape(12, 12) % 5
    file = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(file, kind)
    return file.getvalue()


def _bomb() -> bytes:
    """Return a small PNG of 900 million pixels."""
    content = bytearray(image_bytes("PNG"))
    content[16:24] = (30_000).to_bytes(4, "big") * 2
    return bytes(content)


def _images() -> SearchStrategy[Any]:
    formats = st.sampled_from(_FORMATS)
    content = formats.flatmap(lambda kind: damaged(image_bytes(kind, "RGB" if kind == "JPEG" else "L")))
    return st.tuples(
        content | st.binary(max_size=60) | st.just(_bomb()), formats, st.sampled_from(["a", "ü", "a b", "x" * 200])
    )


def _read_images(case: tuple[bytes, str, str]) -> None:
    content, kind, name = case
    shutil.rmtree("data", ignore_errors=True)
    for folder in ("train", "val"):
        Path("data", folder, name).mkdir(parents=True)
        Path("data", folder, name, f"1.{kind.lower()}").write_bytes(content)
        Path("data", folder, name, "2.png").write_bytes(image_bytes("PNG"))
        Path("data", folder, "other").mkdir()
        Path("data", folder, "other", "3.png").write_bytes(image_bytes("PNG"))
    splits = get_task("classification").open_splits("data", _PLAIN, TaskSettings(max_bad=0.9))
    for index in range(len(splits.train.dataset)):  # type: ignore[arg-type]
        splits.train.dataset[index]


def _masks() -> SearchStrategy[Any]:
    modes = st.sampled_from(["L", "RGB", "1", "P", "LA"])
    mask = modes.flatmap(lambda mode: st.just(image_bytes("PNG", mode)) | damaged(image_bytes("PNG", mode)))
    image = damaged(image_bytes("PNG")) | st.just(image_bytes("PNG"))
    return st.tuples(image, mask, st.just(b"a\nb\nc\nd\ne\n") | st.binary(max_size=40) | texts.map(_utf8))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _read_masks(case: tuple[bytes, bytes, bytes]) -> None:
    image, mask, names = case
    shutil.rmtree("scenes", ignore_errors=True)
    for part in ("train", "val"):
        for folder, content in (("images", image), ("masks", mask)):
            Path("scenes", part, folder).mkdir(parents=True)
            Path("scenes", part, folder, "1.png").write_bytes(content)
    Path("scenes", "classes.txt").write_bytes(names)
    splits = get_task("segmentation").open_splits("scenes", _PLAIN, TaskSettings(task="segmentation", max_bad=0.9))
    splits.train.dataset[0]


def _tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name, content in (
            ("0.png", image_bytes("PNG")),
            ("0.cls", b"1"),
            ("1.png", image_bytes("PNG")),
            ("1.json", b'{"label": 0}'),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _shards() -> SearchStrategy[Any]:
    info = {"splits": {"train": {"filenames": ["a.tar"], "alt_label": "label"}, "validation": {"filenames": ["a.tar"]}}}
    described = changed(info).map(lambda data: json.dumps(data).encode())
    names = (
        st.sampled_from(["shards", "shards/a.tar", "shards/{a,b}.tar", "shards/a-{0..99999999999}.tar", "{a" * 20])
        | texts
    )
    return st.tuples(damaged(_tar()) | st.just(_tar()), described | st.binary(max_size=30), names)


def _read_shards(case: tuple[bytes, bytes, str]) -> None:
    tar, info, name = case
    shutil.rmtree("shards", ignore_errors=True)
    Path("shards").mkdir()
    Path("shards/a.tar").write_bytes(tar)
    Path("shards/_info.json").write_bytes(info)
    has_splits(f"wds/{name}")
    data = open_dataset(f"wds/{name}", "train", _PLAIN, DataSettings())
    data.dataset[0]


@cache
def _onnx() -> bytes:
    from onnx import TensorProto, helper

    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, 8, 8])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3, 8, 8])
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [3], [1.0, 2.0, 3.0])
    node = helper.make_node("PRelu", ["image", "weight"], ["out"])
    model = helper.make_model(helper.make_graph([node], "g", [image], [out], [weight]))
    helper.set_model_props(model, {"attn_surgeon.preprocessing": json.dumps({"size": [8, 8]})})
    return bytes(model.SerializeToString())


def _models() -> SearchStrategy[Any]:
    return damaged(_onnx()) | st.binary(max_size=80)


def _read_model(content: bytes) -> None:
    Path("x.onnx").write_bytes(content)
    read = read_onnx("x.onnx")
    assert read.image is not None
    read.feeds(2)


KINDS = {
    "images": FuzzKind(_images, _read_images, often=30),
    "masks": FuzzKind(_masks, _read_masks, often=30),
    "shards": FuzzKind(_shards, _read_shards, often=100),
    "onnx": FuzzKind(_models, _read_model),
}
