"""Put blocks into a network, and take them out again: plan, operate, check."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Unpack

import torch
from torch import nn

from attn_surgeon.blocks import BlockSpec, Second, adopt, build_block
from attn_surgeon.blocks.base.own import probe
from attn_surgeon.errors import PlanError, SelectorError, SourceError, nearest
from attn_surgeon.surgery.check import remember_example
from attn_surgeon.surgery.evidence import Evidence, gather
from attn_surgeon.surgery.installed import bypassed, list_grafts, ran
from attn_surgeon.surgery.isolation import copied, isolates
from attn_surgeon.surgery.perform import perform_checked, take_out
from attn_surgeon.surgery.plan import Graft, Plan, UnfitError
from attn_surgeon.surgery.planner import Wanted, make_plan
from attn_surgeon.surgery.rewrite.assigned import wraps_grafts
from attn_surgeon.surgery.rewrite.expected import remembered
from attn_surgeon.surgery.running import Example, parameter_device, same_bits
from attn_surgeon.surgery.sites.choice import Choice, Selection, Selectors, read_texts
from attn_surgeon.surgery.sites.layouts import Feature
from attn_surgeon.surgery.sites.selectors import matches
from attn_surgeon.surgery.sites.survey import survey


@dataclass(frozen=True)
class Operation:
    """An operated network with the plan as it was carried out."""

    model: nn.Module
    plan: Plan


def insert(
    model: nn.Module,
    block: str,
    *,
    example: Example,
    options: Mapping[str, Any] | None = None,
    init: str = "identity",
    strict: bool = False,
    seed: int = 0,
    inplace: bool = False,
    **selection: Unpack[Selection],
) -> nn.Module:
    """Insert an attention block at the chosen sites and return the operated network.

    Sites are chosen `at` groups, and `after` or `before` what selectors name; `Choice` tells of the filters. `example`
    is an input (N, C, H, W), a tuple of arguments or a dict of keyword arguments. `block` is one of the catalogue, one
    that was registered, `file.py:Factory`, or a stack such as `se+spatial`. It starts as exactly the
    identity unless `init="paper"`. The caller's model is not changed unless `inplace`. Raises BlockError,
    SelectorError or PlanError before anything is changed.
    """
    spec = BlockSpec.read(adopt(block) if isinstance(block, str) else block, options or {}, init)
    choice = Choice.read(selection)
    return operate(model, spec, choice, example, strict=strict, seed=seed, inplace=inplace).model


@isolates
def plan(model: nn.Module, spec: BlockSpec, choice: Choice, example: Example, *, strict: bool = False) -> Plan:
    """Plan the insertion of one block at the chosen sites; nothing is changed."""
    planned = make_plan(survey(model, example), choice, wanted(spec))
    planned.require(strict=strict)
    return planned


@isolates
def operate(
    model: nn.Module,
    spec: BlockSpec,
    choice: Choice,
    example: Example,
    *,
    strict: bool = False,
    seed: int = 0,
    inplace: bool = False,
) -> Operation:
    """Plan and make the grafts; where the network's output would change, go on to other placements or refuse."""
    _require_values(model)
    planned = plan(model, spec, choice, example, strict=strict)
    reference = gather(model, example)
    operated = model if inplace else copied(model)
    blocks = build_blocks(operated, planned.grafts, seed)
    outcome = perform_checked(operated, planned.grafts, blocks, _fault(operated, example, reference, blocks, spec))
    result = Plan(outcome.made, (*planned.refusals, *outcome.refused))
    try:
        result.require(strict=strict)
    except PlanError:
        new = {id(graft) for graft in outcome.made}
        take_out(operated, lambda graft: id(graft) in new)
        raise
    remember_example(operated, example)
    return Operation(operated, result)


def _require_values(model: nn.Module) -> None:
    """Raise SourceError for a network without weights: the output after surgery could not be compared."""
    if isinstance(model, nn.Module) and any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        what = "the network is on the meta device, so it has no weights"
        raise SourceError(what, "", "give it some first, with network.to_empty(device='cpu') and load_state_dict")


