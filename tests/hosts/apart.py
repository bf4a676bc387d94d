"""Hosts that take a network apart: parts of it, in another order of calls."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .host import call
from .networks import Placements, Residual, Tiny, seeded

CUT = Placements("last", "block.bn2", "block")
SLICE = Placements("1", "1.bn2", "1")
HEAD = Placements("last", "block.bn2", "fc")


def flowing_into(name: str) -> Any:
    """Make what gives the input of a module when the network runs."""

    @torch.no_grad()
    def expected(network: nn.Module, x: Any) -> Any:
        seen: list[Any] = []
        handle = network.get_submodule(name).register_forward_pre_hook(lambda module, inputs: seen.extend(inputs))
        call(network, x)
        handle.remove()
        return seen[0]

    return expected


def children_cut(network: nn.Module, x: Any) -> Any:
    return nn.Sequential(*list(network.children())[:-2])


def named_children_cut(network: nn.Module, x: Any) -> Any:
    """Take the children up to a name, as torchvision's IntermediateLayerGetter does."""
    from torchvision.models._utils import IntermediateLayerGetter

    getter = IntermediateLayerGetter(network, {"last": "features"})
    return lambda x: getter(x)["features"]


def sequential() -> nn.Module:
    stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
    return nn.Sequential(stem, Residual(), nn.Conv2d(8, 16, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def sliced(network: Any, x: Any) -> Any:
    return network[:2]


def iterated(network: Any, x: Any) -> Any:
    def run(x: Any) -> Any:
        for layer in network:
            x = layer(x)
        return x

    return run


def indexed(network: Any, x: Any) -> Any:
    def run(x: Any) -> Any:
        for index in range(len(network)):
            x = network[index](x)
        return x

    return run


def extended(network: Any, x: Any) -> Any:
    return nn.Sequential(*network, nn.Identity())


def head_replaced(network: Any, x: Any) -> Any:
    """Put in another head; with the same weights, so that outputs can be compared."""
    head = nn.Linear(network.fc.in_features, network.fc.out_features)
    head.load_state_dict({key: value for key, value in network.fc.state_dict().items() if key in ("weight", "bias")})
    network.fc = head
    return network


def children_replaced(network: Any, x: Any) -> Any:
    """Put in modules of another network, as one does with weights from elsewhere."""
    other: Any = seeded(Tiny)
    network.stem, network.block = other.stem, other.block
    return network


def head_dropped(network: Any, x: Any) -> Any:
    network.fc = nn.Identity()
    return network


def appended(network: Any, x: Any) -> Any:
    """Append to a Sequential in the network."""
    network.stem.append(nn.Identity())
    return network


def submodule_called(network: Any, x: Any) -> Any:
    """Call the network's stages from outside, as a wrapper that wants features does."""
    return lambda x: network.last(network.block(network.stem(x)))


def feature_list(network: nn.Module, x: Any) -> Any:
    from timm.models._features import FeatureListNet

    return FeatureListNet(network, out_indices=(4,))


def feature_hooks(network: nn.Module, x: Any) -> Any:
    from timm.models._features import FeatureHookNet

    return FeatureHookNet(network, out_indices=(4,))


def intermediates(network: Any, x: Any) -> Any:
    return lambda x: network.forward_intermediates(x, indices=(4,), intermediates_only=True)


def pooled_features(network: Any, x: Any) -> Any:
    return lambda x: network.forward_head(network.forward_features(x))


def head_reset(network: Any, x: Any) -> Any:
    network.reset_classifier(0)
    return network
