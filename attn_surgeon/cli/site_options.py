"""Shared options of commands that choose sites or insert blocks."""

from __future__ import annotations

from typing import Annotated

import typer

from attn_surgeon.cli import completion

At = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="GROUP",
        help="Group of sites, in the whole network or within one module: residual, residual@layer3. Repeatable.",
        autocompletion=completion.groups,
    ),
]
After = Annotated[
    list[str] | None,
    typer.Option(
        "--after",
        "-a",
        metavar="SITE",
        help="Sites at the output of these modules: layer3, 'layer*'. Repeatable.",
        autocompletion=completion.sites,
    ),
]
Before = Annotated[
    list[str] | None,
    typer.Option(
        "--before",
        metavar="SITE",
        help="Sites at the input of these modules: fc. Repeatable.",
        autocompletion=completion.sites,
    ),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        metavar="SITE", help="Leave out these sites and all inside them. Repeatable.", autocompletion=completion.sites
    ),
]
MinChannels = Annotated[int, typer.Option(metavar="N", help="Leave out sites with fewer channels.", min=0)]
Every = Annotated[int, typer.Option(metavar="N", help="Keep every N-th of the chosen sites.", min=1)]
Last = Annotated[int, typer.Option(metavar="N", help="Keep the last N of the chosen sites; 0 keeps all.", min=0)]
With = Annotated[
    str,
    typer.Option(
        "--with",
        metavar="SITE",
        help="The site of the second input, for blocks of two inputs.",
        autocompletion=completion.sites,
        show_default=False,
    ),
]
Layout = Annotated[
    str,
    typer.Option(
        metavar="AXES", help="Layout of the features, such as NHWC, where it is inferred wrongly.", show_default=False
    ),
]
Block = Annotated[
    str | None,
    typer.Option(
        "--block",
        "-b",
        metavar="BLOCK",
        help="Name of the block, or of a stack of blocks: se+spatial.",
        autocompletion=completion.blocks,
        show_default=False,
    ),
]
PlanFile = Annotated[
    str | None,
    typer.Option(
        "--plan",
        metavar="FILE.yaml",
        help="Insert the blocks of this recipe, as scout writes it, in place of --block and sites.",
        show_default=False,
    ),
]
BlockOptions = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Option of the block, such as reduction=8. Repeatable."),
]
Init = Annotated[str, typer.Option(metavar="INIT", help="Initialisation: identity, or paper for the published one.")]
Strict = Annotated[bool, typer.Option("--strict", help="Fail if any chosen site cannot take the block.")]
Seed = Annotated[
    int, typer.Option(metavar="NUMBER", help="Seed of the blocks' random initialisation.", min=0, max=2**32 - 1)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan; write nothing.")]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Skip the certificate.")]
Patch = Annotated[bool, typer.Option("--patch", help="Write only the grafts, and a hash of the weights they fit.")]
