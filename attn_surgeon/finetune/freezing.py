"""Freeze parts of a network: parameters without gradients, and BatchNorms that stay in eval mode."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from attn_surgeon.errors import TrainingError, excerpt, function, nearest, option
from attn_surgeon.finetune.parameter_groups import graft_names, norm_names
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import mode, seeded
from attn_surgeon.surgery.running import hooked, run_network, tensors


def freeze(model: nn.Module, settings: FinetuneSettings, example: Tensor) -> tuple[nn.Module, ...]:
    """Disable the gradients of frozen parameters; return the BatchNorms whose statistics are frozen too."""
    model.requires_grad_(True)
    if settings.freeze == "none":
        return ()
    if settings.freeze == "bn":
        kept = _base_norms(model)
        for norm in kept:
            norm.requires_grad_(False)
        return tuple(kept)
    if settings.freeze == "base":
        trained = (
            graft_names(model) | head_names(model, example) | (norm_names(model) if settings.train_norms else set())
        )
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name in trained)
        return tuple(_base_norms(model))
    return _freeze_until(model, settings.freeze.removeprefix("until:"), example)


def train_mode(model: nn.Module, frozen: tuple[nn.Module, ...]) -> None:
    """Put a network in train mode, but BatchNorms whose statistics are frozen in eval mode."""
    model.train()
    for norm in frozen:
        norm.eval()


def head_names(model: nn.Module, example: Tensor) -> set[str]:
    """Return the names of the head's parameters."""
    return {f"{head}.{name}" for head in heads(model, example) for name in ("weight", "bias")}


def heads(model: nn.Module, example: Tensor) -> list[str]:
    """Return the names of the head: the last linear layers or convolutions before the network's outputs.

    There are several if the network has several outputs, or sums the scores of several maps.
    """
    made: dict[Any, str] = {}
    handles = (
        module.register_forward_hook(lambda own, args, out, name=name: made.update({out.grad_fn: name}))
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d))
    )
    with hooked(handles):
        outputs = _with_gradients(model, example)
    return _first_behind([tensor.grad_fn for tensor in outputs], made)


def _with_gradients(model: nn.Module, example: Tensor) -> list[Tensor]:
    with mode(model, training=False), seeded(0), torch.enable_grad():
        return [tensor for tensor in tensors(model(example)) if tensor.grad_fn is not None]


def _first_behind(outputs: list[Any], made: dict[Any, str]) -> list[str]:
    """Follow the autograd graph back from the outputs to the first layer on each path; return their names."""
    heads: dict[str, None] = {}
    visited, ahead = set(outputs), list(outputs)
    while ahead:
        step = ahead.pop()
        if step in made:
            heads[made[step]] = None
            continue
        behind = [before for before, _ in step.next_functions if before is not None and before not in visited]
        visited.update(behind)
        ahead += behind
    return list(heads)


def _freeze_until(model: nn.Module, mark: str, example: Tensor) -> tuple[nn.Module, ...]:
    """Freeze the modules that run before a module, given by name or child index; grafts are always trained."""
    before = _ran_before(model, _module(model, mark, example), example)
    grafts = {id(part) for made in list_grafts(model) for part in made.block.modules()}
    frozen = [module for module in before if id(module) not in grafts]
    for module in frozen:
        for parameter in module.parameters(recurse=False):
            parameter.requires_grad_(False)
    return tuple(module for module in frozen if isinstance(module, _BatchNorm))


def _module(model: nn.Module, mark: str, example: Tensor) -> nn.Module:
    """Return the module with a name, or the child with an index in the order of execution."""
    known: dict[str, nn.Module] = dict(model.named_modules())
    if not mark.isdecimal() or len(mark) > 18:
        if mark in known and mark:
            return known[mark]
        hint = nearest(mark, known) or f"list modules: {function('find_sites(network, example)', 'inspect NETWORK')}"
        raise TrainingError(f"there is no module '{excerpt(mark)}'", option("freeze", f"until:{excerpt(mark)}"), hint)
    children = {id(child): child for child in model.children() if any(True for _ in child.parameters())}
    ran = [module for module in _order(model, example) if id(module) in children]
    if not int(mark) < len(ran):
        what = f"the network has {len(ran)} children"
        raise TrainingError(what, option("freeze", f"until:{mark}"), "name a module instead")
    return ran[int(mark)]


def _ran_before(model: nn.Module, mark: nn.Module, example: Tensor) -> list[nn.Module]:
    ran = _order(model, example)
    if not any(module is mark for module in ran):
        raise TrainingError("this module does not run", option("freeze"), "name one that does")
    end = next(place for place, module in enumerate(ran) if module is mark)
    holding = {id(module) for module in ran[:end] if any(part is mark for part in module.modules())}
    return [module for module in ran[:end] if id(module) not in holding]


def _order(model: nn.Module, example: Tensor) -> list[nn.Module]:
    """Return the modules in the order in which they first run."""
    ran: dict[nn.Module, None] = {}
    with hooked(module.register_forward_pre_hook(lambda own, args: ran.setdefault(own)) for module in model.modules()):
        run_network(model, example)
    return list(ran)


def _base_norms(model: nn.Module) -> list[nn.Module]:
    """Return the BatchNorms outside grafts."""
    own = tuple(f"{made.path}." for made in list_grafts(model))
    return [
        module
        for name, module in model.named_modules()
        if isinstance(module, _BatchNorm) and not f"{name}.".startswith(own)
    ]
