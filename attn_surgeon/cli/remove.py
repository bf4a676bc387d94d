"""`attn-surgeon remove`: remove grafts from an artefact."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from attn_surgeon.cli import completion
from attn_surgeon.cli.files import artefact_or_newest, size_text, writable
from attn_surgeon.cli.options import ArtefactPath, AsJson, Force, Output, Own, Source, Trust, Weights
from attn_surgeon.cli.output import console, print_json, show_steps
from attn_surgeon.cli.site_options import After, At, Before, Exclude
from attn_surgeon.errors import counted


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon remove demo-cbam.safetensors --after 'layer3*' -o back.safetensors")(
        remove
    )


def remove(
    artefact: ArtefactPath = None,
    selector: Annotated[
        str | None,
        typer.Argument(
            help="Remove the grafts on either side of these sites; globs work.",
            autocompletion=completion.sites,
            show_default="every graft",
        ),
    ] = None,
    at: At = None,
    after: After = None,
    before: Before = None,
    exclude: Exclude = None,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    weights: Weights = None,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Remove the grafts at the chosen sites, by default all, and write the network without them."""
    path = artefact_or_newest(artefact)
    target = writable(output or f"{Path(path).stem}-removed.safetensors", force=force)

    from attn_surgeon.artefact.open_network import open_network
    from attn_surgeon.artefact.save import save
    from attn_surgeon.operations.remove import remove as remove_grafts
    from attn_surgeon.surgery.installed_grafts import list_grafts

    with show_steps(f"read {path}"):
        loaded = open_network(path, source=source, trust=trust, weights=weights)
        model = loaded.model
        original = [item.graft for item in list_grafts(model)]
        remove_grafts(
            model,
            selector,
            at=at or (),
            after=after or (),
            before=before or (),
            exclude=exclude or (),
            example=loaded.example,
            inplace=True,
        )
        save(model, target, overwrite=True)
    left = [item.graft for item in list_grafts(model)]
    if as_json:
        removed = [graft.site for graft in original if graft not in left]
        sites = [graft.site for graft in left]
        print_json({"artefact": path, "removed": removed, "left": sites, "output": str(target)})
        return
    kept = f"{len(left)} left" if left else "the original is back"
    removed_count = f"{len(original) - len(left)} of {counted(len(original), 'graft')}"
    text = f"removed {removed_count}, {kept}; wrote [bold]{escape(str(target))}[/]"
    console().print(f"{text} ({size_text(target)})", soft_wrap=True)
