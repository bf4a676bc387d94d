"""Put blocks into a network, and take them out again: plan, operate, check."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from attn_surgeon.blocks import BlockSpec, build_block
from attn_surgeon.errors import PlanError, SelectorError, nearest
from attn_surgeon.graph.layouts import Feature
from attn_surgeon.graph.plan import Graft, Plan, Request, UnfitError, make_plan
from attn_surgeon.graph.running import Example, parameter_device, run, same_bits
from attn_surgeon.graph.selectors import matches
from attn_surgeon.graph.sites import survey
from attn_surgeon.graph.surgery import bypassed, list_grafts, perform_checked, take_out

Selectors = str | Iterable[str]


@dataclass(frozen=True)
class Operation:
    """An operated network with the plan as it was carried out."""

    model: nn.Module
    plan: Plan


def insert(
    model: nn.Module,
    block: str,
    *,
    after: Selectors = (),
    before: Selectors = (),
    example: Example,
    options: Mapping[str, Any] | None = None,
    init: str = "identity",
    strict: bool = False,
    seed: int = 0,
    inplace: bool = False,
) -> nn.Module:
    """Insert an attention block at the chosen sites and return the operated network.

    `after` and `before` are selectors; `example` is an input (N, C, H, W), a tuple of arguments or a dict of keyword
    arguments. The block starts as exactly the identity unless `init="paper"`. The caller's model is not changed
    unless `inplace`. Raises BlockError, SelectorError or PlanError before anything is changed.
    """
    spec = BlockSpec.read(block, options or {}, init)
    requests = read_requests(after, before)
    return operate(model, spec, requests, example, strict=strict, seed=seed, inplace=inplace).model


def plan(
    model: nn.Module, spec: BlockSpec, requests: Sequence[Request], example: Example, *, strict: bool = False
) -> Plan:
    """Plan the insertion of one block at the requested sites; nothing is changed."""
    planned = make_plan(survey(model, example), requests, factory(spec), spec.to_dict())
    planned.require(strict=strict)
    return planned


def operate(
    model: nn.Module,
    spec: BlockSpec,
    requests: Sequence[Request],
    example: Example,
    *,
    strict: bool = False,
    seed: int = 0,
    inplace: bool = False,
) -> Operation:
    """Plan and make the grafts; where the network's output would change, go on to other placements or refuse."""
    found = survey(model, example)
    planned = make_plan(found, requests, factory(spec), spec.to_dict())
    planned.require(strict=strict)
    operated = model if inplace else copy.deepcopy(model)
    blocks = build_blocks(operated, planned.grafts, seed)
    reference = run(model, example)
    outcome = perform_checked(operated, planned.grafts, blocks, _unchanged(operated, example, reference, blocks, spec))
    result = Plan(outcome.made, (*planned.refusals, *outcome.refused))
    try:
        result.require(strict=strict)
    except PlanError:
        new = {id(graft) for graft in outcome.made}
        take_out(operated, lambda graft: id(graft) in new)
        raise
    return Operation(operated, result)


def _unchanged(
    model: nn.Module, example: Example, reference: Any, blocks: Sequence[nn.Module], spec: BlockSpec
) -> Callable[[], bool]:
    """Make the check of the surgery: the output is the original's, with the new blocks passing their input on
    where they do not start as the identity."""

    def check() -> bool:
        with bypassed(() if spec.init == "identity" else blocks):
            return same_bits(run(model, example), reference)

    return check


def factory(spec: BlockSpec) -> Callable[[Feature], nn.Module]:
    """Make the function that builds a block for a feature; it raises UnfitError where the block cannot run."""

    def build(feature: Feature) -> nn.Module:
        try:
            return build_block(
                spec,
                feature.channels,
                layout=feature.layout,
                prefix=feature.prefix,
                grid=feature.grid,
                positions=feature.positions,
            )
        except ValueError as error:
            raise UnfitError(str(error)) from None

    return build


def build_blocks(model: nn.Module, grafts: Sequence[Graft], seed: int) -> list[nn.Module]:
    """Build the blocks of planned grafts on their owners' device and in their features' precision."""
    blocks = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for graft in grafts:
            block = factory(BlockSpec(**graft.block))(graft.feature)
            owner = model.get_submodule(graft.placement.owner)
            device = parameter_device(owner) or parameter_device(model)
            blocks.append(block.to(device=device, dtype=getattr(torch, graft.feature.dtype)))
    return blocks


def read_requests(after: Selectors, before: Selectors) -> list[Request]:
    """Turn selectors into requests; raise SelectorError where there are none."""
    requests = [Request(text, "after") for text in _texts(after)]
    requests += [Request(text, "before") for text in _texts(before)]
    if not requests:
        raise SelectorError("no site is named", "", "name some with --after or --before")
    return requests


def _texts(selectors: Selectors) -> list[str]:
    texts = [selectors] if isinstance(selectors, str) else selectors
    listed = list(texts) if isinstance(texts, Iterable) else []
    if not isinstance(texts, Iterable) or not all(isinstance(text, str) for text in listed):
        raise SelectorError(f"a site is named by text, not by {selectors!r}", "", "such as after='layer3'")
    return listed


def remove(model: nn.Module, sites: Selectors = "**", *, inplace: bool = False) -> nn.Module:
    """Remove the grafts at the chosen sites, by default all; without grafts the network is the original again.

    `sites` are selectors. Raises SelectorError where one chooses no graft.
    """
    restored = model if inplace else copy.deepcopy(model)
    there = [made.graft.site for made in list_grafts(restored)]
    selectors = _texts(sites)
    for selector in selectors:
        if not any(matches(site, selector) for site in there):
            where = f"the network has {len(there)} grafts" if there else "the network has no grafts"
            hint = nearest(selector, there) or ", ".join(there[:5])
            raise SelectorError(f"no graft is at '{selector}'", where, hint)
    take_out(restored, lambda graft: any(matches(graft.site, selector) for selector in selectors))
    return restored
