"""Build the optimizer and its parameter groups, with learning rates and weight decay."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from attn_surgeon.blocks.base.gate_report import closing_parameters
from attn_surgeon.errors import TrainingError, first_line, nearest, option
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.surgery.installed_grafts import list_grafts


def require_optimizer(name: str) -> None:
    """Raise TrainingError if timm has no optimizer of this name."""
    from timm.optim import list_optimizers

    known = list_optimizers()
    if name not in known:
        hint = nearest(name, known) or "timm's are adamw, sgd, lamb, lion …"
        raise TrainingError(f"unknown optimizer '{name}'", option("optimizer"), hint)


def make_optimizer(model: nn.Module, settings: FinetuneSettings) -> torch.optim.Optimizer:
    """Return one of timm's optimizers for all trained parameters; raise TrainingError if timm cannot build it."""
    from timm.optim import create_optimizer_v2

    try:
        groups = parameter_groups(model, settings)
        made: torch.optim.Optimizer = create_optimizer_v2(groups, settings.optimizer, settings.base_rate, momentum=0.9)
    except (AssertionError, ImportError, TypeError, ValueError) as error:
        what = f"timm cannot build it: {first_line(error)}"
        raise TrainingError(
            what, option("optimizer", settings.optimizer), f"try {option('optimizer', 'adamw')}"
        ) from error
    return made


def parameter_groups(model: nn.Module, settings: FinetuneSettings) -> list[dict[str, Any]]:
    """Return the trained parameters in groups: base and grafts, each with and without weight decay.

    Norms, one-dimensional parameters and gates have no weight decay, which would pull gates back to the identity.
    With layer-wise decay the base has a group for each layer. `names` of a group lists its parameters.
    """
    grafts, spared = graft_names(model), _gate_names(model) | norm_names(model)
    layers = _layer_scales(model, settings.layer_decay)
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        part = "grafts" if name in grafts else "base"
        layer, scale = layers.get(name, (None, 1.0)) if part == "base" else (None, 1.0)
        rate = scale * (settings.base_rate if part == "base" else settings.graft_rate)
        decays = parameter.ndim > 1 and name not in spared
        title = part + ("" if layer is None else f" layer {layer}") + ("" if decays else " without decay")
        group = groups.setdefault(title, _group(title, rate, settings.weight_decay if decays else 0.0))
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise TrainingError("nothing is left to train", option("freeze", settings.freeze), "freeze less")
    return list(groups.values())


def _group(title: str, rate: float, decay: float) -> dict[str, Any]:
    return {"group": title, "params": [], "names": [], "lr": rate, "peak": rate, "weight_decay": decay}


def _layer_scales(model: nn.Module, decay: float) -> dict[str, tuple[int, float]]:
    """Return the index of each parameter's layer, counted from the input, and the factor of its learning rate."""
    if decay == 1:
        return {}
    from timm.models import group_parameters

    matcher = getattr(model, "group_matcher", None)
    found = group_parameters(model, matcher(coarse=False), reverse=True) if matcher else layer_numbers(model)
    last = max(found.values())
    return {name: (layer, decay ** (last - layer)) for name, layer in found.items()}


def layer_numbers(model: nn.Module) -> dict[str, int]:
    """Return the index of each parameter's layer in a network that is not timm's, in the order of definition.

    A layer is the outermost module that is no container and holds at most half of all parameters, together with the
    norm behind it: `conv1` with `bn1`, `layer1.0`, `layer1.1`, …, `fc` in a ResNet, also in one that is a child of
    another module.
    """
    half = sum(parameter.numel() for parameter in model.parameters()) / 2
    found: dict[str, int] = {}
    layers: list[nn.Module] = []

    def visit(module: nn.Module, path: str) -> None:
        count = sum(parameter.numel() for parameter in module.parameters())
        children = [(name, child) for name, child in module.named_children() if any(True for _ in child.parameters())]
        if children and (isinstance(module, (nn.Sequential, nn.ModuleList, nn.ModuleDict)) or count > half):
            found.update({path + name: max(len(layers) - 1, 0) for name, _ in module.named_parameters(recurse=False)})
            for name, child in children:
                visit(child, f"{path}{name}.")
            return
        if not layers or "Norm" not in type(module).__name__:
            layers.append(module)
        found.update({path + name: len(layers) - 1 for name, _ in module.named_parameters()})

    visit(model, "")
    return found


def graft_names(model: nn.Module) -> set[str]:
    """Return the names of the grafts' parameters."""
    return {f"{made.path}.{name}" for made in list_grafts(model) for name, _ in made.block.named_parameters()}


def norm_names(model: nn.Module) -> set[str]:
    """Return the names of the parameters of norms, whatever their shape."""
    norms = ((path, module) for path, module in model.named_modules() if "Norm" in type(module).__name__)
    return {f"{path}.{name}" for path, module in norms for name, _ in module.named_parameters(recurse=False)}


def _gate_names(model: nn.Module) -> set[str]:
    """Return the names of the parameters that make grafts the identity at zero."""
    return {f"{made.path}.{name}" for made in list_grafts(model) for name in closing_parameters(made.block)}
