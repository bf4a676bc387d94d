"""`attn-surgeon run` and `attn-surgeon recipes`: replay a model's read."""

from __future__ import annotations

from typing import Annotated

import typer

from attn_surgeon.cli.options import AsJson, Force, Output, Weights
from attn_surgeon.cli.output import console, print_json, steps, table
from attn_surgeon.cli.site_options import DryRun, NoVerify, Patch
from attn_surgeon.cli.surgery import SurgeryOptions, carry_out, output_file


def register(app: typer.Typer) -> None:
    """Add both verbs."""
    app.command(epilog="Example: attn-surgeon run demo-cbam")(run)
    app.command(epilog="Example: attn-surgeon recipes")(recipes)


def _recipe_names(incomplete: str) -> list[str]:
    from attn_surgeon.artefact.recipe import list_recipes

    return [name for name in list_recipes() if name.startswith(incomplete)]


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe by name or path.", autocompletion=_recipe_names)],
    weights: Weights = None,
    dry_run: DryRun = False,
    no_verify: NoVerify = False,
    patch: Patch = False,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Replay a recipe: build its network, make its insertions, certify and write the artefact."""
    from attn_surgeon.artefact.insertion import Insertion
    from attn_surgeon.artefact.opening import open_network
    from attn_surgeon.artefact.recipe import read_recipe
    from attn_surgeon.blocks import BlockSpec, adopt

    read = read_recipe(recipe)
    requests = [operation.insert for operation in read.operations]
    insertions = [
        Insertion(BlockSpec.read(adopt(item.block), item.options, item.init), item.selection()) for item in requests
    ]
    specs = [insertion.spec for insertion in insertions]
    target = None if dry_run else output_file(read.source.name, specs, output or read.output, force=force)
    with steps(f"open {read.source.name}"):
        loaded = open_network(
            read.source.name,
            weights=weights or read.source.weights,
            args=read.source.args,
            images=read.images,
        )
    carry_out(loaded, insertions, SurgeryOptions(target, read.strict, read.seed, not no_verify, patch, as_json))


def recipes(as_json: AsJson = False) -> None:
    """List the recipes in ./recipes and those that come with the package."""
    from attn_surgeon.artefact.recipe import first_comment, list_recipes

    found = list_recipes()
    if as_json:
        print_json({name: str(path) for name, path in found.items()})
        return
    rows = [[name, first_comment(path), str(path)] for name, path in found.items()]
    console().print(table(f"{len(rows)} recipes", ["recipe", "what it does", "file"], rows))
