"""Options that choose sites, and those of a surgery, for the verbs that share them."""

from __future__ import annotations

from typing import Annotated

import typer

from attn_surgeon.cli import completion

At = Annotated[
    list[str] | None,
    typer.Option(
        "--at",
        metavar="GROUP",
        help="A group of sites, or its members in one place: residual, residual@layer3.",
        autocompletion=completion.groups,
    ),
]
After = Annotated[
    list[str] | None,
    typer.Option(
        "--after", "-a", metavar="SITE", help="After these sites; globs work.", autocompletion=completion.sites
    ),
]
Before = Annotated[
    list[str] | None,
    typer.Option("--before", metavar="SITE", help="Before these sites; globs work.", autocompletion=completion.sites),
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="SITE", help="Leave out these sites, and those inside them.", autocompletion=completion.sites),
]
MinChannels = Annotated[int, typer.Option(metavar="N", help="Leave out sites with fewer channels.", min=0)]
Every = Annotated[int, typer.Option(metavar="N", help="Take every N-th of the chosen sites.", min=1)]
Last = Annotated[int, typer.Option(metavar="N", help="Take the last N of the chosen sites; 0 takes all.", min=0)]
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
    str, typer.Option(metavar="AXES", help="What the axes mean, where inferred wrongly: NHWC.", show_default=False)
]
Block = Annotated[
    str,
    typer.Option(
        "--block", "-b", metavar="BLOCK", help="The block, or a stack: A+B.", autocompletion=completion.blocks
    ),
]
BlockOptions = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="An option of the block: reduction=8.")
]
Init = Annotated[str, typer.Option(metavar="INIT", help="identity, or paper for the published initialisation.")]
Strict = Annotated[bool, typer.Option("--strict", help="Fail where any chosen site cannot take the block.")]
Seed = Annotated[
    int, typer.Option(metavar="NUMBER", help="Seed of the blocks' random initialisation.", min=0, max=2**32 - 1)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the plan, and change and write nothing.")]
NoVerify = Annotated[bool, typer.Option("--no-verify", help="Skip the certificate.")]
Patch = Annotated[bool, typer.Option("--patch", help="Write only the grafts, and a hash of the weights they fit.")]
