"""`attn-surgeon blocks`: the catalogue."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from attn_surgeon.cli import completion
from attn_surgeon.cli.options import AsJson, OptionError
from attn_surgeon.cli.output import console, facts, print_json, table

if TYPE_CHECKING:
    from attn_surgeon.blocks import Card


def register(app: typer.Typer) -> None:
    """Add the verb."""
    app.command(epilog="Example: attn-surgeon blocks cbam --at 512,28,28")(blocks)


def blocks(
    name: Annotated[
        str | None, typer.Argument(help="Show one block's card.", autocompletion=completion.blocks, show_default=False)
    ] = None,
    at: Annotated[str, typer.Option(metavar="C,H,W", help="The features to tell costs for: C,H,W.")] = "256,14,14",
    as_json: AsJson = False,
) -> None:
    """Show the catalogue of blocks: paper, formula, cost and options."""
    from attn_surgeon.blocks import get_card, names

    shape = _shape(at)
    cards = [get_card(name)] if name else [get_card(each) for each in names()]
    costs = {card.name: _cost(card, shape) for card in cards}
    if as_json:
        print_json([asdict(card) | {"at": shape, "cost": costs[card.name]} for card in cards])
    elif name:
        _show_card(cards[0], at, costs[name])
    else:
        rows = [
            [card.name, card.title, card.paper.split(",")[0], *_cells(costs[card.name]), card.idea] for card in cards
        ]
        columns = ["block", "title", "paper", "parameters", "MACs", "idea"]
        title = f"{len(cards)} blocks, costs at (C, H, W) = ({at})"
        console().print(table(title, columns, rows, right=["parameters", "MACs"]))


def _shape(text: str) -> tuple[int, int, int]:
    parts = text.split(",")
    if len(parts) != 3 or not all(part.strip().isdecimal() and int(part) for part in parts):
        raise OptionError(f"'{text}' is no C,H,W", "--at", "write it as 256,14,14")
    channels, height, width = map(int, parts)
    return channels, height, width


def _cost(card: Card, shape: tuple[int, int, int]) -> dict[str, int] | None:
    """Count a block's cost; None where it cannot run on such features."""
    import torch

    from attn_surgeon.blocks import BlockSpec, build_block
    from attn_surgeon.report.cost import block_cost

    try:
        with torch.device("meta"):
            block = build_block(BlockSpec(card.name), shape[0], positions=shape[1] * shape[2])
        return asdict(block_cost(block, (1, *shape)))
    except (ValueError, TypeError, RuntimeError):  # torch's words for a shape beyond its numbers
        return None


def _cells(cost: dict[str, int] | None) -> list[str]:
    return ["-", "-"] if cost is None else [f"{cost['parameters']:,}", f"{cost['macs']:,}"]


def _show_card(card: Card, at: str, cost: dict[str, int] | None) -> None:
    from attn_surgeon.blocks.card import REACHES

    parameters, macs = _cells(cost)
    rows = [
        ("paper", card.paper),
        ("idea", card.idea),
        ("formula", card.formula),
        ("identity", card.identity),
        ("parameters", f"{card.parameters}  = {parameters} at ({at})"),
        ("MACs", f"{card.macs}  = {macs}"),
        *([("inputs", "two; --at skips, --at fusions or --with give the second")] if card.inputs > 1 else []),
        ("usual sites", card.usual_sites),
        ("runs on", REACHES[card.reach]),
    ]
    out = console()
    out.print(f"[bold]{card.name}[/]  {escape(card.title)}\n")
    out.print(facts(rows))
    if card.options:
        options = [
            [option.name, "from C" if option.default is None else str(option.default), option.meaning]
            for option in card.options
        ]
        out.print(table("\noptions (--set name=value)", ["name", "default", "meaning"], options))
