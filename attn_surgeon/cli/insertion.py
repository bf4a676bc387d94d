"""Insert blocks, certify, write the artefact and print the result, for `insert` and `run`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from attn_surgeon.cli.files import size_text, writable
from attn_surgeon.cli.output import console, is_quiet, print_certificate, print_json, print_note, print_plan, show_steps
from attn_surgeon.errors import for_command_line

if TYPE_CHECKING:
    from rich.console import Console

    from attn_surgeon.artefact.insertion import Insertion, InsertionResult
    from attn_surgeon.artefact.open_network import LoadedNetwork
    from attn_surgeon.blocks import BlockSpec
    from attn_surgeon.surgery.plan import Plan


@dataclass(frozen=True)
class InsertionOptions:
    """How blocks are inserted and which file is written; without a `target`, only the plan is printed."""

    target: Path | None
    strict: bool = False
    seed: int = 0
    verify: bool = True
    patch: bool = False
    as_json: bool = False


def output_file(network: str, specs: Sequence[BlockSpec], output: str | None, *, force: bool) -> Path:
    """Return the file to write, by default named after the network and the blocks; raise ArtefactError if it exists.

    The network is not loaded.
    """
    from attn_surgeon.artefact.open_network import network_name

    if output is None:
        blocks = "-".join(dict.fromkeys(_file_name(spec.name) for spec in specs))
        output = f"{network_name(network)}-{blocks}.safetensors"
    return writable(output, force=force)


def _file_name(block: str) -> str:
    """Return a block's name for a file name: for `file.py:Factory`, the factory."""
    return "+".join(part.rpartition(":")[2] for part in block.split("+"))


def read_plan(file: str, network: str, *, trust: bool) -> list[Insertion]:
    """Return the insertions of a recipe, to make in another network than the one that it names."""
    from attn_surgeon.artefact.insertion import Insertion
    from attn_surgeon.artefact.recipe import read_recipe
    from attn_surgeon.artefact.trust import trusted_recipe
    from attn_surgeon.blocks import BlockSpec, import_user_blocks

    read = trusted_recipe(read_recipe(file), file, source=network, trust=trust)
    return [
        Insertion(BlockSpec.read(import_user_blocks(each.block), each.options, each.init), each.selection())
        for each in (step.insert for step in read.operations)
    ]


def insert_and_write(loaded: LoadedNetwork, insertions: Sequence[Insertion], options: InsertionOptions) -> None:
    """Insert the blocks, certify, write and print; if the certificate fails, write nothing and exit with 1."""
    if not options.as_json:
        for note in loaded.notes:
            print_note(note)
    if options.target is None:
        _dry_run(loaded, insertions, options)
        return
    result = _insert(loaded, insertions, options)
    written = options.target if result.certificate is None or result.certificate.passed else None
    if written is not None:
        _write(result, written, options)
    if options.as_json:
        print_json(_document(loaded, result, written))
    else:
        _print(result, written, options)
    if written is None:
        raise typer.Exit(1)


def _insert(loaded: LoadedNetwork, insertions: Sequence[Insertion], options: InsertionOptions) -> InsertionResult:
    from attn_surgeon.artefact.insertion import perform_insertions

    with show_steps("insert") as progress:
        return perform_insertions(
            loaded,
            insertions,
            strict=options.strict,
            seed=options.seed,
            verify=options.verify,
            progress=progress,
        )


def _write(result: InsertionResult, target: Path, options: InsertionOptions) -> None:
    from attn_surgeon.artefact.save import require_base_again, save

    if options.patch:
        require_base_again(result.model)
    save(result.model, target, patch=options.patch, certificate=result.certificate, overwrite=True)


def _dry_run(loaded: LoadedNetwork, insertions: Sequence[Insertion], options: InsertionOptions) -> None:
    from attn_surgeon.operations.insert import plan_insertion
    from attn_surgeon.surgery.plan import join_plans

    plan = join_plans(
        plan_insertion(loaded.model, item.spec, item.selection, loaded.example, strict=options.strict)
        for item in insertions
    )
    if options.as_json:
        print_json({"plan": plan_document(plan)})
    else:
        print_plan(plan, console())
        console().print("\n[dim]dry run: nothing was changed or written[/]")


def _print(result: InsertionResult, written: Path | None, options: InsertionOptions) -> None:
    out = console()
    if not is_quiet():
        _print_plan_and_certificate(result, out)
    if written is None:
        out.print("[bold red]the certificate failed, and nothing was written[/]; --no-verify writes it anyway")
        return
    kind = "patch" if options.patch else "artefact"
    out.print(f"wrote the {kind} [bold]{escape(str(written))}[/] ({size_text(written)})", soft_wrap=True)


def _print_plan_and_certificate(result: InsertionResult, out: Console) -> None:
    print_plan(result.plan, out)
    out.print()
    if result.certificate is not None:
        print_certificate(result.certificate, out)
        out.print()
    else:
        out.print("[yellow]no certificate was made[/]; attn-surgeon verify makes one")
    if any(graft.block["init"] == "paper" for graft in result.plan.grafts):
        out.print("[yellow]the output is not the original's[/]: --init paper starts blocks as published")


def plan_document(plan: Plan) -> dict[str, Any]:
    """Return a plan as plain data."""
    return {
        "grafts": [graft.to_dict() for graft in plan.grafts],
        "refusals": [asdict(refusal) for refusal in plan.refusals],
        "notes": [for_command_line(note) for note in plan.notes],
        "parameters": sum(graft.parameters for graft in plan.grafts),
    }


def _document(loaded: LoadedNetwork, result: InsertionResult, written: Path | None) -> dict[str, Any]:
    return {
        "source": loaded.provenance.source.to_dict(),
        "notes": list(loaded.notes),
        "plan": plan_document(result.plan),
        "certificate": result.certificate and result.certificate.to_dict(),
        "output": written and str(written),
    }
