"""`attn-surgeon inspect`: a network's sites, its code, and its picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from attn_surgeon.cli import completion
from attn_surgeon.cli.options import (
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
from attn_surgeon.cli.output import console, print_json, print_note, show_steps

if TYPE_CHECKING:
    from attn_surgeon.artefact.open_network import LoadedNetwork
    from attn_surgeon.surgery.sites.survey import Site, Survey


Selector = Annotated[
    str | None,
    typer.Argument(help="Show only these sites; globs work.", autocompletion=completion.sites, show_default=False),
]
Depth = Annotated[int | None, typer.Option(metavar="N", help="Expand the tree to N levels.", min=1, show_default=False)]
Group = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="GROUP",
        help="List a group's sites, or its members in one place: residual, residual@layer3.",
        autocompletion=completion.groups,
        show_default=False,
    ),
]
CodeAt = Annotated[
    str | None,
    typer.Option(
        "--code",
        metavar="SITE",
        help="Show the forward that a graft there changes, before and after.",
        autocompletion=completion.sites,
        show_default=False,
    ),
]
GraphFile = Annotated[
    str | None,
    typer.Option("--graph", metavar="FILE", help="Draw the network: .svg, .png or .html.", show_default=False),
]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon inspect demo 'layer3.*'")(inspect)


def inspect(
    network: Network,
    selector: Selector = None,
    depth: Depth = None,
    at: Group = None,
    code: CodeAt = None,
    graph: GraphFile = None,
    force: Force = False,
    weights: Weights = None,
    args: Arguments = None,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    mean: Mean = None,
    std: Std = None,
    size: Size = None,
    as_json: AsJson = False,
) -> None:
    """Show a network as a tree: names, shapes, parameters, groups. Its weights are not loaded."""
    from attn_surgeon.surgery.sites.survey import survey

    target = _picture_file(graph, force=force)
    with show_steps(f"inspect {network}"):
        weights = weights or (None if network.endswith(".safetensors") else "none")
        loaded = open_from_options(
            network, weights=weights, args=args, source=source, trust=trust, mean=mean, std=std, size=size
        )
        surveyed = survey(loaded.model, loaded.example)
    completion.cache_names(network, (site.name for site in surveyed.sites))
    document: dict[str, Any] = {"network": network, "input": list(loaded.example.shape)}
    if target is not None:
        document["graph"] = _draw(loaded, surveyed, target, depth)
    if code is not None:
        document["code"] = _code(loaded, surveyed, code, show=not as_json)
    if as_json:
        chosen = [site for _, site in _chosen(surveyed, selector, at, depth)]
        print_json(document | {"sites": _site_documents(chosen)})
    elif target is not None:
        print_note(f"wrote {target}")
    elif code is None:
        _show(loaded, surveyed, selector, at, depth)


def _chosen(surveyed: Survey, selector: str | None, at: str | None, depth: int | None) -> list[tuple[str, Site]]:
    """Return the sites chosen by selector, group and depth; those of a group with their side, before or after."""
    from attn_surgeon.surgery.sites.selection import Selection, choose
    from attn_surgeon.surgery.sites.selectors import select

    if at is None:
        chosen = select(surveyed.sites, selector, surveyed.unused) if selector else surveyed.sites
        return [("", site) for site in chosen if depth is None or site.name.count(".") < depth]
    group = f"{at}@{selector}" if selector else at
    members = choose(surveyed, Selection(at=(group,)))
    return [(side, site) for site, side in members if depth is None or site.name.count(".") < depth]


def _show(loaded: LoadedNetwork, surveyed: Survey, selector: str | None, at: str | None, depth: int | None) -> None:
    from attn_surgeon.cli.site_tree import ROWS, sites_table, tree_table
    from attn_surgeon.draw.outline import build_outline, choose_opened
    from attn_surgeon.tables import short_count

    shape, total = "×".join(map(str, loaded.example.shape)), len(surveyed.sites)
    title = f"{loaded.provenance.source.text} on {shape}: "
    if selector is None and at is None:
        root = build_outline(surveyed, by_groups=True)
        title += f"{total} sites, {short_count(root.parameters) or 'no'} parameters"
        console().print(tree_table(title, root, choose_opened(root, ROWS, depth), depth))
        _show_groups(surveyed)
        return
    chosen = _chosen(surveyed, selector, at, depth)
    console().print(sites_table(title + f"{len(chosen)} of {total} sites", chosen))
    if len(chosen) == 1 and (items := surveyed.items(chosen[0][1].name)):
        print_note(f"several tensors are there: {', '.join(item.name for item in items)}")


def _show_groups(surveyed: Survey) -> None:
    from attn_surgeon.draw.group_colours import colour

    groups = {name: len(sites) for name, sites in surveyed.groups.items() if sites}
    listed = Text(" · ").join(Text(f"{name} {count}", style=colour(name)) for name, count in groups.items())
    console().print(Text("groups: ").append(listed or Text("none")))
    example = "residual" if "residual" in groups else next(iter(groups), "stages")
    inner = next((site.name.rpartition(".")[0] for site in surveyed.sites if "." in site.name), "")
    returning = (site.name for site in surveyed.sites if len(site.returned) > 1 and surveyed.items(site.name))
    several = min(returning, key=len, default="")
    selectors = "".join(f"'{name}', " for name in (inner and f"{inner}.*", several and f"{several}:*") if name)
    print_note(f"more: --at {example}, --depth N, {selectors}--graph FILE.svg")


def _code(loaded: LoadedNetwork, surveyed: Survey, selector: str, *, show: bool) -> Sequence[Mapping[str, object]]:
    from attn_surgeon.cli.forward_code import code_documents, forwards, print_code
    from attn_surgeon.surgery.sites.selectors import select

    code = forwards(loaded.model, select(surveyed.sites, selector, surveyed.unused))
    if show:
        print_code(code)
    return code_documents(code)


def _picture_file(path: str | None, *, force: bool) -> Any:
    """Return the file to draw, after checking that it can be drawn and written."""
    if path is None:
        return None
    from attn_surgeon.cli.files import writable
    from attn_surgeon.draw.graphviz import require_graphviz
    from attn_surgeon.draw.picture import SUFFIXES

    target = writable(path, force=force, suffixes=SUFFIXES, option="--graph")
    require_graphviz()
    return target


def _draw(loaded: LoadedNetwork, surveyed: Survey, target: Any, depth: int | None) -> str:
    from attn_surgeon.draw.picture import draw_network

    with show_steps(f"draw {target}"):
        draw_network(surveyed, loaded.provenance.source.text, target, depth)
    return str(target)


def _site_documents(sites: Sequence[Site]) -> list[dict[str, Any]]:
    return [
        {
            "name": site.name,
            "kind": site.kind,
            "type": site.type,
            "calls": site.calls,
            "parameters": site.parameters,
            "groups": list(site.groups),
            "input": site.input and asdict(site.input),
            "output": site.output and asdict(site.output),
            "how": [placement.how for placement in site.after[:1]],
        }
        for site in sites
    ]
