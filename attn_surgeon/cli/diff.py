"""`attn-surgeon diff`: what an operation changed, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import typer
from rich.columns import Columns
from rich.console import Console, Group
from rich.markup import escape
from rich.panel import Panel
from rich.syntax import Syntax
from rich.table import Table

from attn_surgeon.cli.files import artefact_or_newest
from attn_surgeon.cli.options import ArtefactPath, AsJson, Own, Source, Trust, Weights
from attn_surgeon.cli.output import console, print_json, show_steps, table

if TYPE_CHECKING:
    from attn_surgeon.measure.cost import Cost
    from attn_surgeon.surgery.forward_diff import Difference
    from attn_surgeon.surgery.installed_grafts import InstalledGraft

_SIDE_BY_SIDE = 120  # columns of the terminal


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon diff demo-cbam.safetensors")(diff)


def diff(
    artefact: ArtefactPath = None,
    source: Source = None,
    own: Own = None,
    trust: Trust = False,
    weights: Weights = None,
    as_json: AsJson = False,
) -> None:
    """Show the generated forward beside the original, and the parameters and MACs each graft adds."""
    from attn_surgeon.artefact.open_network import open_network
    from attn_surgeon.measure.cost import graft_costs, macs, parameters
    from attn_surgeon.surgery.forward_diff import differences
    from attn_surgeon.surgery.installed_grafts import list_grafts

    path = artefact_or_newest(artefact)
    with show_steps(f"read {path}"):
        loaded = open_network(path, source=source, trust=trust, weights=weights)
        costs = graft_costs(loaded.model, loaded.example)
        base = loaded.base()
        total = {"parameters": parameters(base), "macs": macs(lambda: base(loaded.example))}
    changes = differences(loaded.model)
    grafts = list_grafts(loaded.model)
    if as_json:
        added = [{"path": item.path, **item.graft.to_dict(), "cost": asdict(costs[item.path])} for item in grafts]
        print_json({"base": total, "grafts": added, "code": [asdict(change) for change in changes]})
        return
    for change in changes:
        _show(change, console())
    console().print(_costs(grafts, costs, total))


def _costs(grafts: Sequence[InstalledGraft], costs: Mapping[str, Cost], total: Mapping[str, int]) -> Table:
    rows = [
        [item.place, item.graft.block["name"], *_cost_cells(costs[item.path].parameters, costs[item.path].macs, total)]
        for item in grafts
    ]
    added = sum(cost.parameters for cost in costs.values()), sum(cost.macs for cost in costs.values())
    rows.append([f"all {len(grafts)}", "", *_cost_cells(*added, total)])
    columns = ["graft", "block", "parameters", "% of base", "MACs", "% of base "]
    title = f"base: {total['parameters']:,} parameters, {total['macs']:,} MACs"
    return table(title, columns, rows, right=columns[2:])


def _cost_cells(parameters: int, macs: int, total: Mapping[str, int]) -> list[str]:
    return [f"{parameters:,}", _share(parameters, total["parameters"]), f"{macs:,}", _share(macs, total["macs"])]


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.3f}" if whole else "-"


def _show(change: Difference, out: Console) -> None:
    owners = ", ".join(change.owners[:6]) + (f" and {len(change.owners) - 6} more" if len(change.owners) > 6 else "")
    out.print(f"[bold]{change.cls}[/] [dim]{escape(owners)}[/]", soft_wrap=True)
    beside = out.width >= _SIDE_BY_SIDE and not change.in_library
    width = out.width // 2 - 1 if beside else out.width
    texts = [("with its grafts", change.generated)]
    if not change.in_library:
        texts.insert(0, ("as written", change.original))
    panels = [
        Panel(Syntax(text, "python", background_color="default", word_wrap=True), title=title, width=width)
        for title, text in texts
    ]
    out.print(Columns(panels, padding=(0, 1)) if beside else Group(*panels))
