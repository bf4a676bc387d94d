"""What `insert` and `run` share: plan, operate, certify, write, and show it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from attn_surgeon.cli.files import size_text, writable
from attn_surgeon.cli.output import console, print_certificate, print_json, print_plan, say, steps
from attn_surgeon.errors import for_command_line

if TYPE_CHECKING:
    from attn_surgeon.artefact.insertion import Insertion, InsertionResult
    from attn_surgeon.artefact.opening import LoadedNetwork
    from attn_surgeon.surgery.plan import Plan


@dataclass(frozen=True)
class Wishes:
    """How a surgery is to be done and where its result goes."""

    strict: bool = False
    seed: int = 0
    dry_run: bool = False
    verify: bool = True
    patch: bool = False
    output: str | None = None
    force: bool = False
    as_json: bool = False


def carry_out(loaded: LoadedNetwork, insertions: Sequence[Insertion], wishes: Wishes) -> None:
    """Do what was asked and show it; exit 1 where the certificate fails, and write nothing then."""
    label = " and ".join(dict.fromkeys(insertion.spec.name for insertion in insertions))
    if not wishes.as_json:
        for note in loaded.notes:
            say(note)
    if wishes.dry_run:
        _dry_run(loaded, insertions, wishes, label)
        return
    block_names = "-".join(dict.fromkeys(_plain(insertion.spec.name) for insertion in insertions))
    target = writable(wishes.output or f"{loaded.name}-{block_names}.safetensors", force=wishes.force)
    result = _operate(loaded, insertions, wishes)
    written = result.certificate is None or result.certificate.passed
    if written:
        _write(result, target, wishes)
    if wishes.as_json:
        print_json(_document(loaded, result, target if written else None))
    else:
        _show(result, label, target if written else None, wishes)
    if not written:
        raise typer.Exit(1)


def _plain(block: str) -> str:
    """Name a block in a file's name: one of the user's own by its factory."""
    return "+".join(part.rpartition(":")[2] for part in block.split("+"))


def _operate(loaded: LoadedNetwork, insertions: Sequence[Insertion], wishes: Wishes) -> InsertionResult:
    from attn_surgeon.artefact.insertion import perform_insertions

    with steps("operate") as progress:
        return perform_insertions(
            loaded,
            insertions,
            strict=wishes.strict,
            seed=wishes.seed,
            verify=wishes.verify,
            progress=progress,
        )


def _write(result: InsertionResult, target: Path, wishes: Wishes) -> None:
    from attn_surgeon.artefact.save import require_base_again, save

    if wishes.patch:
        require_base_again(result.model)
    save(result.model, target, patch=wishes.patch, certificate=result.certificate)


def _dry_run(loaded: LoadedNetwork, insertions: Sequence[Insertion], wishes: Wishes, label: str) -> None:
    from attn_surgeon.operations.insert import plan_insertion
    from attn_surgeon.surgery.plan import join_plans

    made = join_plans(
        plan_insertion(loaded.model, item.spec, item.selection, loaded.example, strict=wishes.strict)
        for item in insertions
    )
    if wishes.as_json:
        print_json({"plan": plan_document(made)})
    else:
        print_plan(made, console())
        console().print("\n[dim]dry run: nothing was changed or written[/]")


def _show(result: InsertionResult, label: str, target: Path | None, wishes: Wishes) -> None:
    out = console()
    print_plan(result.plan, out)
    out.print()
    if result.certificate is not None:
        print_certificate(result.certificate, out)
        out.print()
    else:
        out.print("[yellow]no certificate was made[/]; attn-surgeon verify makes it")
    if any(graft.block["init"] == "paper" for graft in result.plan.grafts):
        out.print("[yellow]the output is not the original's[/]: with --init paper a block starts as published")
    if target is None:
        out.print("[bold red]nothing was written[/]; --no-verify writes it all the same")
        return
    kind = "patch" if wishes.patch else "artefact"
    out.print(f"wrote the {kind} [bold]{escape(str(target))}[/] ({size_text(target)})", soft_wrap=True)


def plan_document(plan: Plan) -> dict[str, Any]:
    """Describe a plan as plain data."""
    return {
        "grafts": [graft.to_dict() for graft in plan.grafts],
        "refusals": [asdict(refusal) for refusal in plan.refusals],
        "notes": [for_command_line(note) for note in plan.notes],
        "parameters": sum(graft.parameters for graft in plan.grafts),
    }


def _document(loaded: LoadedNetwork, result: InsertionResult, target: Path | None) -> dict[str, Any]:
    return {
        "source": loaded.provenance.source.to_dict(),
        "notes": list(loaded.notes),
        "plan": plan_document(result.plan),
        "certificate": result.certificate and result.certificate.to_dict(),
        "output": target and str(target),
    }
