"""`attn-surgeon remove`: take grafts out of an artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from attn_surgeon.cli import completion
from attn_surgeon.cli.files import artefact_or_newest, size_text, writable
from attn_surgeon.cli.options import ArtefactPath, AsJson, Force, Output, Own, Source, Weights
from attn_surgeon.cli.output import console, print_json, steps


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon remove demo-cbam.safetensors 'layer3*' -o back.safetensors")(remove)


def remove(
    artefact: ArtefactPath = None,
    selector: Annotated[
        str, typer.Argument(help="The grafts' sites; globs work.", autocompletion=completion.sites)
    ] = "**",
    source: Source = None,
    own: Own = None,
    weights: Weights = None,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Take the grafts at the chosen sites out, by default all, and write the network without them."""
    from attn_surgeon.artefact.load import load
    from attn_surgeon.artefact.save import save
    from attn_surgeon.operations.remove import remove as take_out
    from attn_surgeon.surgery.installed import list_grafts

    path = artefact_or_newest(artefact)
    target = writable(output or f"{Path(path).stem}-removed.safetensors", force=force)
    with steps(f"read {path}"):
        model = load(path, source=source, weights=weights)
        before = [made.graft.site for made in list_grafts(model)]
        take_out(model, selector, inplace=True)
        save(model, target)
    left = [made.graft.site for made in list_grafts(model)]
    if as_json:
        removed = [site for site in before if site not in left]
        print_json({"artefact": path, "removed": removed, "left": left, "output": str(target)})
        return
    kept = f"{len(left)} left" if left else "the original is back"
    text = f"removed {len(before) - len(left)} of {len(before)} grafts, {kept}; wrote [bold]{escape(str(target))}[/]"
    console().print(f"{text} ({size_text(target)})", soft_wrap=True)
