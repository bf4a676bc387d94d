"""The proof that grafts run, and what it says where they do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import attn_surgeon
from attn_surgeon.artefact.save import save
from attn_surgeon.errors import ExampleError, LostGraftError
from attn_surgeon.surgery.certificate import certify
from attn_surgeon.surgery.graft_check import check
from tests import toy_networks

from .helpers import grafted, image, opened


class Skips(nn.Module):
    """Leave out its branch where told to."""

    def __init__(self) -> None:
        super().__init__()
        self.branch, self.used = toy_networks.Residual(), True

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.branch(x) if self.used else x


def test_grafts_are_listed_in_order() -> None:
    model, x = grafted(toy_networks.Root(toy_networks.Residual()), ["stage.conv", "stage"]), image()
    assert [made.place for made in attn_surgeon.check(model, x)] == ["after stage.conv", "after stage"]
    assert attn_surgeon.check(toy_networks.Root(toy_networks.Residual()), x) == []


def test_a_graft_that_the_network_passes_by_is_named(tmp_path: Path) -> None:
    plain, x = Skips(), image()
    model: Any = opened(plain, after="branch")
    model.used = False
    with pytest.raises(LostGraftError, match="after branch do not run on the example"):
        check(model, x)
    with pytest.raises(LostGraftError, match="after branch"):
        save(model, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []
    failed = {item.name: item.detail for item in certify(plain, model, x).checks if item.status == "failed"}
    assert "after branch do not run" in failed["every graft runs"]


def test_an_example_that_does_not_run() -> None:
    with pytest.raises(ExampleError, match="does not run on the example"):
        check(grafted(toy_networks.Root(toy_networks.Residual()), "stage"), image(channels=3))


def test_a_network_that_takes_another_input_now_is_still_saved(tmp_path: Path) -> None:
    model: Any = opened(toy_networks.Root(toy_networks.Residual()), after="stage")
    model.stage.conv = nn.Conv2d(3, 4, 1)
    save(model, tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").exists()
