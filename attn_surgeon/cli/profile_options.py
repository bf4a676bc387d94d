"""Options of `attn-surgeon profile`."""

from __future__ import annotations

from typing import Annotated

import typer

from attn_surgeon.cli import completion

ProfiledNetwork = Annotated[
    str | None,
    typer.Argument(
        help="An artefact, a network as for insert, or an ONNX file; without one, the newest artefact in this folder.",
        autocompletion=completion.networks,
        show_default=False,
    ),
]
Against = Annotated[
    str | None,
    typer.Option(
        metavar="NETWORK",
        help="Network to compare with: 'original' for the same one without its grafts, or any other."
        " --source, --weights, --arg, --mean, --std and --size apply to both.",
        autocompletion=completion.networks,
        show_default=False,
    ),
]
Runtimes = Annotated[
    str | None,
    typer.Option(
        metavar="NAMES",
        help="Comma-separated: eager, compile, onnx, tensorrt (default: eager, or onnx for an ONNX file)."
        " tensorrt is ONNX Runtime's provider, never run on a GPU.",
        show_default=False,
    ),
]
Batches = Annotated[str, typer.Option(metavar="NUMBERS", help="Batch sizes, comma-separated.")]
Rounds = Annotated[int, typer.Option(metavar="N", help="Number of timing rounds.", min=2, max=10**5)]
ProfileDevice = Annotated[str, typer.Option(metavar="DEVICE", help="cpu; cuda or cuda:1 (never run on a GPU).")]
TimeLimit = Annotated[
    int | None,
    typer.Option(
        metavar="SECONDS",
        help="Longest that ONNX Runtime may take to open a file or to run it once"
        " (default: 10, and 1 more for each MB of the file).",
        min=1,
        max=10**6,
        show_default=False,
    ),
]
Picture = Annotated[
    str | None, typer.Option(metavar="FILE", help="Draw the latencies as a .png file.", show_default=False)
]
