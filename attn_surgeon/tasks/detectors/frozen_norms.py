"""Notice activations that transformers loses where it freezes the norms of a timm backbone.

It replaces every `nn.BatchNorm2d` by a frozen one with an epsilon of 1e-5. In many networks of timm, such as
EfficientNets, these modules are of the subclass `BatchNormAct2d`, which computes the activation too.
"""

from __future__ import annotations

import torch
from torch import nn

_EPSILON = 1e-5  # of transformers' frozen norms


def lost_activations(network: nn.Module) -> str | None:
    """Return a note on a timm backbone in which transformers replaced norms with activations; None without one."""
    for backbone in network.modules():
        architecture = getattr(backbone, "default_cfg", {}).get("architecture")
        if architecture and type(backbone).__module__.startswith("timm.") and _has_frozen_norms(backbone):
            return _note(architecture)
    return None


def _has_frozen_norms(backbone: nn.Module) -> bool:
    kinds = {type(module) for module in backbone.modules()}
    return any(
        kind.__module__.startswith("transformers.") and kind.__name__.endswith("FrozenBatchNorm2d") for kind in kinds
    )


def _note(architecture: str) -> str | None:
    import timm
    from timm.layers import BatchNormAct2d

    if not timm.is_model(architecture):
        return None
    with torch.device("meta"):
        norms = [module for module in timm.create_model(architecture).modules() if isinstance(module, BatchNormAct2d)]
    lost = [norm for norm in norms if not isinstance(norm.act, nn.Identity)]
    if not lost:
        return None
    epsilon = f", and their epsilon is {_EPSILON:g} instead of {lost[0].eps:g}" if lost[0].eps != _EPSILON else ""
    return (
        f"transformers froze the norms of {architecture} without the activations they compute{epsilon}: timm's"
        " pretrained weights do not fit, and training may diverge; choose a backbone such as resnet50, whose"
        " activations are modules of their own"
    )
