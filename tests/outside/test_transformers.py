"""Networks of Hugging Face's transformers: dataclasses as outputs, keyword arguments, tuples from layers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.running import run_network, same_bits
from attn_surgeon.surgery.sites.selection import Selectors
from tests.surgery.helpers import open_up

from .helpers import require_all, require_learning

hf = pytest.importorskip("transformers")

pytestmark = pytest.mark.outside

RESNET: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 16, 24, 32], "depths": [1, 2, 1, 1]}
VIT: dict[str, Any] = {
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
    "hidden_dropout_prob": 0.1,
}
CONVNEXT: dict[str, Any] = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "drop_path_rate": 0.1}
SWIN: dict[str, Any] = {"image_size": 32, "patch_size": 4, "embed_dim": 8, "depths": [1, 2], "num_heads": [1, 2]}

# network: (how to build it, selectors, how many grafts)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], list[str], int]] = {
    "ResNetModel": (
        lambda: hf.ResNetModel(hf.ResNetConfig(**RESNET)),
        ["encoder.stages.*", "encoder.stages.*.layers.*.layer.1.normalization"],
        9,
    ),
    "ResNetForImageClassification": (
        lambda: hf.ResNetForImageClassification(hf.ResNetConfig(**RESNET, layer_type="basic", num_labels=3)),
        ["resnet.encoder.stages.*"],
        4,
    ),
    "ViTModel": (lambda: hf.ViTModel(hf.ViTConfig(**VIT)), ["layers.*", "layers.*.attention:0"], 6),
    "ViTForImageClassification": (  # its last layer passes only the class token on, which blocks leave alone
        lambda: hf.ViTForImageClassification(hf.ViTConfig(**VIT, num_labels=3)),
        [
            "vit.layers.[01]",
            "vit.layers.[01].mlp",
            "vit.layers.[01].attention:0",
        ],  # the last concerns no class token
        6,
    ),
    "ConvNextModel": (
        lambda: hf.ConvNextModel(hf.ConvNextConfig(**CONVNEXT)),
        ["encoder.stages.[0-2]", "encoder.stages.*.layers.0.dwconv", "encoder:last_hidden_state"],
        8,
    ),
    "SwinModel": (
        lambda: hf.SwinModel(hf.SwinConfig(**SWIN, window_size=4)),
        ["encoder.layers.*.blocks.*:0", "encoder.layers.*.blocks.*.attention:0", "encoder.layers.0:0"],
        7,
    ),
}


def calls() -> dict[str, torch.Tensor]:
    """Return an example as keyword arguments, with labels that make the network compute its loss."""
    return {"pixel_values": image(), "labels": torch.tensor([0, 2])}


def image() -> torch.Tensor:
    return torch.randn(2, 3, 32, 32)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks(name: str) -> None:
    build, after, sites = NETWORKS[name]
    model, x = build(), image().repeat(1, 1, 2, 2) if "Conv" in name or "ResNet" in name else image()
    operated = require_all(model, x, sites, after=after, options={"reduction": 2})
    assert type(operated(x)) is type(model(x))
    require_learning(operated, x)


@pytest.mark.parametrize("name", [name for name in NETWORKS if "For" in name])
def test_keyword_arguments_and_the_networks_own_loss(name: str) -> None:
    build, after, sites = NETWORKS[name]
    operated = require_all(build(), calls(), sites, after=after, options={"reduction": 2})
    require_learning(operated, calls(), lambda output: output.loss)


def test_hidden_states_are_those_behind_the_grafts() -> None:
    """The library collects them by itself, layer by layer."""
    build, *_ = NETWORKS["ViTModel"]
    model, x = build().eval(), image()
    operated = opened(model, x, "layers.1")
    mine, theirs = (run_network(each, {"pixel_values": x, "output_hidden_states": True}) for each in (model, operated))
    same = [torch.equal(*pair) for pair in zip(mine.hidden_states, theirs.hidden_states, strict=True)]
    assert same == [True, True, False, False]


@pytest.mark.parametrize("name", ["ResNetForImageClassification", "ConvNextModel"])
def test_the_librarys_own_files_keep_the_pretrained_values(name: str, tmp_path: Path) -> None:
    """An operated network saved by `save_pretrained` loads into the original's class again, grafts left aside."""
    build, after, _ = NETWORKS[name]
    model: Any = build().eval()
    operated = opened(model, image().repeat(1, 1, 2, 2), after)
    with pytest.warns(UserWarning, match="builds this network from its configuration, without attn_surgeon's grafts"):
        operated.save_pretrained(tmp_path)
    loaded, report = type(model).from_pretrained(tmp_path, output_loading_info=True)
    assert all("attn_surgeon." in key for key in report["unexpected_keys"])
    assert not report["missing_keys"]
    assert same_bits(loaded.state_dict(), model.state_dict())


def opened(model: nn.Module, x: torch.Tensor, after: Selectors) -> Any:
    return open_up(insert(model, "se", after=after, example=x, options={"reduction": 2}))
