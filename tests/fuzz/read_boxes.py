"""Images with boxes, in the formats of COCO, Pascal VOC and YOLO."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.settings import TaskSettings
from tests.fuzz.draws import changed, damaged, json_bytes, texts
from tests.fuzz.kinds import FuzzKind
from tests.fuzz.read_data import image_bytes

_PLAIN = Preprocessing((0.0,), (1.0,), (12, 12), 1)
_COCO: dict[str, Any] = {
    "images": [{"id": 7, "file_name": "1.png", "width": 12, "height": 12}, {"id": 9, "file_name": "2.png"}],
    "categories": [{"id": 3, "name": "cell"}, {"id": 5, "name": "dust", "supercategory": "none"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 3, "bbox": [1, 2, 5, 6], "iscrowd": 0},
        {"id": 2, "image_id": 9, "category_id": 5, "bbox": [0, 0, 11.5, 12], "iscrowd": 1, "area": 138},
    ],
}
_VOC = (
    b"<annotation><filename>1.png</filename><size><width>12</width><height>12</height></size>"
    b"<object><name>cell</name><difficult>0</difficult>"
    b"<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>"
)
_BOMB = b'<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;&b;">]><annotation>&c;</annotation>'
_YOLO: dict[str, Any] = {"path": ".", "train": "images/train", "val": "images/val", "names": {0: "cell", 1: "dust"}}
_LINES = b"0 0.5 0.5 0.4 0.3\n1 0.1 0.1 0.9 0.1 0.9 0.9\n"


def _boxes() -> SearchStrategy[Any]:
    coco = changed(_COCO).map(json_bytes) | damaged(json.dumps(_COCO).encode())
    voc = damaged(_VOC) | texts.map(lambda text: _VOC.replace(b"9", _utf8(text))) | st.just(_BOMB)
    document = st.just(yaml.safe_dump(_YOLO).encode()) | changed(_YOLO).map(_yaml_bytes)
    lines = damaged(_LINES) | texts.map(lambda text: b"0 0.5 " + _utf8(text) + b" 0.4 0.3\n")
    return st.one_of(
        st.tuples(st.just("coco"), coco, st.just(b"")),
        st.tuples(st.just("voc"), voc, st.just(b"")),
        st.tuples(st.just("yolo"), document, lines),
    )


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _yaml_bytes(document: Any) -> bytes:
    return yaml.dump(document, allow_unicode=True).encode("utf-8", "surrogatepass")


def _read_boxes(case: tuple[str, bytes, bytes]) -> None:
    kind, content, lines = case
    root = Path("boxes")
    shutil.rmtree(root, ignore_errors=True)
    for split in ("train", "val"):
        _write_split(root, kind, split, content, lines)
    if kind == "yolo":
        (root / "data.yaml").write_bytes(content)
    splits = get_task("detection").open_splits(str(root), _PLAIN, TaskSettings(task="detection", max_bad=0.9))
    for dataset in (splits.train.dataset, splits.val.dataset):
        for index in range(len(dataset)):  # type: ignore[arg-type]
            dataset[index]


def _write_split(root: Path, kind: str, split: str, content: bytes, lines: bytes) -> None:
    images = root / {"coco": split, "voc": f"{split}/images", "yolo": f"images/{split}"}[kind]
    images.mkdir(parents=True)
    for name in ("1", "2"):
        (images / f"{name}.png").write_bytes(image_bytes("PNG"))
    if kind == "coco":
        (images / "_annotations.coco.json").write_bytes(content)
        return
    labels = root / {"voc": f"{split}/annotations", "yolo": f"labels/{split}"}[kind]
    labels.mkdir(parents=True)
    (labels / ("1.xml" if kind == "voc" else "1.txt")).write_bytes(content if kind == "voc" else lines)


KINDS = {"boxes": FuzzKind(_boxes, _read_boxes, often=150)}
