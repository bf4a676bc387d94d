"""The report: what is written is what was predicted, whatever classes are called."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn
from torch.utils.data import TensorDataset

from attn_surgeon.data.images import ImageData
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.report import require_folder, write_report
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.base import Score
from attn_surgeon.tasks.confusion_files import confusion_png
from attn_surgeon.tasks.predictions import Predictions

NAMES = ('a "red", ant', "$bee^$", "猫", "\\frac{dog}")


def pictures(*predicted: int) -> Mapping[str, bytes]:
    count = len(predicted)
    predictions = Predictions(torch.arange(count) % 4, torch.tensor(predicted), torch.ones(count).double())
    data = ImageData(TensorDataset(torch.empty(0)), NAMES)
    return get_task("classification").pictures(nn.Identity(), data, Score(0.0, 0.0, (), predictions=predictions))


def test_the_folder_contains_the_matrices(tmp_path: Path) -> None:
    write_report(tmp_path, '{"é": 1}\n', [pictures(0, 1, 1, 9, 0), pictures(3, 3, 3, 3, 3)])
    made = {path.name for path in tmp_path.iterdir()}
    images = {"confusion.png", "confusion-compare.png"}
    assert made == {"report.json", "confusion.csv", "confusion-compare.csv"} | images
    assert (tmp_path / "report.json").read_text(encoding="utf-8") == '{"é": 1}\n'
    rows = list(csv.reader(io.StringIO((tmp_path / "confusion.csv").read_text(encoding="utf-8"))))
    assert rows[0] == ["class", *NAMES, "(none of these)"]
    assert rows[1:] == [
        [NAMES[0], "2", "0", "0", "0", "0"],
        [NAMES[1], "0", "1", "0", "0", "0"],
        [NAMES[2], "0", "1", "0", "0", "0"],
        [NAMES[3], "0", "0", "0", "0", "1"],
    ]


def dark(image: Image.Image) -> int:
    """Count the pixels of the darkest blue, which stands for a whole class."""
    return sum(pixel == (8, 48, 107) for pixel in image.convert("RGB").get_flattened_data())


def test_the_picture_shows_shares_of_each_class() -> None:
    all_right, all_wrong = torch.eye(3, 4).long() * 50, torch.ones(3, 4).long()
    right, wrong = (Image.open(io.BytesIO(confusion_png(counts, NAMES[:3]))) for counts in (all_right, all_wrong))
    assert dark(right) > 20 * dark(wrong)
    outside = torch.tensor([[0, 1, 5], [0, 4, 0]])
    assert confusion_png(outside, NAMES[:2]) != confusion_png(outside * torch.tensor([1, 1, 0]), NAMES[:2])


def test_many_classes_are_drawn_in_a_picture_of_bounded_size() -> None:
    image = Image.open(
        io.BytesIO(confusion_png(torch.eye(300, 301).long(), [f"class {number}" for number in range(300)]))
    )
    assert max(image.size) < 2500


def test_a_report_that_cannot_be_written_raises(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(DataError, match="cannot write the report"):
            require_folder(path)
        with pytest.raises(DataError, match="cannot write the report"):
            write_report(path, "", [])
    for _ in range(2):
        require_folder(tmp_path / "a" / "b")
        write_report(tmp_path / "a" / "b", "", [])
    (tmp_path / "a" / "b" / "report.json").unlink()
    (tmp_path / "a" / "b" / "report.json").mkdir()
    with pytest.raises(DataError, match=r"report\.json"):
        write_report(tmp_path / "a" / "b", "", [pictures(0)])
