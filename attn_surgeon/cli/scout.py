"""`attn-surgeon scout`: score blocks at sites before any training, and write a plan."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from attn_surgeon.cli import completion
from attn_surgeon.cli.files import writable
from attn_surgeon.cli.options import (
    AllowPartial,
    Arguments,
    AsJson,
    Force,
    Mean,
    Network,
    Own,
    Size,
    Source,
    Std,
    Trust,
    Weights,
    open_from_options,
)
from attn_surgeon.cli.output import (
    console,
    json_text,
    note_missing_pictures,
    print_json,
    print_note,
    progress_bar,
    rich_table,
    show_steps,
)
from attn_surgeon.cli.site_options import After, Before, Exclude
from attn_surgeon.optional_dependencies import is_installed

YAML = (".yaml", ".yml")


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon scout demo --data demo-clutter --blocks se,cbam -o scout.yaml")(scout)


def scout(
    network: Network,
    data: Annotated[str, typer.Option(metavar="DATA", help="Data as for finetune; its training images are used.")],
    blocks: Annotated[
        str, typer.Option(metavar="BLOCKS", help="Blocks to try at each site, with commas between them.")
    ] = "se,eca,cbam,coord,cpca,gc",
    at: Annotated[
        str | None,
        typer.Option(
            metavar="GROUPS",
            help="Groups of sites, with commas between them (default: stages,residual).",
            autocompletion=completion.groups,
            show_default=False,
        ),
    ] = None,
    after: After = None,
    before: Before = None,
    exclude: Exclude = None,
    budget: Annotated[
        str, typer.Option(metavar="SIZE", help="Most parameters to add: 5% of the network's, or a number.")
    ] = "5%",
    latency: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT", help="Most time to add for one image: 10% of the network's.", show_default=False
        ),
    ] = None,
    score: Annotated[
        str, typer.Option(metavar="NAME", help="Definition of the score that the set is chosen by.")
    ] = "gain",
    every_score: Annotated[
        bool, typer.Option("--every-score", help="Compute all definitions of the score, for the report.")
    ] = False,
    task: Annotated[
        str | None, typer.Option(metavar="NAME", help="Task (default: inferred from the data).", show_default=False)
    ] = None,
    batches: Annotated[int, typer.Option(metavar="N", help="Batches to score on.", min=1, max=10**6)] = 16,
    batch_size: Annotated[int, typer.Option(metavar="N", help="Images per batch.", min=1, max=10**6)] = 32,
    head_images: Annotated[
        int, typer.Option(metavar="N", help="Most images to fit a head on.", min=1, max=10**9)
    ] = 2048,
    fit_head: Annotated[
        bool | None,
        typer.Option(help="Fit the head on frozen features first (default: one that is new).", show_default=False),
    ] = None,
    at_once: Annotated[
        int, typer.Option(metavar="N", help="Most candidates in the network at once; fewer take less memory.", min=1)
    ] = 128,
    seed: Annotated[int, typer.Option(metavar="SEED", help="Random seed.", min=0, max=2**31)] = 0,
    report: Annotated[
        str | None,
        typer.Option(metavar="FILE.json", help="Write all scores and costs to this file.", show_default=False),
    ] = None,
    picture: Annotated[
        str | None, typer.Option(metavar="FILE.png", help="Draw the scores to this file.", show_default=False)
    ] = None,
    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE.yaml", help="Write the plan of the chosen set.", show_default=False
        ),
    ] = None,
    weights: Weights = None,
    args: Arguments = None,
    allow_partial: AllowPartial = False,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Score blocks at sites by gradients before any training, and choose a set under a budget.

    The plan is a recipe: attn-surgeon insert NETWORK --plan FILE.yaml inserts the set.
    """
    from attn_surgeon.scouting.scoring import DEFINITIONS
    from attn_surgeon.scouting.scout import ScoutSettings, scout_network

    plan = None if output is None else writable(output, force=force, suffixes=YAML)
    document = None if report is None else writable(report, force=force, suffixes=(".json",), option="--report")
    image = None if picture is None else writable(picture, force=force, suffixes=(".png",), option="--picture")
    settings = ScoutSettings(
        score=score,
        report=DEFINITIONS if every_score else (),
        batches=batches,
        batch_size=batch_size,
        head_images=head_images,
        fit_head=fit_head,
        at_once=at_once,
        seed=seed,
    )
    with show_steps(f"open {network}"):
        loaded = open_from_options(
            network,
            weights=weights,
            args=args,
            source=source,
            trust=trust,
            mean=mean,
            std=std,
            size=size,
            allow_partial=allow_partial,
        )
    with progress_bar("scout") as progress:
        found = scout_network(
            loaded,
            name=network,
            data=data,
            blocks=_split(blocks),
            at=_split(at or ""),
            after=after or (),
            before=before or (),
            exclude=exclude or (),
            budget=budget,
            latency=latency,
            task=task,
            settings=settings,
            progress=progress,
        )
    if document is not None:
        _write(document, json_text(found.to_dict()).encode())
    if image is not None and is_installed("matplotlib"):
        from attn_surgeon.scouting.chart import scouting_png

        _write(image, scouting_png(found))
    elif image is not None:
        note_missing_pictures()
    if plan is not None and found.chosen:
        found.save(plan)
    if as_json:
        print_json(found.to_dict())
    else:
        for note in found.notes:
            print_note(note)
        console().print(rich_table(found.table))
        console().print(escape(f"\n{found.summary}"), soft_wrap=True)
        if plan is not None and found.chosen:
            line = f"wrote [bold]{escape(str(plan))}[/]; insert it with: attn-surgeon insert {escape(network)} --plan"
            console().print(f"{line} {escape(str(plan))}", soft_wrap=True)
    if not found.chosen:
        raise typer.Exit(1)


def _split(text: str) -> list[str]:
    """Return names with commas between them; commas in braces are part of a glob."""
    return [part for part in re.split(r",(?![^{]*})", text) if part]


def _write(path: Path, content: bytes) -> None:
    from attn_surgeon.files import replacing

    with replacing(path) as temporary:
        Path(temporary).write_bytes(content)
