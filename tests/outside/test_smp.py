"""segmentation-models-pytorch: encoders of timm and its own, under three decoders."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.finetune.loop import train
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks.preprocessing import PreprocessingOverrides
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.running import run_network
from attn_surgeon.surgery.sites.survey import survey
from attn_surgeon.tasks import get_task
from tests.data.cells import write

from .helpers import require_all, require_learning

smp = pytest.importorskip("segmentation_models_pytorch")

pytestmark = pytest.mark.outside

# encoder: the selector of its stages
ENCODERS = {
    "resnet18": "encoder.layer*",
    "tu-resnet18": "encoder.model.layer*",
    "tu-convnext_atto": "encoder.model.stages_*",
    "tu-efficientnet_b0": "encoder.model.blocks.{1,2,4,6}",
}
# network: (selectors in its decoder, how many sites they name)
DECODERS = {
    "Unet": (["decoder.blocks.*", "decoder.blocks.*.conv1"], 10),
    "FPN": (["decoder.p5", "decoder.p*.add", "decoder.p*.skip_conv", "decoder.merge"], 8),
    "DeepLabV3Plus": (["decoder.aspp.0.convs.*", "decoder.aspp.0.cat", "decoder.up", "decoder.block1"], 8),
}


@pytest.mark.parametrize(
    ("network", "encoder"),
    [
        pytest.param(network, encoder, marks=() if i + j == 0 else pytest.mark.slow)
        for i, network in enumerate(DECODERS)
        for j, encoder in enumerate(ENCODERS)
    ],
)
def test_segmenters(network: str, encoder: str) -> None:
    model = getattr(smp, network)(encoder, encoder_weights=None, classes=2)
    decoder, sites = DECODERS[network]
    x = torch.randn(2, 3, 64, 96)
    operated = require_all(model, x, sites + 4, after=[ENCODERS[encoder], *decoder])
    require_learning(operated, x)


@pytest.mark.parametrize(
    ("network", "stages"),
    [
        ("DeepLabV3Plus", ["encoder.relu", "encoder.layer1", "encoder.layer2", "encoder.layer4"]),
        ("PSPNet", ["encoder.relu", "encoder.layer1", "decoder"]),
        ("PAN", ["encoder.relu", "encoder.layer1", "encoder.layer2", "encoder.layer4"]),
        ("FPN", ["encoder.relu", "encoder.layer1", "encoder.layer2", "encoder.layer3", "encoder.layer4"]),
    ],
)
def test_stages_end_on_no_pooling_branch(network: str, stages: list[str]) -> None:
    model = getattr(smp, network)("resnet18", encoder_weights=None)
    assert list(survey(model, torch.randn(2, 3, 128, 128)).groups["stages"]) == [(name, "after") for name in stages]


@pytest.mark.parametrize(
    "encoder", [name if name == "tu-convnext_atto" else pytest.param(name, marks=pytest.mark.slow) for name in ENCODERS]
)
def test_gates_on_the_skips_of_a_pyramid(encoder: str) -> None:
    """Each gate weighs what the encoder gives by the coarser level that it is added to."""
    model = smp.FPN(encoder, encoder_weights=None, classes=2)
    x = torch.randn(2, 3, 64, 96)
    operated = require_all(model, x, 3, block="gate", at="skips")
    require_learning(operated, x)
    (gate,) = [made.block for made in list_grafts(operated) if made.owner == "decoder.p2"]
    seen: dict[str, Any] = {}
    for name, module in {"coarse": operated.decoder.p3, "skip": operated.decoder.p2.skip_conv, "gate": gate}.items():
        module.register_forward_hook(lambda _, args, output, name=name: seen.update({name: (args, output)}))
    run_network(operated, x)
    first, second = seen["gate"][0]
    assert torch.equal(first, seen["skip"][1])
    assert torch.equal(second, nn.functional.interpolate(seen["coarse"][1], scale_factor=2.0, mode="nearest"))


def test_predict_runs_the_grafts() -> None:
    """Its own `predict` runs the network in eval mode."""
    model = smp.Unet("tu-resnet18", encoder_weights=None, classes=2)
    x = torch.randn(1, 3, 64, 64)
    operated = require_all(model, x, 1, after="encoder.model.layer4")
    assert torch.equal(operated.predict(x), model.predict(x))
    for name, parameter in operated.named_parameters():
        if "attn_surgeon." in name:
            torch.nn.init.normal_(parameter)
    assert not torch.equal(operated.predict(x), model.predict(x))


@pytest.mark.slow
@pytest.mark.parametrize("classes", [1, 3])
def test_fine_tuning_fits_a_head_and_learns(classes: int, tmp_path: Path) -> None:
    """With one output for two classes, and with three for which it is built again."""
    code = tmp_path / "own.py"
    code.write_text(
        "import segmentation_models_pytorch as smp\n"
        "def net(classes=1):\n"
        '    return smp.Unet("resnet18", encoder_weights=None, decoder_channels=(32, 16, 8, 8, 8), classes=classes)\n'
    )
    root = write(tmp_path / "data", classes=max(2, classes), size=(32, 32))
    settings = FinetuneSettings(task="segmentation", epochs=6, batch_size=4, crops=2, lr=3e-3, crop=32)
    torch.manual_seed(0)
    start = open_network(
        f"{code}:net", weights="none", images=PreprocessingOverrides((0.5,) * 3, (0.25,) * 3, (32, 32))
    )
    model = insert(start.model, "se", after="encoder.layer*", example=start.example)
    task = get_task("segmentation")
    parts = task.open_splits(str(root), start.preprocessing, settings)
    ready = task.fit_head(replace(start, model=model), parts.train.class_names, settings)
    assert ready.provenance.source.args == ({} if classes == 1 else {"classes": 3})
    before = task.score(ready.model, parts.val)
    done = train(ready.model, parts, settings, tmp_path, ready.example)
    assert done.score.loss < before.loss
    assert done.score.metric > before.metric + 0.2
