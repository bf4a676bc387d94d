"""Artefacts that version 0.2.0 wrote still open, bit for bit."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from attn_surgeon import insert, list_grafts, load
from attn_surgeon.artefact.metadata import read_artefact
from attn_surgeon.networks.demo import load_demo

FOLDER = Path(__file__).parent / "v0_2_0"


def same_as_made_today(loaded: nn.Module, today: nn.Module, file: Path, x: torch.Tensor) -> bool:
    """Compare what was loaded with a network operated on today that is given the file's tensors."""
    stored = load_file(file)
    today.load_state_dict(stored, strict=False)
    state = loaded.state_dict()
    tensors = all(torch.equal(state[name], tensor) for name, tensor in stored.items())
    return tensors and state.keys() == today.state_dict().keys() and torch.equal(loaded(x), today(x))


def test_a_patch_of_a_stack_at_every_residual() -> None:
    file, x = FOLDER / "patch.safetensors", torch.randn(2, 1, 40, 32)
    assert read_artefact(file).patch
    loaded = load(file)
    assert {made.graft.block["name"] for made in list_grafts(loaded)} == {"eca+spatial"}
    today = insert(load_demo(), "eca+spatial", at="residual", example=torch.randn(1, 1, 32, 32))
    assert not torch.equal(loaded(x), load_demo()(x))
    assert same_as_made_today(loaded, today, file, x)


def test_a_whole_artefact_of_a_network_passed_in_python() -> None:
    def net() -> nn.Module:
        return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()

    file, x = FOLDER / "whole.safetensors", torch.randn(2, 3, 9, 8)
    today = insert(net(), "se", after="1", before="2", example=torch.ones(1, 3, 8, 8), options={"reduction": 2})
    assert same_as_made_today(load(file, model=net()), today, file, x)
