"""Insert blocks into a network and certify the result."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from attn_surgeon.artefact.load import load
from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.save import save
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.operations.insert import insert_block
from attn_surgeon.progress import StepProgress, no_steps
from attn_surgeon.surgery.certificate import Certificate, certify
from attn_surgeon.surgery.edit import take_out
from attn_surgeon.surgery.gradient_check import ignored_grafts, why_ignored
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import copied
from attn_surgeon.surgery.plan import Plan, Refusal, join_plans
from attn_surgeon.surgery.sites.selection import Selection


@dataclass(frozen=True)
class Insertion:
    """One block to insert at the chosen sites."""

    spec: BlockSpec
    selection: Selection


@dataclass(frozen=True)
class InsertionResult:
    """The operated network, the plan of the inserted grafts, and the certificate, or None if none was requested."""

    model: nn.Module
    plan: Plan
    certificate: Certificate | None


def perform_insertions(
    loaded: LoadedNetwork,
    insertions: Sequence[Insertion],
    *,
    strict: bool = False,
    seed: int = 0,
    verify: bool = True,
    progress: StepProgress = no_steps,
) -> InsertionResult:
    """Insert blocks in order, and certify the result against the network without grafts unless `verify` is off."""
    model = copied(loaded.model) if verify else loaded.model
    plans = []
    for insertion in insertions:
        progress(f"insert {insertion.spec.name}")
        done = insert_block(
            model,
            insertion.spec,
            insertion.selection,
            loaded.example,
            strict=strict,
            seed=seed,
            inplace=True,
        )
        plans.append(done.plan)
    plan = join_plans(plans)
    if not verify:
        return InsertionResult(model, plan, None)
    plan = _without_ignored(model, plan, loaded, strict=strict)
    return InsertionResult(model, plan, certify_loaded(loaded.base(), model, loaded, progress))


def _without_ignored(model: nn.Module, plan: Plan, loaded: LoadedNetwork, *, strict: bool) -> Plan:
    """Remove the grafts that cannot affect the output, and list them as refusals.

    If no graft can affect the output, all are kept, and the certificate fails.
    """
    unused = [item for item in ignored_grafts(model, loaded.example) if item.graft in plan.grafts]
    if len(unused) == len(plan.grafts):
        return plan
    ignored = [item.graft for item in unused]
    refusals = [Refusal(item.graft.site, item.graft.side, why_ignored(item)) for item in unused]
    kept = tuple(graft for graft in plan.grafts if graft not in ignored)
    reduced = Plan(kept, (*plan.refusals, *refusals), plan.notes)
    reduced.require(strict=strict)
    take_out(model, lambda graft: graft in ignored)
    return reduced


def certify_loaded(
    original: nn.Module, model: nn.Module, loaded: LoadedNetwork, progress: StepProgress = no_steps
) -> Certificate:
    """Certify an operated network against its original, including a check that saving and loading keeps it.

    Grafts with `init="paper"` are not the identity; they are bypassed when outputs are compared.
    """
    return certify(
        original,
        model,
        loaded.example,
        expect_identity=all(item.graft.block["init"] == "identity" for item in list_grafts(model)),
        round_trip=lambda network: _saved_and_loaded(network, original),
        progress=progress,
    )


def _saved_and_loaded(model: nn.Module, original: nn.Module) -> nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        save(model, path)
        return load(path, model=original)
