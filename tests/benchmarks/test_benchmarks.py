"""Each benchmark runs on the smallest input that it takes, and a number it prints is right."""

from __future__ import annotations

import json
import re
import runpy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate.state import AcceleratorState
from PIL import Image
from torch import nn
from torch.utils.data import Subset
from torchvision.models.resnet import Bottleneck, ResNet

from attn_surgeon.blocks.base import registry
from attn_surgeon.data.splits import Splits, open_labelled_splits
from tests.data import cells

from ..data.boxes.files import splits, write_voc
from ..tasks.cell_detector import loaded as cell_network
from . import cifar, detector, detr, fine_tune, first_day, latency, membrane, safe, throughput, tune

SHORT = {"epochs": 1, "batch_size": 16, "limit": 32}
Printed = Callable[[], str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write what the benchmarks read: images of the kinds and sizes of the real ones, and weights at random."""
    root = tmp_path_factory.mktemp("data")
    dice = np.random.default_rng(0)
    for split in ("train", "val"):
        for label in range(10):
            folder = root / "cifar10-jpeg" / split / f"class-{label}"
            folder.mkdir(parents=True)
            for index in range(7):
                pixels = dice.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.jpg")
    cells.write(root / "em-membrane", classes=2, size=(128, 128), count=2)
    torch.manual_seed(0)
    weights = runpy.run_path(str(cifar.REPO / "examples" / "cifar_resnet.py"))["resnet20"]().state_dict()
    file = {"state_dict": {f"module.{key}": value for key, value in weights.items()}}
    torch.save(file, root / "resnet20-12fca82f.th")
    return root


@pytest.fixture(autouse=True)
def small(data: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cifar, "DATA", data)
    monkeypatch.setattr(cifar, "CACHE", data)
    AcceleratorState._reset_state(reset_partial_state=True)  # or the first run's precision would be that of all
    yield
    registry._OWN.clear()
    AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Printed:
    return lambda: capsys.readouterr().out


def row(text: str, name: str) -> list[str]:
    """Return the cells of a table's row."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {name} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_first_day(printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(first_day, "BLOCKS", {"se": {"rd_ratio": 1 / 16}})
    monkeypatch.setattr(first_day, "SEEDS", range(2))
    first_day.main(["--picture", str(tmp_path / "bars.png")])
    text = printed()
    (before,) = re.findall(r"before: ([\d.]+) %", text)
    assert row(text, "`se`")[1] == f"{float(before):.1f} ± 0.0"
    with Image.open(tmp_path / "bars.png") as picture:
        assert picture.size == (825, 352)


def test_fine_tune(printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = {name: replace(each, **SHORT) for name, each in fine_tune._SETTINGS.items()}  # type: ignore[arg-type]
    monkeypatch.setattr(fine_tune, "_SETTINGS", settings)
    file = tmp_path / "fine_tune.jsonl"
    chosen = ["--regimes", "grafts", "--blocks", "se", "--sites", "residual", "--seeds", "0", "1"]
    fine_tune.main([*chosen, "--file", str(file)])
    text = printed()
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    grafts = [line["top1"] for line in lines if json.loads(line["key"])[0] == "se"]
    assert len(lines) == 6
    assert row(text, "`se`")[1:3] == ["residual", "2,472"]
    assert row(text, "`se`")[3].startswith(f"{sum(grafts) / 2:.2f} ± ")
    fine_tune.main([*chosen, "--file", str(file)])
    assert printed() == text
    assert len(file.read_text().splitlines()) == 6


def test_tune(printed: Printed, tmp_path: Path) -> None:
    changes = [f"{name}={value}" for name, value in SHORT.items()]
    file = tmp_path / "tune.jsonl"
    chosen = ["grafts", "--blocks", "se", "--lr", "0.01", "--mult", "1", "--set", *changes, "--file", str(file)]
    tune.main(chosen)
    gain, control = re.findall(r"(?:gain|control) (-?[\d.]+) ±", printed())
    tops: dict[str | None, list[float]] = {"se": [], None: []}
    for line in map(json.loads, file.read_text().splitlines()):
        tops[json.loads(line["key"])[0]].append(line["top1"])
    assert float(control) == pytest.approx(np.mean(tops[None]), abs=0.005)
    assert float(gain) == pytest.approx(np.mean(tops["se"]) - np.mean(tops[None]), abs=0.005)


def test_safe(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    def few(*given: Any) -> Splits:
        parts = open_labelled_splits(*given)
        return replace(parts, val=replace(parts.val, dataset=Subset(parts.val.dataset, range(64))))

    monkeypatch.setattr(safe, "open_labelled_splits", few)
    safe.main(["--limit", "64", "--epochs", "1", "--blocks", "se"])
    text = printed()
    assert [line.split("  ")[0].strip() for line in text.splitlines()] == ["no block", "se"]
    assert len(re.findall(r"[\d.]+ % loss +[\d.]+", text)) == 4
    assert "NOT FINITE" not in text


def test_membrane(printed: Printed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(membrane, "ARMS", {arm: membrane.ARMS[arm] for arm in ("control", "both")})
    monkeypatch.setattr(membrane, "WIDTH", "2")
    for name in ("FIRST", "THEN"):
        monkeypatch.setattr(membrane, name, replace(getattr(membrane, name), epochs=1, crop=32, batch_size=2))
    file = tmp_path / "membrane.jsonl"
    membrane.main(["--seeds", "0", "1", "--file", str(file)])
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    mious = {(line["arm"], line["seed"]): 100 * line["miou"] for line in lines}
    difference = np.mean([mious["both", seed] - mious["control", seed] for seed in (0, 1)])
    (told,) = re.findall(r"difference ([+-][\d.]+),", printed())
    assert float(told) == pytest.approx(difference, abs=0.005)
    assert lines[0]["arm"] == "before"


def test_throughput(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "SETTINGS", replace(throughput.SETTINGS, batch_size=16, limit=32))
    monkeypatch.setattr(throughput, "ROUNDS", 1)
    throughput.main(["--as-usual"])
    found = re.findall(r"(.+): ([\d.]+) and ([\d.]+) images/s, ([\d.]+) ×", printed())
    assert [name for name, *_ in found] == ["ResNet-20 at 32", "resnet18 at 64"]
    for _, ours, bare, ratio in found:
        assert float(ratio) == pytest.approx(float(ours) / float(bare), rel=0.05)


@pytest.mark.slow
def test_latency(printed: Printed, monkeypatch: pytest.MonkeyPatch) -> None:
    def tiny() -> nn.Module:
        return ResNet(Bottleneck, [1, 1, 1, 1], width_per_group=4)  # type: ignore[no-any-return]

    monkeypatch.setattr(latency, "BLOCKS", {"se": None})
    latency.main(2, tiny, 32)
    text = printed()
    assert row(text, "plain")[3] == "1.000"
    assert row(text, "se untrained")[1] == row(text, "plain")[1]
    assert int(row(text, "se")[1]) > int(row(text, "plain")[1])


def test_detector(printed: Printed, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(detector, "SETTINGS", replace(detector.SETTINGS, batch_size=2, limit=6))
    monkeypatch.setattr(detector, "ROUNDS", 2)
    detector.compare(cell_network(), write_voc(tmp_path, splits(train=6)), "backbone")
    ours, reference, ratio, low, high = re.findall(r"[\d.]+\d", printed())
    assert float(low) <= float(ratio) <= float(high)
    assert float(low) * 0.9 <= float(ours) / float(reference) <= float(high) * 1.1


SMALL_DETR = {"width": "16", "queries": "5", "num_labels": "2"}


@pytest.fixture
def small_detr(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_voc(data / "blood-cells", splits(train=4, val=2))
    for name in ("FIRST", "THEN"):
        monkeypatch.setattr(detr, name, replace(getattr(detr, name), epochs=1, batch_size=2))
    monkeypatch.setattr(detr, "IMAGES", replace(detr.IMAGES, size=(64, 64)))
    monkeypatch.setattr(detr, "SITES", "model.backbone.model.encoder.stages.2")


@pytest.mark.usefixtures("small_detr")
def test_the_detr_to_start_from_is_trained_once(data: Path, tmp_path: Path) -> None:
    first = detr.trained(tmp_path, data / "blood-cells", SMALL_DETR)
    (tmp_path / "start" / "checkpoint.pt").unlink()
    again = detr.trained(tmp_path, data / "nothing", {})
    assert all(map(torch.equal, first.model.state_dict().values(), again.model.state_dict().values()))
    assert again.preprocessing.size == (64, 64)


@pytest.mark.slow
@pytest.mark.usefixtures("small_detr")
def test_detr(printed: Printed, tmp_path: Path) -> None:
    detr.main(["--folder", str(tmp_path), "--seeds", "1"], SMALL_DETR)
    result = json.loads((tmp_path / "run" / "comparison.json").read_text())
    names = "before|after|control|difference"
    numbers = re.findall(rf"(?:{names}) ([+-]?[\d.]+\d)", printed())
    before, after, control, difference = map(float, numbers)
    assert before == pytest.approx(100 * result["before"], abs=0.005)
    assert after - control == pytest.approx(difference, abs=0.015)
