"""What trains and at which rate: parameter groups, what is frozen, and the modules that stay in eval mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_surgeon.graph.running import run
from attn_surgeon.graph.surgery import list_grafts
from attn_surgeon.operations import build_blocks
from attn_surgeon.train.settings import Settings, TrainingError


def parameter_groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """Split what trains into base and grafts, each with and without weight decay; `names` says what is where.

    Norms and what is one-dimensional do not decay, nor does a graft's gate: decay would pull it back to the identity.
    """
    grafts, spared = _graft_names(model), _gate_names(model) | _norm_names(model)
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "grafts" if name in grafts else "base"
        decays = parameter.ndim > 1 and name not in spared
        group = groups.setdefault(f"{part}{'' if decays else ' without decay'}", _group(part, decays, settings))
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise TrainingError("nothing is left to train", f"--freeze {settings.freeze}", "freeze less")
    return [{"group": name, **group} for name, group in groups.items()]


def _group(part: str, decays: bool, settings: Settings) -> dict[str, Any]:
    rate = settings.lr * (settings.graft_lr_mult if part == "grafts" else 1.0)
    decay = settings.weight_decay if decays else 0.0
    return {"params": [], "names": [], "lr": rate, "peak": rate, "weight_decay": decay}


def _graft_names(model: nn.Module) -> set[str]:
    """Name the grafts' parameters."""
    return {f"{made.path}.{name}" for made in list_grafts(model) for name, _ in made.block.named_parameters()}


def _norm_names(model: nn.Module) -> set[str]:
    """Name the parameters of norms, whatever their shape."""
    norms = ((path, module) for path, module in model.named_modules() if "Norm" in type(module).__name__)
    return {f"{path}.{name}" for path, module in norms for name, _ in module.named_parameters(recurse=False)}


def _gate_names(model: nn.Module) -> set[str]:
    """Name the parameters that make grafts the identity: those that a fresh block has at zero."""
    made = list_grafts(model)
    fresh = build_blocks(model, [item.graft for item in made], seed=0)
    return {
        f"{item.path}.{name}"
        for item, block in zip(made, fresh, strict=True)
        for name, parameter in block.named_parameters()
        if not bool(parameter.any())
    }


def freeze(model: nn.Module, settings: Settings, example: Tensor) -> None:
    """Switch off the gradients of what is not to train: the base but its head, or the base's BatchNorms, or nothing."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    if settings.freeze == "base":
        kept = _graft_names(model) | {f"{head}.{name}" for head in _head(model, example) for name in ("weight", "bias")}
        kept |= _norm_names(model) if settings.train_norms else set()
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in kept)
    if settings.freeze == "bn":
        for module in _base_norms(model):
            module.requires_grad_(False)


def start_training(model: nn.Module, settings: Settings) -> None:
    """Put a network in train mode, but leave BatchNorms whose statistics are frozen in eval mode."""
    model.train()
    if settings.freeze != "none":
        for module in _base_norms(model):
            module.eval()


def _base_norms(model: nn.Module) -> list[nn.Module]:
    """List the BatchNorms that are no graft's."""
    own = tuple(f"{made.path}." for made in list_grafts(model))
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and not f"{name}.".startswith(own)
    ]


def _head(model: nn.Module, example: Tensor) -> list[str]:
    """Find the head: the last linear layer or 1×1 convolution to run whose outputs are the network's."""
    ran: list[tuple[str, int]] = []
    handles = [
        module.register_forward_hook(lambda own, args, out, name=name: ran.append((name, out.shape[1])))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    ]
    try:
        output = run(model, example)
    finally:
        for handle in handles:
            handle.remove()
    width = output.shape[1] if isinstance(output, torch.Tensor) else None
    return [name for name, outputs in ran if outputs == width][-1:]