def _fault(
    model: nn.Module, example: Example, reference: Evidence, blocks: Sequence[nn.Module], spec: BlockSpec
) -> Callable[[], str]:
    """Make the check of the surgery: the output is the original's, with the new blocks passing their input on
    where they do not start as the identity, and every graft runs."""

    def check() -> str:
        with bypassed(() if spec.init == "identity" else blocks), ran(model) as missed:
            same = same_bits(gather(model, example).values, reference.values)
        if missed:
            return _why_missed(model, next(made.owner for made in list_grafts(model) if made.path in missed))
        return "" if same else "the network's output would change"

    return check


def _why_missed(model: nn.Module, owner: str) -> str:
    """Return why a graft does not run though its network does."""
    names = owner.split(".")
    above = [".".join(names[:depth]) for depth in range(len(names) + 1)]
    replaced = [name for name in above if "forward" in vars(model.get_submodule(name))]
    if replaced:
        where = f"'{replaced[-1]}'" if replaced[-1] else "the network"
        return (
            f"a block would not run there: the forward of {where} was replaced on the object, by one that runs the "
            "network it was made for and not a copy; insert with inplace=True"
        )
    return "a block would not run there: a fused kernel takes the place of the modules around it"


def wanted(spec: BlockSpec) -> Wanted:
    """Tell the planner of a block; its factory raises UnfitError where the block cannot run."""

    def build(feature: Feature, second: Feature | None) -> nn.Module:
        make = partial(
            build_block,
            spec,
            feature.channels,
            layout=feature.layout,
            prefix=feature.prefix,
            grid=feature.grid,
            positions=feature.positions,
            other=_second(second),
        )
        try:
            return _probed(make, feature, second) if spec.own else make()
        except ValueError as error:
            raise UnfitError(str(error)) from None

    return Wanted(build, spec.to_dict(), spec.inputs)


def _probed(make: Callable[[], nn.Module], *features: Feature | None) -> nn.Module:
    """Make a user's block and try it once: on the CPU, for their code need not run where plans are made."""
    with torch.device("cpu"):
        block = make()
        probe(block, *[feature.shape for feature in features if feature is not None])
    return block


def _second(feature: Feature | None) -> Second | None:
    return None if feature is None else Second(feature.channels, feature.layout, feature.prefix, feature.grid)


def build_blocks(model: nn.Module, grafts: Sequence[Graft], seed: int) -> list[nn.Module]:
    """Build the blocks of planned grafts on their owners' device and in their features' precision."""
    blocks = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for graft in grafts:
            block = wanted(BlockSpec(**graft.block)).factory(graft.feature, graft.second)
            owner = model.get_submodule(graft.placement.owner)
            device = parameter_device(owner) or parameter_device(model)
            blocks.append(block.to(device=device, dtype=getattr(torch, graft.feature.dtype)))
    return blocks


def _require_unwrapped(model: nn.Module) -> None:
    """Raise PlanError where a wrapper keeps a forward with grafts alive that removing them could not reach."""
    wrapped = [path or "the network" for path, module in model.named_modules() if wraps_grafts(module)]
    if wrapped:
        raise PlanError(
            f"the forward of {wrapped[0]} is wrapped by a function that holds on to the grafts",
            "" if len(wrapped) == 1 else f"and those of {len(wrapped) - 1} modules more",
            "take the wrapper off first, such as with accelerator.unwrap_model(network, keep_fp32_wrapper=False)",
        )


def remove(model: nn.Module, sites: Selectors = "**", *, inplace: bool = False) -> nn.Module:
    """Remove the grafts at the chosen sites, by default all; without grafts the network is the original again.

    `sites` are selectors. Raises SelectorError where one chooses no graft.
    """
    _require_unwrapped(model)
    restored = model if inplace else copied(model)
    lost = [record.site for module in restored.modules() for record in remembered(module)]
    there = list(dict.fromkeys([*(made.graft.site for made in list_grafts(restored)), *lost]))
    selectors = read_texts(sites)
    for selector in selectors:
        if not any(matches(site, selector) for site in there):
            where = f"the network has {len(there)} grafts" if there else "the network has no grafts"
            hint = nearest(selector, there) or ", ".join(there[:5])
            raise SelectorError(f"no graft is at '{selector}'", where, hint)
    take_out(restored, lambda graft: any(matches(graft.site, selector) for selector in selectors))
    return restored
