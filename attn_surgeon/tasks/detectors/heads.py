"""Replace the layers of a detector whose number of outputs depends on the classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attn_surgeon.errors import TrainingError, first_few
from attn_surgeon.surgery.installed_grafts import list_grafts


@dataclass(frozen=True)
class ClassLayer:
    """A layer whose number of outputs depends on the classes.

    Args:
        path: its dotted path.
        outputs: the new number of outputs.
        initialise: initialises the new layer, which has PyTorch's initialisation before.
    """

    path: str
    outputs: int
    initialise: Callable[[Any], object] = lambda layer: None


def replace_layers(model: nn.Module, layers: Iterable[ClassLayer], seed: int) -> None:
    """Replace layers in place by new ones with other numbers of outputs.

    Args:
        model: the network.
        layers: the layers to replace, `nn.Linear`, `nn.Conv2d` or `nn.ConvTranspose2d`.
        seed: the seed of the new weights.

    Raises:
        TrainingError: grafts depend on the number of outputs, or a layer is of another type.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        set_layers(model, {layer.path: _new_layer(model.get_submodule(layer.path), layer) for layer in layers})


def set_layers(model: nn.Module, layers: Mapping[str, nn.Module]) -> None:
    """Set the layers at these paths in place, on the devices and with the types of those that they replace.

    Raises:
        TrainingError: grafts depend on the number of outputs of these layers.
    """
    _require_no_grafts(model, layers)
    for path, layer in layers.items():
        weight: Any = model.get_submodule(path).weight
        model.set_submodule(path, layer.to(weight.device, weight.dtype))


def _new_layer(old: nn.Module, layer: ClassLayer) -> nn.Module:
    """Return a layer like the old one, on its device, with new weights for another number of outputs."""
    if not isinstance(old, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        what = f"the head has a layer of type {type(old).__name__}, which cannot be replaced for other classes"
        raise TrainingError(what, layer.path, "build the network for these classes and insert again")
    new, axis = deepcopy(old), 1 if isinstance(old, nn.ConvTranspose2d) else 0
    shape = [layer.outputs if number == axis else side for number, side in enumerate(old.weight.shape)]
    # drawn on the CPU in float32, so that the weights are the same on every device
    new.weight = nn.Parameter(torch.empty(shape))
    if old.bias is not None:
        new.bias = nn.Parameter(torch.empty(layer.outputs))
    setattr(new, "out_features" if isinstance(old, nn.Linear) else "out_channels", layer.outputs)
    new.reset_parameters()
    with torch.no_grad():
        layer.initialise(new)
    return new


def _require_no_grafts(model: nn.Module, paths: Iterable[str]) -> None:
    """Raise TrainingError for grafts on outputs of these layers, whose channels are those of the old classes."""
    modules = dict(model.named_modules(remove_duplicate=False))
    inside = {path[:end] for path in paths for end in _ends(path)}
    places = [
        graft.place
        for graft in list_grafts(model)
        if (graft.graft.side == "after" and graft.graft.site in inside)
        or (graft.graft.site not in modules and graft.graft.site.rpartition(".")[0] in inside)
    ]
    if places:
        what = f"the head is replaced for other classes, and grafts are in it: {first_few(places)}"
        raise TrainingError(what, "the grafts", "remove these grafts, or insert them after the head was replaced")


def _ends(path: str) -> list[int]:
    """Return the lengths of a dotted path and of its parents' paths."""
    return [end for end in range(1, len(path) + 1) if path[end : end + 1] in ("", ".")]
