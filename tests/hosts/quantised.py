"""Hosts that change weights to integers or put adapters beside them."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from .networks import Placements, Tiny

LORA = Placements("base_model.model.stem", "base_model.model.block.bn2", "base_model.model.block.conv2")


def dynamic(network: nn.Module, x: Any) -> Any:
    from torch.ao.quantization import quantize_dynamic

    return quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)  # type: ignore[no-untyped-call]


def fused_for_quantisation(network: nn.Module, x: Any) -> Any:
    from torch.ao.quantization import fuse_modules

    names = [["stem.0", "stem.1", "stem.2"], ["block.conv1", "block.bn1"], ["block.conv2", "block.bn2"]]
    return fuse_modules(network, names)  # type: ignore[no-untyped-call]


def static(network: nn.Module, x: Any) -> Any:
    """Quantise weights and activations over a traced graph, with the example as calibration."""
    from torch.ao.quantization import get_default_qconfig_mapping
    from torch.ao.quantization.quantize_fx import convert_fx, prepare_fx

    prepared = prepare_fx(network, get_default_qconfig_mapping("x86"), (x,))
    prepared(x)
    return convert_fx(prepared)


def weight_only(network: nn.Module, x: Any) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig, quantize_

    quantize_(network, Int8WeightOnlyConfig())
    return network


def lora(network: nn.Module, x: Any) -> Any:
    """Put adapters on every convolution and the head, and merge them again."""
    return _adapted(network).merge_and_unload()


def lora_unmerged(network: nn.Module, x: Any) -> Any:
    return _adapted(network)


def _adapted(network: nn.Module) -> Any:
    from peft import LoraConfig, get_peft_model

    targets = [
        name for name, module in network.named_modules() if isinstance(module, nn.Conv2d) and "attn_surgeon" not in name
    ]
    return get_peft_model(network, LoraConfig(target_modules=targets, r=2)).eval()


def with_lora() -> nn.Module:
    """Build a network that has adapters already, with weights that do something."""
    adapted: nn.Module = _adapted(Tiny())
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, 0, 0.1)
    return adapted


def merged(network: Any, x: Any) -> Any:
    """Merge the adapters that were there before the grafts."""
    return network.merge_and_unload()
