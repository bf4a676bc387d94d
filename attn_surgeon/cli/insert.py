"""`attn-surgeon insert`: insert an attention block into a network."""

from __future__ import annotations

import typer

from attn_surgeon.cli.insertion import InsertionOptions, insert_and_write, output_file, read_plan
from attn_surgeon.cli.options import (
    AllowPartial,
    Arguments,
    AsJson,
    Force,
    Mean,
    Network,
    OptionError,
    Output,
    Own,
    Size,
    Source,
    Std,
    Trust,
    Weights,
    open_from_options,
    read_pairs,
)
from attn_surgeon.cli.output import show_steps
from attn_surgeon.cli.site_options import (
    After,
    At,
    Before,
    Block,
    BlockOptions,
    DryRun,
    Every,
    Exclude,
    Init,
    Last,
    Layout,
    MinChannels,
    NoVerify,
    Patch,
    PlanFile,
    Seed,
    Strict,
    With,
)


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon insert demo --block cbam --after layer3")(insert)


def insert(
    network: Network,
    block: Block = None,
    plan: PlanFile = None,
    at: At = None,
    after: After = None,
    before: Before = None,
    exclude: Exclude = None,
    min_channels: MinChannels = 0,
    every: Every = 1,
    last: Last = 0,
    with_: With = "",
    layout: Layout = "",
    options: BlockOptions = None,
    init: Init = "identity",
    weights: Weights = None,
    args: Arguments = None,
    allow_partial: AllowPartial = False,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    strict: Strict = False,
    seed: Seed = 0,
    dry_run: DryRun = False,
    no_verify: NoVerify = False,
    patch: Patch = False,
    output: Output = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Insert an attention block at the chosen sites, certify that the network is the same, and write the artefact.

    With --plan, insert the blocks of a recipe into this network.
    """
    from attn_surgeon.artefact.insertion import Insertion
    from attn_surgeon.blocks import BlockSpec, import_user_blocks
    from attn_surgeon.surgery.sites.selection import Selection

    if (block is None) == (plan is None):
        what = "name a block, or a plan that names blocks and sites" if block is None else "a plan names blocks itself"
        raise OptionError(what, "--block", "such as --block cbam --after layer3, or --plan scout.yaml")
    if plan is not None:
        if at or after or before or options:
            raise OptionError(
                "a plan names sites and options itself", "--plan", "leave --at, --after, --before, --set out"
            )
        insertions = read_plan(plan, network, trust=trust)
    else:
        spec = BlockSpec.read(import_user_blocks(block or ""), read_pairs(options, "--set"), init)
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
        insertions = [Insertion(spec, selection)]
    target = None if dry_run else output_file(network, [each.spec for each in insertions], output, force=force)
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
    insert_and_write(loaded, insertions, InsertionOptions(target, strict, seed, not no_verify, patch, as_json))
