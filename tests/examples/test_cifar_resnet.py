"""The CIFAR ResNets: layout, shortcut, and the published weights where they are at hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.networks.weights import load_weights
from tests.examples.example_files import REPO, example

WEIGHTS = REPO.parent / "shared" / "data" / "resnet20-12fca82f.th"
IMAGES = Path.home() / ".cache" / "attn-surgeon-data" / "cifar10-jpeg" / "val"
NORMS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


cifar = example("cifar_resnet")


def test_state_dict_has_exactly_the_published_keys() -> None:
    keys = {"conv1.weight", "linear.weight", "linear.bias"} | {f"bn1.{leaf}" for leaf in NORMS}
    for stage in (1, 2, 3):
        for block in (0, 1, 2):
            for part in (1, 2):
                prefix = f"layer{stage}.{block}"
                keys |= {f"{prefix}.conv{part}.weight"} | {f"{prefix}.bn{part}.{leaf}" for leaf in NORMS}
    assert set(cifar.resnet20().state_dict()) == keys


@pytest.mark.parametrize(("depth", "parameters"), [(20, 269722), (32, 464154), (44, 658586), (56, 853018)])
def test_depth_and_size(depth: int, parameters: int) -> None:
    model: nn.Module = getattr(cifar, f"resnet{depth}")()
    weighted = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(weighted) == depth
    assert sum(p.numel() for p in model.parameters()) == parameters


def test_the_deepest_has_110_layers() -> None:
    model = cifar.resnet110(num_classes=100)
    assert sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in model.modules()) == 110
    assert model.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, 100)


def test_shortcut_takes_every_second_pixel_and_pads_a_quarter_on_each_side() -> None:
    x = torch.randn(2, 16, 8, 8)
    shortcut = cifar.BasicBlock(16, 32, 2).shortcut(x)
    assert shortcut.shape == (2, 32, 4, 4)
    assert torch.equal(shortcut[:, 8:24], x[:, :, ::2, ::2])
    assert shortcut[:, :8].abs().sum() == 0
    assert shortcut[:, 24:].abs().sum() == 0


def test_shortcut_is_the_identity_elsewhere() -> None:
    x = torch.randn(1, 16, 4, 4)
    assert cifar.BasicBlock(16, 16, 1).shortcut(x) is x


@pytest.mark.skipif(not WEIGHTS.exists(), reason="published weights are not at hand")
def test_published_weights_load_exactly() -> None:
    model = cifar.resnet20()
    notes = load_weights(model, WEIGHTS)
    raw = torch.load(WEIGHTS, map_location="cpu", weights_only=True)["state_dict"]
    own = model.state_dict()
    assert all(torch.equal(own[key.removeprefix("module.")], tensor) for key, tensor in raw.items())
    assert notes == ["19 BatchNorm counters (num_batches_tracked) are not in the file and keep their values"]


@pytest.mark.skipif(not (WEIGHTS.exists() and IMAGES.is_dir()), reason="weights or images are not at hand")
def test_published_weights_classify_images() -> None:
    from PIL import Image

    model = cifar.resnet20().eval()
    load_weights(model, WEIGHTS)
    transform = Preprocessing((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), (32, 32)).transform()
    folders = sorted(folder for folder in IMAGES.iterdir() if folder.is_dir())
    files = [(file, label) for label, folder in enumerate(folders) for file in sorted(folder.iterdir())[:100]]
    with torch.no_grad():
        logits = model(torch.stack([transform(Image.open(file)) for file, _ in files]))
    accuracy = (logits.argmax(1) == torch.tensor([label for _, label in files])).double().mean().item()
    assert 0.77 < accuracy < 0.86
