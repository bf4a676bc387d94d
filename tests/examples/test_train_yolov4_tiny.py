"""The study of attention in YOLOv4-tiny, on images of rectangles."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from attn_surgeon.surgery.isolation import copied, seeded
from tests.examples.example_files import example

OBJECT = "<object><name>{}</name><bndbox>{}</bndbox></object>"
EDGES = ("xmin", "ymin", "xmax", "ymax")
COLOURS = {"dark": (30, 30, 60), "light": (240, 200, 200)}


def draw_image(folder: Path, number: int) -> None:
    """Write an image of 128 × 96 with a rectangle of each class, and its annotation."""
    image, objects = Image.new("RGB", (128, 96), (120, 140, 120)), []
    for index, (name, colour) in enumerate(COLOURS.items()):
        corners = (8 + 60 * index + 6 * number, 10 + 8 * number, 40 + 60 * index + 6 * number, 45 + 8 * number)
        ImageDraw.Draw(image).rectangle(corners, fill=colour)
        edges = "".join(f"<{edge}>{value}</{edge}>" for edge, value in zip(EDGES, corners, strict=True))
        objects.append(OBJECT.format(name, edges))
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (folder / "annotations").mkdir(exist_ok=True)
    image.save(folder / "images" / f"{number}.png")
    (folder / "annotations" / f"{number}.xml").write_text(f"<annotation>{''.join(objects)}</annotation>")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for number in range(4):
        draw_image(tmp_path / "data" / ("train" if number < 2 else "val"), number)
    return tmp_path / "data"


def test_boxes_are_resized_with_their_images(data: Path) -> None:
    module = example("yolov4_tiny_training")
    assert module.class_names(data / "train" / "annotations") == ["dark", "light"]
    images = module.read_images(data / "train", ["dark", "light"], (192, 64))
    assert images.size == (192, 64)
    assert images.targets[1]["labels"].tolist() == [0, 1]
    assert images.targets[1]["boxes"].tolist() == [[7, 36, 23, 106], [37, 36, 53, 106]]
    assert images.pixels[1, :, 70, 45].tolist() == list(COLOURS["light"])


def test_a_flip_moves_the_boxes_too(data: Path) -> None:
    module = example("yolov4_tiny_training")
    images = module.read_images(data / "train", ["dark", "light"], (96, 128))
    seen = set()
    for _ in range(20):
        pixels, target = module.flipped(images, 0)
        for box, colour in zip(target["boxes"].int().tolist(), COLOURS.values(), strict=True):
            assert pixels[:, (box[1] + box[3]) // 2, (box[0] + box[2]) // 2].tolist() == list(colour)
        seen.add(tuple(target["boxes"][0].tolist()))
    assert len(seen) == 4


@pytest.mark.slow
def test_it_learns_two_images(data: Path) -> None:
    module, network = example("yolov4_tiny_training"), example("yolov4_tiny").yolov4_tiny(2)
    images = module.read_images(data / "train", ["dark", "light"], (96, 128))
    before = module.average_precision(network, images)["mAP50"]
    module.fit(network, images, epochs=150, rate=2e-3)
    assert before < 0.1
    assert module.average_precision(network, images)["mAP50"] > 0.95


def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: object) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["train_yolov4_tiny.py", *map(str, arguments)])
    example("train_yolov4_tiny").main()
    return capsys.readouterr().out.splitlines()


def test_the_study_runs_and_is_not_run_twice(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--data", data, "--out", tmp_path / "out", "--size", 64, 64, "--pretraining", 1, "--epochs", 1]
    options += ["--seeds", 1, "--variant", "backbone-published"]
    first = run(monkeypatch, capsys, *options)
    arms = [line for line in first if ": train" in line]
    assert arms == [f"backbone-published: train {arm}, seed 0" for arm in ("grafts", "control")]
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ")[1:] for line in first if line.startswith("|")}
    assert rows["backbone"][0] == "identical"
    assert rows["backbone"][1] == rows["backbone"][2]  # mAP of the plain network, and with blocks that are the identity
    assert rows["backbone-published"][0] == "86,310"  # parameters of the blocks
    monkeypatch.setattr(example("train_yolov4_tiny"), "fit", None)
    again = run(monkeypatch, capsys, *options)
    assert again == first[-len(again) :]
    with pytest.raises(SystemExit, match="other settings"):
        run(monkeypatch, capsys, *options, "--epochs", 2)


def test_wrong_data_and_sizes_are_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"no annotations in .*nothing"):
        run(monkeypatch, capsys, "--data", tmp_path / "nothing", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit):
        run(monkeypatch, capsys, "--data", data, "--size", 64, 100)
    assert "multiples of 32" in capsys.readouterr().err


def test_the_controls_of_all_variants_are_the_same_network(data: Path, tmp_path: Path) -> None:
    """A control that is read from a file is bit for bit the one that would be trained."""
    module = example("train_yolov4_tiny")
    study = module.open_study(module.Settings(str(data), (64, 64), 1, 1, 1), tmp_path / "out")
    states = []
    for _ in range(2):
        with seeded(0):
            states.append(module.train(study, "se", copied(study.pretrained), 0).state_dict())
    (tmp_path / "out" / "control-0.pt").unlink()
    with seeded(0):
        states.append(module.train(study, "se", copied(study.pretrained), 0).state_dict())
    for other in states[1:]:
        assert all(torch.equal(value, other[key]) for key, value in states[0].items())
