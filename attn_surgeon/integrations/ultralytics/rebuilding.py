"""Put the grafts of one network into another that ultralytics has built from its YAML.

ultralytics' trainers never train the network that they are given: they build a new one from its `yaml` and copy what
fits of its weights. Between the two, the new network gets the grafts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.errors import LostGraftError
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.operations.block_fitting import build_blocks
from attn_surgeon.surgery.edit import perform
from attn_surgeon.surgery.graft_check import check, remember_example
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.plan import Graft
from attn_surgeon.surgery.sites.survey import find_sites

_SIDE = 64  # pixels of the example: two strides of the coarsest of the usual heads


def plain_yaml(yaml: Any) -> Any:
    """Return a YAML as ultralytics' constructors take it; they change it."""
    return dict(yaml) if isinstance(yaml, dict) else yaml


def example_of(network: nn.Module, side: int = _SIDE) -> Tensor:
    """Return an image of noise (1, C, side, side) from 0 to 1, on the network's device and in its dtype."""
    yaml: Any = getattr(network, "yaml", {})
    noise = torch.rand(1, yaml.get("channels", 3), side, side, generator=torch.Generator().manual_seed(0))
    return noise.to(next(network.parameters()))


def record_source(network: nn.Module, size: int, names: Mapping[int, str]) -> None:
    """Record the YAML that a network was built from, so that its artefacts are loaded without a pickle.

    Args:
        network: a network of ultralytics that its YAML describes, number of classes included.
        size: the side of its images in pixels.
        names: the names of its classes.
    """
    described: Any = network
    name, channels = described.yaml.get("yaml_file"), described.yaml.get("channels", 3)
    if name:
        source = SourceSpec("ultralytics", str(name), {"nc": described.yaml["nc"], "ch": channels}, "none")
        images = Preprocessing((0.0,) * channels, (1.0,) * channels, (size, size), channels)
        set_provenance(network, Provenance(source, images, tuple(names.values())))


def add_grafts(network: nn.Module, template: nn.Module, *, seed: int = 0) -> None:
    """Install the grafts of a template, freshly initialised, in a network that was built from the same YAML, in place.

    Args:
        network: a network of ultralytics, without grafts; it may have another number of classes.
        template: the network with grafts.
        seed: the seed of the blocks' random layers.
    """
    items = list_grafts(template)
    grafts = [item.graft for item in items]
    if head_shapes(network) != head_shapes(template):
        grafts = _fitted(network, grafts)
    perform(network, grafts, build_blocks(network, grafts, seed), [item.key for item in items])
    remember_example(network, example_of(network))


def head_shapes(network: nn.Module) -> list[torch.Size]:
    """Return the shapes of the head's parameters, whose widths depend on the number of classes."""
    layers: Any = network.model
    return [parameter.shape for name, parameter in layers[-1].named_parameters() if "attn_surgeon." not in name]


def _fitted(network: nn.Module, grafts: list[Graft]) -> list[Graft]:
    """Return the grafts for the tensors that the network has at their sites."""
    sites = {site.name: site for site in find_sites(network, example_of(network))}
    features = [sites[graft.site].feature(graft.side) if graft.site in sites else None for graft in grafts]
    return [
        replace(graft, feature=replace(graft.feature, channels=feature.channels, shape=feature.shape))
        if feature is not None
        else graft
        for graft, feature in zip(grafts, features, strict=True)
    ]


def require_outlasting(network: nn.Module) -> None:
    """Raise LostGraftError for grafts that ultralytics' `fuse` would lose, which val, predict and export call."""
    fused: Any = copied(network)
    try:
        check(fused.fuse(verbose=False), example_of(network))
    except LostGraftError as error:
        hint = "exclude the sites in the branch of the head that is removed, such as exclude='model.23.cv2.**'"
        raise LostGraftError(f"val, predict and export fuse the network: {error.what}", error.where, hint) from error
