"""`attn-surgeon compare`: the control experiment, with the user's training and evaluation scripts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from attn_surgeon.cli.files import artefact_or_newest
from attn_surgeon.cli.options import ArtefactPath, AsJson, Own, Source, Trust, Weights
from attn_surgeon.cli.output import console, note_missing_pictures, print_json, print_table, rich_table, show_steps


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    example = "attn-surgeon compare m.safetensors --train 'python train.py {artefact} --seed {seed} --out {folder}'"
    app.command(epilog=f"Example: {example} --evaluate 'python val.py {{artefact}}'")(compare)


def compare(
    artefact: ArtefactPath = None,
    train: Annotated[
        str,
        typer.Option(
            metavar="COMMAND",
            help="Command that trains the network in {artefact} with {seed} and writes the trained one, an artefact,"
            " to the folder {folder}.",
        ),
    ] = ...,  # type: ignore[assignment]
    evaluate: Annotated[
        str,
        typer.Option(
            metavar="COMMAND",
            help="Command that evaluates the network in {artefact} and prints a JSON object of metrics last.",
        ),
    ] = ...,  # type: ignore[assignment]
    seeds: Annotated[
        int,
        typer.Option(metavar="K", help="Number of training runs of each network, with seeds from 0.", min=1, max=1000),
    ] = 3,
    out: Annotated[str, typer.Option(metavar="DIR", help="Folder of the results.")] = "runs/compare",
    smaller_is_better: Annotated[
        list[str] | None,
        typer.Option(metavar="METRIC", help="A metric of which smaller values are better, such as loss; repeatable."),
    ] = None,
    bypass: Annotated[
        bool,
        typer.Option(
            "--bypass/--no-bypass",
            help="Evaluate each trained network with each graft alone bypassed: with 50 grafts, 50 times more.",
        ),
    ] = True,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Train a network with grafts, and the same one without them, by your own scripts, and compare them.

    To resume an interrupted comparison, repeat the command.
    """
    from attn_surgeon.artefact.open_network import open_network
    from attn_surgeon.control.compare import run_comparison
    from attn_surgeon.control.scripts import script_loop

    path = artefact_or_newest(artefact)
    with show_steps(f"open {path}"):
        network = open_network(path, source=source, trust=trust, weights=weights)
    folder = Path(out)
    loop = script_loop(train, evaluate, network.provenance, folder, source=source, trust=trust)
    with show_steps("compare") as progress:
        result = run_comparison(
            network.model,
            loop,
            seeds=seeds,
            folder=folder,
            example=network.example,
            smaller_is_better=smaller_is_better or (),
            bypass=bypass,
            progress=progress,
        )
    note_missing_pictures()
    if as_json:
        print_json(result.to_dict())
        return
    for each in result.tables:
        print_table(console(), rich_table(each))
    for name, metric in result.metrics.items():
        console().print(f"{name}: {metric.verdict}", soft_wrap=True, markup=False)
