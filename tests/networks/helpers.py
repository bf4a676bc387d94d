"""What the tests of sources share."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.errors import SurgeonError
from attn_surgeon.networks import Loaded, load_source, parse_source

SMALL = "test_resnet.r160_in1k"
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
NET = """
from dataclasses import dataclass
from torch import nn

@dataclass
class Sizes:
    width: int = 4

class Net(nn.Module):
    def __init__(self, width, classes):
        super().__init__()
        self.linear = nn.Linear(width, classes)

    def forward(self, x):
        return self.linear(x)

def small_net(width=4, classes=2):
    print("noise")
    return Net(Sizes(width).width, classes)

def needs(width):
    return Net(width, 2)

def fails():
    raise ValueError("no such luck\\nsecond line")

def leaves():
    raise SystemExit(3)

def wrong():
    return {"not": "a network"}

ready = Net(3, 2)
number = 5
"""


def load(text: str, *, weights: str = "none", **args: str) -> Loaded:
    return load_source(parse_source(text, args=args, weights=weights))


def refused(text: str, *, weights: str = "none", **args: str) -> SurgeonError:
    with pytest.raises(SurgeonError) as caught:
        load(text, weights=weights, **args)
    assert "\n" not in str(caught.value)
    return caught.value


def random(model: nn.Module) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(3)
    own = model.state_dict().items()
    return {k: torch.rand(v.shape, generator=generator) if v.is_floating_point() else v for k, v in own}


def holds(model: nn.Module, values: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    return set(own) == set(values) and all(torch.equal(own[key], value) for key, value in values.items())


def layer(model: nn.Module, name: str = "linear") -> Any:
    return model.get_submodule(name)
