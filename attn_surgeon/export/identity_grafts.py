"""Find and remove the grafts that are exactly the identity, which need not be exported."""

from __future__ import annotations

from torch import nn

from attn_surgeon.blocks.base.gate_report import is_identity
from attn_surgeon.surgery.edit import take_out
from attn_surgeon.surgery.installed_grafts import InstalledGraft, list_grafts
from attn_surgeon.surgery.isolation import copied


def closed_grafts(model: nn.Module) -> list[InstalledGraft]:
    """Return the grafts of a network that are exactly the identity."""
    return [graft for graft in list_grafts(model) if is_identity(graft.block)]


def without_closed(model: nn.Module) -> nn.Module:
    """Return a copy of a network without the grafts that are exactly the identity."""
    closed = {installed.path for installed in closed_grafts(model)}
    copy = copied(model)
    chosen = {id(installed.graft) for installed in list_grafts(copy) if installed.path in closed}
    take_out(copy, lambda graft: id(graft) in chosen)
    return copy
