"""`attn-surgeon run` and `attn-surgeon recipes`: replay a model's story."""

from __future__ import annotations

from typing import Annotated

import typer

from attn_surgeon.cli.files import writable
from attn_surgeon.cli.options import AsJson, Force, Output, Weights
from attn_surgeon.cli.output import console, print_json, steps, table
from attn_surgeon.cli.surgery import Wishes, carry_out


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
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Make no certificate.")] = False,
    patch: Annotated[bool, typer.Option("--patch", help="Write only the grafts and the base's hash.")] = False,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Replay a recipe: build its network, make its insertions, certify and write the artefact."""
    from attn_surgeon.artefact.insertion import Insertion
    from attn_surgeon.artefact.opening import open_network
    from attn_surgeon.artefact.recipe import read_recipe
    from attn_surgeon.blocks import BlockSpec, adopt

    story = read_recipe(recipe)
    steps_ = [operation.insert for operation in story.operations]
    insertions = [
        Insertion(BlockSpec.read(adopt(item.block), item.options, item.init), item.selection()) for item in steps_
    ]
    target = output or story.output
    if target is not None and not dry_run:
        writable(target, force=force)
    with steps(f"open {story.source.name}"):
        loaded = open_network(
            story.source.name,
            weights=weights or story.source.weights,
            args=story.source.args,
            images=story.images,
        )
    carry_out(
        loaded,
        insertions,
        Wishes(story.strict, story.seed, dry_run, not no_verify, patch, target, force, as_json),
    )


def recipes(as_json: AsJson = False) -> None:
    """List the recipes in ./recipes and those that come with the package."""
    from attn_surgeon.artefact.recipe import first_comment, list_recipes

    found = list_recipes()
    if as_json:
        print_json({name: str(path) for name, path in found.items()})
        return
    rows = [[name, first_comment(path), str(path)] for name, path in found.items()]
    console().print(table(f"{len(rows)} recipes", ["recipe", "what it does", "file"], rows))
