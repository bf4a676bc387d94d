"""Raise where ultralytics is about to train a network without the grafts of the one assigned to `YOLO(...).model`.

A YOLO made from a YAML file reads that file again to train, and does not look at the network that it has. But it calls
its callbacks with the trainer before the first epoch. So a callback is added to it when a network with grafts is
assigned, which PyTorch reports to its module registration hooks.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from attn_surgeon.errors import LostGraftError
from attn_surgeon.surgery.rewrite.grafts import grafts_of

_EVENT = "on_pretrain_routine_end"  # the trainer has built its network


@cache
def watch_assignments() -> None:
    """Add the callback to each YOLO that a network with grafts is assigned to from now on."""
    register_module_module_registration_hook(_on_assignment)


def _on_assignment(owner: nn.Module, name: str, network: nn.Module | None) -> None:
    """Add the callback to the owner of a network with grafts, and remove it from that of another network."""
    callbacks = vars(owner).get("callbacks") if name == "model" else None
    if not isinstance(callbacks, dict) or not hasattr(type(owner), "add_callback"):
        return
    called: list[Any] = callbacks.setdefault(_EVENT, [])
    if _raise_without_grafts in called:
        called.remove(_raise_without_grafts)
    if network is not None and _has_grafts(network):
        called.append(_raise_without_grafts)


def _has_grafts(network: nn.Module) -> bool:
    return any(grafts_of(part) for part in network.modules())


def _raise_without_grafts(trainer: Any) -> None:
    if not _has_grafts(trainer.model):
        raise LostGraftError(
            "ultralytics builds the network that it trains from its YAML, without the grafts of the one assigned to it",
            "",
            "train with YOLO of attn_surgeon.integrations.ultralytics, such as YOLO(network).train(...)",
        )
