"""`attn-surgeon diff`: what an operation changed, and what it costs."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.columns import Columns
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
from rich.syntax import Syntax

from attn_surgeon.cli.files import artefact_or_newest
from attn_surgeon.cli.options import ArtefactPath, AsJson, Own, Source, Weights
from attn_surgeon.cli.output import console, print_json, steps, table

if TYPE_CHECKING:
    from attn_surgeon.surgery.difference import Difference

_BESIDE = 120


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon diff demo-cbam.safetensors")(diff)


def diff(
    artefact: ArtefactPath = None,
    source: Source = None,
    own: Own = None,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Show the generated forward beside the original, and the parameters and MACs each graft adds."""
    from attn_surgeon.artefact.opening import open_network
    from attn_surgeon.measure.cost import graft_costs, macs, parameters
    from attn_surgeon.surgery.difference import differences
    from attn_surgeon.surgery.installed import list_grafts

    path = artefact_or_newest(artefact)
    with steps(f"read {path}"):
        loaded = open_network(path, source=source, weights=weights)
        costs = graft_costs(loaded.model, loaded.example)
        base = loaded.base()
        total = {"parameters": parameters(base), "macs": macs(lambda: base(loaded.example))}
    changes = differences(loaded.model)
    made = list_grafts(loaded.model)
    if as_json:
        grafts = [{"path": m.path, **m.graft.to_dict(), "cost": asdict(costs[m.path])} for m in made]
        print_json({"base": total, "grafts": grafts, "code": [asdict(change) for change in changes]})
        return
    out = console()
    for change in changes:
        _show(change, out)
    rows = [
        [f"{m.graft.side} {m.graft.site}", m.graft.block["name"], f"{costs[m.path].parameters:,}",
         _share(costs[m.path].parameters, total["parameters"]), f"{costs[m.path].macs:,}",
         _share(costs[m.path].macs, total["macs"])]
        for m in made
    ]  # fmt: skip
    added = [sum(cost.parameters for cost in costs.values()), sum(cost.macs for cost in costs.values())]
    cells = [f"{added[0]:,}", _share(added[0], total["parameters"]), f"{added[1]:,}", _share(added[1], total["macs"])]
    rows.append([f"all {len(made)}", "", *cells])
    columns = ["graft", "block", "parameters", "% of base", "MACs", "% of base "]
    title = f"base: {total['parameters']:,} parameters, {total['macs']:,} MACs"
    out.print(table(title, columns, rows, right=columns[2:]))


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3f}" if whole else "-"


def _show(change: Difference, out: Console) -> None:
    owners = ", ".join(change.owners[:6]) + (f" and {len(change.owners) - 6} more" if len(change.owners) > 6 else "")
    out.print(f"[bold]{change.cls}[/] [dim]{escape(owners)}[/]", soft_wrap=True)
    beside = out.width >= _BESIDE
    width = out.width // 2 - 1 if beside else out.width
    panels = [
        Panel(Syntax(text, "python", background_color="default", word_wrap=True), title=title, width=width)
        for title, text in (("as written", change.original), ("with its grafts", change.generated))
    ]
    out.print(Columns(panels, padding=(0, 1)) if beside else panels[0])
    if not beside:
        out.print(panels[1])
