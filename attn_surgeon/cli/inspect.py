"""`attn-surgeon inspect`: the sites of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.syntax import Syntax

from attn_surgeon.cli import completion
from attn_surgeon.cli.options import (
    Arguments,
    AsJson,
    Mean,
    Network,
    Size,
    Source,
    Std,
    Weights,
    open_network,
)
from attn_surgeon.cli.output import console, print_json, say, shape_cells, steps, table

if TYPE_CHECKING:
    from attn_surgeon.graph.sites import Site
    from attn_surgeon.subject import Subject

_ROWS = 40


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon inspect demo 'layer3.*'")(inspect)


def inspect(
    network: Network,
    selector: Annotated[
        str | None,
        typer.Argument(help="Show only these sites; globs work.", autocompletion=completion.sites, show_default=False),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(metavar="N", help="Show sites of up to so many dotted parts.", min=1, show_default=False),
    ] = None,
    code: Annotated[bool, typer.Option("--code", help="Show the forward of the modules that own the sites.")] = False,
    weights: Weights = None,
    args: Arguments = None,
    source: Source = None,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    as_json: AsJson = False,
) -> None:
    """List the sites of a network: name, shape, layout, channels, and how often each runs. No weights are needed."""
    from attn_surgeon.graph.selectors import select
    from attn_surgeon.graph.sites import find_sites

    with steps(f"look at {network}"):
        subject = open_network(
            network,
            weights=weights or (None if network.endswith(".safetensors") else "none"),
            args=args,
            source=source,
            mean=mean,
            std=std,
            size=size,
        )
        sites = find_sites(subject.model, subject.example)
    completion.remember(network, (site.name for site in sites))
    chosen = select(sites, selector) if selector else sites
    shown = chosen if as_json and depth is None else _shallow(chosen, depth, everything=selector is not None)
    if as_json:
        print_json({"network": network, "input": list(subject.example.shape), "sites": [_plain(s) for s in shown]})
    else:
        _show(subject, shown, len(chosen))
    if code and not as_json:
        _show_code(subject, shown)


def _shallow(sites: Sequence[Site], depth: int | None, *, everything: bool) -> list[Site]:
    """Keep what a screen holds: all sites of the asked depth, else of the greatest depth that fits."""
    depths = [site.name.count(".") + 1 for site in sites]
    if depth is None and not everything:
        fitting = [limit for limit in set(depths) if sum(own <= limit for own in depths) <= _ROWS]
        depth = max(fitting, default=min(depths, default=1))
    return [site for site, own in zip(sites, depths, strict=True) if depth is None or own <= depth]


def _show(subject: Subject, sites: Sequence[Site], total: int) -> None:
    from attn_surgeon.graph.surgery import list_grafts

    grafts: dict[str, list[str]] = {}
    for made in list_grafts(subject.model):
        grafts.setdefault(made.graft.site, []).append(f"{made.graft.block['name']} {made.graft.side}")
    rows = [
        [site.name, site.type, *shape_cells(site.output), str(site.calls), ", ".join(grafts.get(site.name, ()))]
        for site in sites
    ]
    shape = "×".join(map(str, subject.example.shape))
    title = f"{subject.provenance.source.text} on {shape}: {len(sites)} of {total} sites"
    columns = ["site", "type", "output", "layout", "channels", "runs", "grafts"]
    if not grafts:
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    console().print(table(title, columns, rows, right=["channels", "runs"]))
    if len(sites) < total:
        say("deeper ones: --depth N, or name some: 'layer3.*'")


def _show_code(subject: Subject, sites: Sequence[Site]) -> None:
    """Show each owner's forward once: what its author wrote, and what it is now where it carries grafts."""
    from attn_surgeon.graph.operated import generated_sources, is_operated, original_class
    from attn_surgeon.report.difference import original_source, readable

    owners = dict.fromkeys(placement.owner for site in sites for placement in site.after[:1])
    classes: dict[type, list[str]] = {}
    for owner in owners:
        classes.setdefault(original_class(subject.model.get_submodule(owner)), []).append(owner or "(the network)")
    out = console()
    for cls, paths in classes.items():
        out.print(f"\n[bold]{cls.__name__}[/] [dim]{escape(', '.join(paths))}[/]", soft_wrap=True)
        if cls.__module__.startswith("torch.nn."):
            out.print("[dim]torch's own forward; a graft here wraps it[/]")
        else:
            out.print(Syntax(original_source(cls), "python", background_color="default"))
    for owner in owners:
        module = subject.model.get_submodule(owner)
        if is_operated(module):
            out.print(f"\n[bold]{escape(owner or '(the network)')}[/] with its grafts")
            text = "\n\n".join(readable(source) for source in generated_sources(module).values())
            out.print(Syntax(text, "python", background_color="default"))


def _plain(site: Site) -> dict[str, Any]:
    return {
        "name": site.name,
        "kind": site.kind,
        "type": site.type,
        "calls": site.calls,
        "input": site.input and asdict(site.input),
        "output": site.output and asdict(site.output),
        "how": [placement.how for placement in site.after[:1]],
    }
