"""`attn-surgeon insert`: put attention into a network."""

from __future__ import annotations

from typing import Annotated

import typer

from attn_surgeon.cli import completion
from attn_surgeon.cli.files import writable
from attn_surgeon.cli.options import (
    AllowPartial,
    Arguments,
    AsJson,
    Force,
    Mean,
    Network,
    Output,
    Own,
    Size,
    Source,
    Std,
    Weights,
    open_from_options,
    read_pairs,
)
from attn_surgeon.cli.output import steps
from attn_surgeon.cli.surgery import Wishes, carry_out


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon insert demo --block cbam --after layer3")(insert)


def insert(
    network: Network,
    block: Annotated[
        str, typer.Option("--block", "-b", metavar="BLOCK", help="The block.", autocompletion=completion.blocks)
    ],
    at: Annotated[
        list[str] | None,
        typer.Option(
            "--at",
            metavar="GROUP",
            help="A group of sites, or GROUP@SITE: residual@layer3.",
            autocompletion=completion.groups,
        ),
    ] = None,
    after: Annotated[
        list[str] | None,
        typer.Option(
            "--after", "-a", metavar="SITE", help="Sites to insert after; globs work.", autocompletion=completion.sites
        ),
    ] = None,
    before: Annotated[
        list[str] | None,
        typer.Option("--before", metavar="SITE", help="Sites to insert before.", autocompletion=completion.sites),
    ] = None,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="SITE", help="Leave out these, and what is inside them.", autocompletion=completion.sites),
    ] = None,
    min_channels: Annotated[int, typer.Option(metavar="N", help="Leave out narrower ones.", min=0)] = 0,
    every: Annotated[int, typer.Option(metavar="N", help="Take every Nth of them.", min=1)] = 1,
    last: Annotated[int, typer.Option(metavar="N", help="Take the last N of them; 0 for all.", min=0)] = 0,
    with_: Annotated[
        str,
        typer.Option(
            "--with",
            metavar="SITE",
            help="The second tensor, for blocks of two inputs.",
            autocompletion=completion.sites,
            show_default=False,
        ),
    ] = "",
    layout: Annotated[
        str, typer.Option(metavar="AXES", help="What the axes mean, if found wrong: NHWC.", show_default=False)
    ] = "",
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the block: reduction=8.")
    ] = None,
    init: Annotated[
        str, typer.Option(metavar="START", help="identity, or paper for the published formula.")
    ] = "identity",
    weights: Weights = None,
    args: Arguments = None,
    allow_partial: AllowPartial = False,
    source: Source = None,
    own: Own = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    strict: Annotated[bool, typer.Option("--strict", help="Make every refusal an error.")] = False,
    seed: Annotated[
        int, typer.Option(metavar="NUMBER", help="Seed of the blocks' hidden layers.", min=0, max=2**32 - 1)
    ] = 0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the plan and stop.")] = False,
    no_verify: Annotated[bool, typer.Option("--no-verify", help="Make no certificate.")] = False,
    patch: Annotated[bool, typer.Option("--patch", help="Write only the grafts and the base's hash.")] = False,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Insert an attention block at the chosen sites, certify that nothing was lost, and write the artefact."""
    from attn_surgeon.artefact.insertion import Insertion
    from attn_surgeon.blocks import BlockSpec, adopt
    from attn_surgeon.surgery.sites.selection import Selection

    spec = BlockSpec.read(adopt(block), read_pairs(options, "--set"), init)
    selection = Selection.read(
        at=at or (),
        after=after or (),
        before=before or (),
        exclude=exclude or (),
        min_channels=min_channels,
        every=every,
        last=last,
        with_=with_,
        layout=layout,
    )
    insertion = Insertion(spec, selection)
    if output is not None and not dry_run:
        writable(output, force=force)
    with steps(f"open {network}"):
        loaded = open_from_options(
            network,
            weights=weights,
            args=args,
            source=source,
            mean=mean,
            std=std,
            size=size,
            allow_partial=allow_partial,
        )
    carry_out(loaded, [insertion], Wishes(strict, seed, dry_run, not no_verify, patch, output, force, as_json))
