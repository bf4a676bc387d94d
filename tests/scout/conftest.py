"""Images and weights at random, of the kinds and sizes of the real ones."""

from __future__ import annotations

import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.benchmarks import cifar


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, dice = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    for split, count in (("train", 9), ("val", 2)):
        for label in range(10):
            folder = root / "cifar10-jpeg" / split / f"class-{label}"
            folder.mkdir(parents=True)
            for index in range(count):
                pixels = dice.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.jpg")
    torch.manual_seed(0)
    weights = runpy.run_path(str(cifar.REPO / "examples" / "cifar_resnet.py"))["resnet20"]().state_dict()
    torch.save(
        {"state_dict": {f"module.{key}": value for key, value in weights.items()}}, root / "resnet20-12fca82f.th"
    )
    return root


@pytest.fixture(autouse=True)
def _made(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar, "DATA", data)
    monkeypatch.setattr(cifar, "CACHE", data)
