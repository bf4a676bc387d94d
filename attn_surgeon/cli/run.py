"""`attn-surgeon run` builds artefacts from recipes; `attn-surgeon recipes` lists, shows, copies and validates them."""

from __future__ import annotations

import shutil
import sys
from typing import Annotated

import typer
from rich.markup import escape

from attn_surgeon.artefact.header import ARTEFACT_SUFFIX
from attn_surgeon.cli.files import writable
from attn_surgeon.cli.insertion import InsertionOptions, insert_and_write, output_file
from attn_surgeon.cli.options import AsJson, Force, Output, Own, Source, Trust, Weights
from attn_surgeon.cli.output import console, print_json, print_note, show_steps, table
from attn_surgeon.cli.site_options import DryRun, NoVerify, Patch


def register(app: typer.Typer) -> None:
    """Add both commands to the app."""
    app.command(epilog="Example: attn-surgeon run demo-cbam")(run)
    group = typer.Typer(invoke_without_command=True, epilog="Example: attn-surgeon recipes show demo-cbam")
    group.callback()(recipes)
    for command in (show, copy, validate):
        group.command()(command)
    app.add_typer(group, name="recipes")


def _recipe_names(incomplete: str) -> list[str]:
    from attn_surgeon.artefact.recipe import list_recipes

    return [name for name in list_recipes() if name.startswith(incomplete)]


RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe, by name or path.", autocompletion=_recipe_names)
]


def run(
    recipe: RecipeName,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    weights: Weights = None,
    dry_run: DryRun = False,
    no_verify: NoVerify = False,
    patch: Patch = False,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Run a recipe: build its network, insert its blocks, certify the result and write the artefact.

    Code that a recipe names, factories of networks and blocks, runs only with --source, --own or --trust.
    """
    from attn_surgeon.artefact.insertion import Insertion
    from attn_surgeon.artefact.open_network import open_network
    from attn_surgeon.artefact.recipe import read_recipe
    from attn_surgeon.artefact.trust import code_named, trusted_recipe
    from attn_surgeon.blocks import BlockSpec, import_user_blocks

    read = trusted_recipe(read_recipe(recipe), recipe, source=source, trust=trust)
    if code := code_named(read):
        print_note(f"running code of {', '.join(code)}")
    requests = [operation.insert for operation in read.operations]
    insertions = [
        Insertion(BlockSpec.read(import_user_blocks(item.block), item.options, item.init), item.selection())
        for item in requests
    ]
    specs = [insertion.spec for insertion in insertions]
    target = None if dry_run else output_file(read.source.name, specs, output or read.output, force=force)
    with show_steps(f"open {read.source.name}"):
        loaded = open_network(
            read.source.name,
            weights=weights or read.source.weights,
            args=read.source.args,
            images=read.images,
            source=source if read.source.name.endswith(ARTEFACT_SUFFIX) else None,
            trust=trust,
        )
    insert_and_write(
        loaded, insertions, InsertionOptions(target, read.strict, read.seed, not no_verify, patch, as_json)
    )


def recipes(context: typer.Context, as_json: AsJson = False) -> None:
    """List the recipes in ./recipes and those that come with the package; show, copy or validate one."""
    if context.invoked_subcommand is not None:
        return
    from attn_surgeon.artefact.recipe import first_comment, list_recipes

    found = list_recipes()
    if as_json:
        print_json({name: str(path) for name, path in found.items()})
        return
    rows = [[name, first_comment(path), str(path)] for name, path in found.items()]
    console().print(table(f"{len(rows)} recipes", ["recipe", "what it does", "file"], rows))


def show(recipe: RecipeName) -> None:
    """Print a recipe."""
    from attn_surgeon.artefact.recipe import find_recipe

    sys.stdout.write(find_recipe(recipe).read_text(encoding="utf-8", errors="replace"))


def copy(
    recipe: RecipeName,
    output: Annotated[str, typer.Argument(metavar="FILE", help="The file to write; by default NAME.yaml.")] = "",
    force: Force = False,
) -> None:
    """Copy a recipe to edit it."""
    from attn_surgeon.artefact.recipe import find_recipe
    from attn_surgeon.files import replacing

    source = find_recipe(recipe)
    target = writable(output or source.name, force=force, suffixes=(".yaml", ".yml"), option="FILE")
    with replacing(target) as temporary:
        shutil.copyfile(source, temporary)
    console().print(f"wrote [bold]{escape(str(target))}[/]; run it with: attn-surgeon run {escape(str(target))}")


def validate(recipe: RecipeName, as_json: AsJson = False) -> None:
    """Check a recipe's entries, its block names and their options; build nothing."""
    from attn_surgeon.artefact.recipe import read_recipe
    from attn_surgeon.artefact.trust import code_named
    from attn_surgeon.blocks import BlockSpec

    read = read_recipe(recipe)
    inserts = [step.insert for step in read.operations]
    for insert in inserts:
        insert.selection()
        if ":" not in insert.block:  # code of the user's own is not run to validate a recipe
            BlockSpec.read(insert.block, insert.options, insert.init)
    blocks = [insert.block for insert in inserts]
    code = code_named(read)
    if as_json:
        print_json({"recipe": recipe, "valid": True, "source": read.source.name, "blocks": blocks, "code": code})
        return
    needs = f"; it names code, which runs with --trust: {', '.join(code)}" if code else ""
    console().print(escape(f"{recipe} is valid: {', '.join(blocks)} into {read.source.name}{needs}"), soft_wrap=True)
