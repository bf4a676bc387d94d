"""One group of sites in one network: operate, check everything the contracts say, and undo."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from unittest import mock

from torch import Tensor, nn

from attn_surgeon.blocks import BlockSpec
from attn_surgeon.errors import PlanError, first_line
from attn_surgeon.operations import insert as operations
from attn_surgeon.operations.block_fitting import block_request, build_blocks
from attn_surgeon.surgery.edit import perform_checked, take_out
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.plan import Plan
from attn_surgeon.surgery.planner import make_plan
from attn_surgeon.surgery.rewrite.operated_modules import is_operated
from attn_surgeon.surgery.running import run_network, same_bits
from attn_surgeon.surgery.sites.selection import Selection
from attn_surgeon.surgery.sites.survey import Survey

from .cases import Case
from .checks import Verdict, same_and_alive, same_in_eval, same_in_train

_REDUCTION = 16
_SHOWN = 20


@dataclass
class GroupRow:
    """What became of one group: true where a check came out well, a reason or false where not."""

    sites: int = 0
    grafted: int = 0
    how: dict[str, int] = field(default_factory=dict)
    refusals: int = 0
    refused: list[str] = field(default_factory=list)
    identity_eval: Verdict = None
    identity_train: Verdict = None
    keys_kept: Verdict = None
    gradients: Verdict = None
    removed: Verdict = None
    error: str = ""

    def shortfalls(self) -> list[str]:
        """List what did not come out well."""
        checks = ("identity_eval", "identity_train", "keys_kept", "gradients", "removed")
        found = [(name, getattr(self, name)) for name in checks if self.grafted]
        wrong = [f"{name}: {verdict}" for name, verdict in found if verdict not in (True, "meta")]
        return [self.error, *wrong] if self.error else wrong


@dataclass(frozen=True)
class Values:
    """The state of a network before surgery: tensors by key, and the classes of its modules."""

    tensors: dict[str, Tensor]
    classes: list[tuple[str, type]]


def values_of(model: nn.Module) -> Values:
    """Copy a network's tensors and note its classes."""
    tensors = {key: value.detach().clone() for key, value in model.state_dict().items()}
    return Values(tensors, [(path, type(module)) for path, module in model.named_modules()])


def sweep_group(case: Case, found: Survey, group: str, block: str, values: Values) -> GroupRow:
    """Insert a block at every site of a group, check the network, and take the grafts out again."""
    pairs = found.groups.get(group, ())
    row = GroupRow(sites=len(pairs))
    if not pairs:
        return row
    try:
        _note(row, _operate(case, found, group, block))
        row.identity_train = same_in_train(case)
        row.identity_eval, row.gradients = same_and_alive(case)
        row.keys_kept = _keeps(case, values)
    except PlanError as error:
        row.refused = [str(error)]
    except Exception as error:
        row.error = f"{type(error).__name__}: {first_line(error)}"
    row.removed = _removed(case, values)
    return row


def _operate(case: Case, found: Survey, group: str, block: str) -> Plan:
    """Operate on the group in place; without values, a surgery is right if the network runs to the same shapes."""
    spec, choice = _spec(found, group, block), Selection(at=(group,))
    if not case.meta:
        with mock.patch.object(operations, "survey", lambda *_: found):  # it is the same network each time
            return operations.insert_block(case.model, spec, choice, case.example, inplace=True).plan
    plan = make_plan(found, choice, block_request(spec))
    plan.require(strict=False)
    blocks = build_blocks(case.model, plan.grafts, 0)
    outcome = perform_checked(
        case.model, plan.grafts, blocks, lambda: "" if same_in_eval(case) == "meta" else "it differs"
    )
    return Plan(outcome.made, (*plan.refusals, *outcome.refused))


def _spec(found: Survey, group: str, block: str) -> BlockSpec:
    """Give SE a reduction that the narrowest site of the group takes; other blocks keep their options."""
    sides = dict(found.groups[group])
    features = [site.feature(sides[site.name]) for site in found.sites if site.name in sides]
    narrowest = min((feature.channels for feature in features if feature is not None), default=_REDUCTION)
    return BlockSpec.read(block, {"reduction": max(1, min(_REDUCTION, narrowest))} if block == "se" else {})


def _note(row: GroupRow, plan: Plan) -> None:
    row.grafted = len(plan.grafts)
    row.how = dict(Counter(graft.placement.how for graft in plan.grafts))
    row.refusals = len(plan.refusals)
    row.refused = [f"{item.side} {item.site}: {item.reason}" for item in plan.refusals[:_SHOWN]]


def _keeps(case: Case, values: Values) -> Verdict:
    """Say whether the original's keys are all there, with their values bit for bit."""
    theirs = case.model.state_dict()
    lost = [key for key, value in values.tensors.items() if not _same(case, value, theirs.get(key))]
    return _some(lost)


def _removed(case: Case, values: Values) -> Verdict:
    """Take all grafts out; say whether classes, keys, values and output are the original's again."""
    if list_grafts(case.model):
        take_out(case.model, lambda graft: True)
    now = case.model.state_dict()
    if any(is_operated(module) for module in case.model.modules()):
        return "modules are still operated on"
    if [(path, type(module)) for path, module in case.model.named_modules()] != values.classes:
        return "classes differ"
    if list(now) != list(values.tensors):
        return "keys differ"
    if not all(_same(case, value, now[key]) for key, value in values.tensors.items()):
        return "values differ"
    if case.meta:
        return True
    return same_bits(run_network(case.model, case.example), case.reference.evaluated) or "output differs"


def _same(case: Case, mine: Tensor, theirs: Tensor | None) -> bool:
    if theirs is None or case.meta:
        return theirs is not None and mine.shape == theirs.shape
    return same_bits(mine, theirs)


def _some(names: Sequence[str]) -> Verdict:
    return True if not names else f"{len(names)} differ: {', '.join(names[:3])}"
