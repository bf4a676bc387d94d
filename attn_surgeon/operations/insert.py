"""Insert a block into a network: plan, install the grafts, check that the output did not change."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from attn_surgeon.blocks import BlockSpec, import_user_blocks
from attn_surgeon.errors import PlanError, SourceError
from attn_surgeon.operations.block_fitting import block_request, build_blocks
from attn_surgeon.operations.unknown_keywords import refuses_unknown_keywords
from attn_surgeon.surgery.compared_tensors import Evidence, gather
from attn_surgeon.surgery.edit import perform_checked, take_out
from attn_surgeon.surgery.graft_check import remember_example
from attn_surgeon.surgery.installed_grafts import bypassed, list_grafts, ran
from attn_surgeon.surgery.isolation import copied, isolates
from attn_surgeon.surgery.plan import Plan
from attn_surgeon.surgery.planner import make_plan
from attn_surgeon.surgery.running import Example, same_bits
from attn_surgeon.surgery.sites.selection import Selection, Selectors
from attn_surgeon.surgery.sites.survey import survey


@dataclass(frozen=True)
class OperatedNetwork:
    """A network with its new grafts, and the plan that was carried out."""

    model: nn.Module
    plan: Plan


@refuses_unknown_keywords
def insert(  # noqa: PLR0913 - every way to choose sites is a keyword of its own
    model: nn.Module,
    block: str,
    *,
    example: Example,
    at: Selectors = (),
    after: Selectors = (),
    before: Selectors = (),
    exclude: Selectors = (),
    min_channels: int = 0,
    every: int = 1,
    last: int = 0,
    with_: str = "",
    layout: str = "",
    options: Mapping[str, Any] | None = None,
    init: str = "identity",
    strict: bool = False,
    seed: int = 0,
    inplace: bool = False,
) -> nn.Module:
    """Return a network with an attention block inserted at the chosen sites.

    The block starts as exactly the identity, so the output is the original's bit for bit until the block is trained.
    The state dict keeps its keys and values, and gains those of the block. At least one of `at`, `after` and `before`
    names sites; selectors are dotted paths, node names, and globs over them such as `layer[34].*`. A site that already
    has a block gets another one, and both run.

    Args:
        model: the network. It is not changed, unless `inplace`.
        block: the name of a block such as `"cbam"`, of a registered one, `"file.py:Factory"`, or a stack such as
            `"se+spatial"`.
        example: one input that the network takes: a tensor, usually (N, C, H, W), a tuple of arguments, or a dict of
            keyword arguments.
        at: groups of sites such as `"residual"` or `"stages"`, or a group within a module: `"residual@layer3"`.
        after: selectors of the sites to insert after.
        before: selectors of the sites to insert before.
        exclude: selectors of sites to leave out, with everything inside them.
        min_channels: leave out sites with fewer channels.
        every: keep every n-th of the chosen sites, starting with the first.
        last: keep the last n of these; 0 keeps all.
        with_: the site whose output is the second input of a block of two inputs.
        layout: the layout of the tensors, such as `"NHWC"`, where it is inferred wrongly.
        options: options of the block, such as `{"reduction": 8}`.
        init: `"identity"`, or `"paper"` for the published initialisation, which changes the output.
        strict: raise PlanError where any chosen site cannot take the block, instead of leaving it out.
        seed: the seed of the block's randomly initialised layers.
        inplace: change `model` itself and return it.

    Returns:
        The network with its grafts: a copy, or `model` itself if `inplace`.

    Raises:
        BlockError: the block is unknown, or an option is invalid.
        SelectorError: a selector chooses no site.
        PlanError: no chosen site can take the block, or one cannot and `strict` is set.
        ExampleError: the network does not run on the example.
        SourceError: the model is no module, or has no weights.
        KeywordError: a keyword is unknown; options of the block belong in `options`.

    Example:
        >>> import torch, attn_surgeon
        >>> from attn_surgeon.networks.demo import load_demo
        >>> network, x = load_demo(), torch.randn(2, 1, 32, 32)
        >>> operated = attn_surgeon.insert(network, "cbam", at="residual", last=2, example=x)
        >>> [graft.place for graft in attn_surgeon.list_grafts(operated)]
        ['after layer3.0.bn2', 'after layer3.1.bn2']
        >>> torch.equal(operated(x), network(x))
        True
    """
    spec = _read_block(block, options, init)
    selection = Selection.read(
        at=at,
        after=after,
        before=before,
        exclude=exclude,
        min_channels=min_channels,
        every=every,
        last=last,
        with_=with_,
        layout=layout,
    )
    return insert_block(model, spec, selection, example, strict=strict, seed=seed, inplace=inplace).model


@refuses_unknown_keywords
def plan(  # noqa: PLR0913 - the arguments of insert
    model: nn.Module,
    block: str,
    *,
    example: Example,
    at: Selectors = (),
    after: Selectors = (),
    before: Selectors = (),
    exclude: Selectors = (),
    min_channels: int = 0,
    every: int = 1,
    last: int = 0,
    with_: str = "",
    layout: str = "",
    options: Mapping[str, Any] | None = None,
    init: str = "identity",
    strict: bool = False,
) -> Plan:
    """Return the grafts that `insert` would make with the same arguments, and the sites it would refuse.

    Nothing is changed. The output after surgery is not computed, so `insert` may still take another placement or refuse
    a site where the output would change.

    Args:
        model: the network.
        block: the block, as for `insert`.
        example: one input that the network takes, as for `insert`.
        at: groups of sites.
        after: selectors of the sites to insert after.
        before: selectors of the sites to insert before.
        exclude: selectors of sites to leave out, with everything inside them.
        min_channels: leave out sites with fewer channels.
        every: keep every n-th of the chosen sites, starting with the first.
        last: keep the last n of these; 0 keeps all.
        with_: the site whose output is the second input of a block of two inputs.
        layout: the layout of the tensors, where it is inferred wrongly.
        options: options of the block.
        init: `"identity"` or `"paper"`.
        strict: raise PlanError where any chosen site cannot take the block.

    Returns:
        The plan; printed, it is the table of `attn-surgeon insert --dry-run`.

    Raises:
        BlockError: the block is unknown, or an option is invalid.
        SelectorError: a selector chooses no site.
        PlanError: no chosen site can take the block, or one cannot and `strict` is set.
        ExampleError: the network does not run on the example.

    Example:
        >>> import torch, attn_surgeon
        >>> from attn_surgeon.networks.demo import load_demo
        >>> plan = attn_surgeon.plan(load_demo(), "cbam", at="stages", example=torch.zeros(1, 1, 32, 32))
        >>> [(graft.place, graft.feature.channels, graft.parameters) for graft in plan.grafts]
        [('after layer1', 16, 182), ('after layer2', 32, 262), ('after layer3', 64, 680)]
    """
    selection = Selection.read(
        at=at,
        after=after,
        before=before,
        exclude=exclude,
        min_channels=min_channels,
        every=every,
        last=last,
        with_=with_,
        layout=layout,
    )
    return plan_insertion(model, _read_block(block, options, init), selection, example, strict=strict)


def _read_block(block: str, options: Mapping[str, Any] | None, init: str) -> BlockSpec:
    return BlockSpec.read(import_user_blocks(block) if isinstance(block, str) else block, options or {}, init)


@isolates
def plan_insertion(
    model: nn.Module, spec: BlockSpec, selection: Selection, example: Example, *, strict: bool = False
) -> Plan:
    """Plan the insertion of one block at the chosen sites; nothing is changed."""
    plan = make_plan(survey(model, example), selection, block_request(spec))
    plan.require(strict=strict)
    return plan


@isolates
def insert_block(
    model: nn.Module,
    spec: BlockSpec,
    selection: Selection,
    example: Example,
    *,
    strict: bool = False,
    seed: int = 0,
    inplace: bool = False,
) -> OperatedNetwork:
    """Plan and install grafts; where the network's output would change, try other placements or refuse the site."""
    _require_values(model)
    planned = plan_insertion(model, spec, selection, example, strict=strict)
    reference = gather(model, example)
    operated = model if inplace else copied(model)
    blocks = build_blocks(operated, planned.grafts, seed)
    find_fault = _fault_finder(operated, example, reference, () if spec.init == "identity" else blocks)
    outcome = perform_checked(operated, planned.grafts, blocks, find_fault)
    result = Plan(outcome.made, (*planned.refusals, *outcome.refused), planned.notes)
    try:
        result.require(strict=strict)
    except PlanError:
        new = {id(graft) for graft in outcome.made}
        take_out(operated, lambda graft: id(graft) in new)
        raise
    remember_example(operated, example)
    return OperatedNetwork(operated, result)


