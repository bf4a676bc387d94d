"""Build blocks for the feature at a site: its channels, layout, device and dtype."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import nn

from attn_surgeon.blocks import BlockSpec, SecondInput, build_block
from attn_surgeon.blocks.base.gate_report import is_identity
from attn_surgeon.blocks.base.user_blocks import require_runs
from attn_surgeon.surgery.installed_grafts import InstalledGraft, list_grafts
from attn_surgeon.surgery.plan import Graft, UnfitError
from attn_surgeon.surgery.planner import BlockRequest
from attn_surgeon.surgery.running import parameter_device
from attn_surgeon.surgery.sites.layouts import Feature


def fit_block(spec: BlockSpec, feature: Feature, second: Feature | None) -> nn.Module:
    """Build a block for a feature, and a second one for a block of two inputs; raise UnfitError where it cannot run.

    A user's own block is built and run once on the CPU, because its code need not run on the meta device, where plans
    build blocks.
    """
    try:
        if not spec.has_user_code:
            return _build(spec, feature, second)
        with torch.device("cpu"):
            block = _build(spec, feature, second)
            require_runs(block, *[item.shape for item in (feature, second) if item is not None])
            return block
    except ValueError as error:
        raise UnfitError(str(error)) from None


def block_request(spec: BlockSpec) -> BlockRequest:
    """Return a block as the planner takes it."""
    return BlockRequest(partial(fit_block, spec), spec.to_dict(), spec.inputs)


def _build(spec: BlockSpec, feature: Feature, second: Feature | None) -> nn.Module:
    return build_block(
        spec,
        feature.channels,
        layout=feature.layout,
        prefix=feature.prefix,
        grid=feature.grid,
        positions=feature.positions,
        other=None if second is None else SecondInput(second.channels, second.layout, second.prefix, second.grid),
    )


def build_blocks(model: nn.Module, grafts: Sequence[Graft], seed: int) -> list[nn.Module]:
    """Build the blocks of planned grafts, on the device of their owners and in the dtype of their features."""
    blocks = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for graft in grafts:
            block = fit_block(BlockSpec(**graft.block), graft.feature, graft.second)
            device = parameter_device(model.get_submodule(graft.placement.owner)) or parameter_device(model)
            blocks.append(block.to(device=device, dtype=getattr(torch, graft.feature.dtype)))
    return blocks


def identity_grafts(model: nn.Module) -> list[InstalledGraft]:
    """Return the grafts that are still exactly the identity."""
    return [item for item in list_grafts(model) if is_identity(item.block)]


def redraw_grafts(model: nn.Module, seed: int) -> None:
    """Draw the initial weights of a network's grafts with another seed, in place.

    Grafts that are not the identity keep their weights, which may be trained.
    """
    grafts = identity_grafts(model)
    for item, drawn in zip(grafts, build_blocks(model, [item.graft for item in grafts], seed), strict=True):
        item.block.load_state_dict(drawn.state_dict())
