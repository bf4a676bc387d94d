"""A network that was built from a YAML: with grafts it is copied and pickled, and no network without them is built."""

from __future__ import annotations

import copy
import pickle
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import attn_surgeon
from attn_surgeon.errors import LostGraftError, SurgeonError


class Built(nn.Module):
    """A network that keeps the YAML that it was built from, as YOLOs do."""

    def __init__(self, yaml: dict[str, Any]) -> None:
        super().__init__()
        self.yaml = yaml
        widths = copy.deepcopy(self.yaml)["backbone"]
        self.model = nn.Sequential(*(nn.Conv2d(3 if index == 0 else 8, width, 3) for index, width in enumerate(widths)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)  # type: ignore[no-any-return]


class Owner(nn.Module):
    """What has a network and builds another one to train, with callbacks, as ultralytics' YOLO."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.callbacks: dict[str, list[Any]] = {"on_pretrain_routine_end": []}
        self.model, self.yaml = model, {"nc": 2, "backbone": [8, 8]}

    def add_callback(self, event: str, function: Any) -> None:
        self.callbacks[event].append(function)

    def train_model(self, build: Any) -> Any:
        trainer = SimpleNamespace(model=build(self.yaml))
        for function in self.callbacks["on_pretrain_routine_end"]:
            function(trainer)
        return trainer.model


IMAGE = torch.rand(1, 3, 16, 16)


def grafted() -> Any:
    return attn_surgeon.insert(Built({"nc": 2, "backbone": [8, 8]}), "se", after="model.0", example=IMAGE)


def test_building_from_it_raises() -> None:
    with pytest.raises(LostGraftError, match="would be without attn_surgeon's grafts"):
        Built(grafted().yaml)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda network: pickle.loads(pickle.dumps(network))])
def test_copies_of_the_network_have_it_and_raise_too(copied: Any) -> None:
    network = grafted()
    again = copied(network)
    assert again.yaml == network.yaml == {"nc": 2, "backbone": [8, 8]}
    again.yaml["backbone"].append(8)
    assert network.yaml["backbone"] == [8, 8]
    with pytest.raises(LostGraftError):
        Built(again.yaml)


def test_it_is_a_plain_one_again_without_grafts() -> None:
    network = grafted()
    assert Built(dict(network.yaml)).yaml == network.yaml
    removed: Any = attn_surgeon.remove(network)
    assert type(removed.yaml) is dict
    assert Built(removed.yaml)(IMAGE).shape == removed(IMAGE).shape


def test_it_is_a_plain_one_after_an_insertion_that_failed() -> None:
    network = Built({"nc": 2, "backbone": [8, 8]})
    yaml = network.yaml
    with pytest.raises(SurgeonError):
        attn_surgeon.insert(network, "se", after="model.9", example=IMAGE, inplace=True)
    assert network.yaml is yaml


def test_training_another_network_than_the_one_assigned_raises() -> None:
    owner = Owner(Built({"nc": 2, "backbone": [8, 8]}))
    assert owner.train_model(Built)(IMAGE).shape == (1, 8, 12, 12)
    owner.model = grafted()
    for trains in (owner, copy.deepcopy(owner), pickle.loads(pickle.dumps(owner))):
        with pytest.raises(LostGraftError, match="without the grafts of the one assigned"):
            trains.train_model(Built)
    assert owner.train_model(lambda yaml: grafted()) is not None
    owner.model = attn_surgeon.remove(owner.model)
    assert owner.train_model(Built)(IMAGE).shape == (1, 8, 12, 12)