def _require_values(model: nn.Module) -> None:
    """Raise SourceError for a network without weights: the output after surgery could not be compared."""
    if isinstance(model, nn.Module) and any(tensor.is_meta for tensor in (*model.parameters(), *model.buffers())):
        what = "the network is on the meta device, so it has no weights"
        raise SourceError(what, "", "load them first, with network.to_empty(device='cpu') and load_state_dict")


def _fault_finder(
    model: nn.Module, example: Example, reference: Evidence, bypass: Sequence[nn.Module]
) -> Callable[[], str]:
    """Return a function that runs the network and returns what is wrong after surgery, or an empty text.

    The output must be the reference's bit for bit, and every graft must run. The blocks in `bypass`, which do not start
    as the identity, return their input in this run.
    """

    def find_fault() -> str:
        with bypassed(bypass), ran(model) as not_run:
            same = same_bits(gather(model, example).values, reference.values)
        if not_run:
            return _why_not_run(model, next(graft.owner for graft in list_grafts(model) if graft.path in not_run))
        return "" if same else "the network's output would change"

    return find_fault


def _why_not_run(model: nn.Module, owner: str) -> str:
    """Return the reason why a graft does not run though its network does."""
    names = owner.split(".")
    paths = [".".join(names[:depth]) for depth in range(len(names) + 1)]
    replaced = [path for path in paths if "forward" in vars(model.get_submodule(path))]
    if replaced:
        where = f"'{replaced[-1]}'" if replaced[-1] else "the network"
        return (
            f"a block would not run there: the forward of {where} was replaced on the object by one that is bound to "
            "the original network, not to the copy; insert with inplace=True"
        )
    return "a block would not run there: a fused kernel replaces the modules around it"
