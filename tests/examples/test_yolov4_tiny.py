"""YOLOv4-tiny: the published size, and attention on both maps of its backbone and on the upsampled one."""

from __future__ import annotations

import json
import sys
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.artefact.load import load
from attn_surgeon.cli.app import main
from attn_surgeon.operations.insert import insert
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.running import run_network, same_bits
from tests.examples.example_files import REPO, example
from tests.surgery.helpers import block_at, identical

NECK = ["backbone:0", "backbone:1", "upsample"]
BLOCKS = ["se", "cbam", "eca", "coord"]
PUBLISHED_BYTES = 24_251_276  # yolov4-tiny.weights: five 32-bit words, then every weight and statistic in float32


@cache
def network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    model = example("yolov4_tiny").yolov4_tiny(classes=3)
    x = torch.randn(2, 3, 64, 96)
    run_network(model, x, training=True)  # statistics that are not the ones of a new BatchNorm
    return model, x


def test_it_is_as_large_as_the_published_network() -> None:
    model = example("yolov4_tiny").yolov4_tiny()
    values = sum(value.numel() for key, value in model.state_dict().items() if "num_batches" not in key)
    assert 4 * values + 20 == PUBLISHED_BYTES
    assert sum(parameter.numel() for parameter in model.parameters()) == 6_056_606


def test_it_predicts_on_two_maps() -> None:
    model, x = network()
    fine, coarse = model.get_submodule("backbone")(x)
    assert (fine.shape, coarse.shape) == ((2, 256, 4, 6), (2, 512, 2, 3))
    assert [output.shape for output in model(x)] == [(2, 24, 2, 3), (2, 24, 4, 6)]


@pytest.mark.parametrize("block", BLOCKS)
def test_attention_in_the_neck_changes_nothing_at_first(block: str) -> None:
    model, x = network()
    operated = insert(model, block, after=NECK, example=x)
    assert sorted(made.graft.site for made in list_grafts(operated)) == NECK
    assert identical(model, operated, x)
    restored = remove(operated)
    assert identical(model, restored, x)
    assert list(restored.state_dict()) == list(model.state_dict())


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize(("site", "touched"), [(NECK[0], [1]), (NECK[1], [0, 1]), (NECK[2], [1])])
def test_each_place_reaches_its_outputs(block: str, site: str, touched: list[int]) -> None:
    """The fine map and the upsampled one feed the fine head only; the coarse map feeds both."""
    model, x = network()
    operated = insert(model, block, after=NECK, example=x)
    with torch.no_grad():
        for parameter in block_at(operated, site).parameters():
            parameter.normal_()
    before, after = run_network(model, x), run_network(operated, x)
    assert [index for index in (0, 1) if not same_bits(before[index], after[index])] == touched


@pytest.mark.parametrize("block", BLOCKS)
def test_the_recipe_runs_with_each_block(
    block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run it as it is, with its certificate; with the other blocks only replay it."""
    recipe, file = tmp_path / "neck.yaml", tmp_path / "neck.safetensors"
    text = (REPO / "recipes" / "yolov4-tiny-neck.yaml").read_text()
    recipe.write_text(text.replace("block: cbam", f"block: {block}"))
    name, *options = ["yolov4-tiny-neck"] if block == "cbam" else [str(recipe), "--no-verify"]
    monkeypatch.chdir(REPO)
    monkeypatch.setattr(sys, "argv", ["attn-surgeon", "run", name, "--trust", *options, "-o", str(file), "--json"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    document = json.loads(capsys.readouterr().out)
    assert [block] * 3 == [graft["block"]["name"] for graft in document["plan"]["grafts"]]
    assert options or document["certificate"]["passed"]
    x = torch.randn(1, 3, 64, 96)
    loaded = load(file, model=example("yolov4_tiny").yolov4_tiny())
    assert sorted(made.graft.site for made in list_grafts(loaded)) == NECK
    assert same_bits(run_network(loaded, x), run_network(remove(loaded), x))
