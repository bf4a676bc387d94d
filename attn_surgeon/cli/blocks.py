"""`attn-surgeon blocks`: list the catalogue of blocks, or show one card."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from attn_surgeon.cli import completion
from attn_surgeon.cli.options import AsJson, OptionError, read_shape
from attn_surgeon.cli.output import console, key_value_table, print_json, table

if TYPE_CHECKING:
    from attn_surgeon.blocks import Card, Option

_LEGEND = "C, H, W of the features; options by letter: r reduction, k kernel_size, h heads, g groups, s window"
Costs = dict[str, dict[str, int] | None]


def register(app: typer.Typer) -> None:
    """Add the command to the app."""
    app.command(epilog="Example: attn-surgeon blocks cbam --at 512,28,28")(blocks)


def blocks(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Show one block's card; file.py:Factory shows one of your own.",
            autocompletion=completion.blocks,
            show_default=False,
        ),
    ] = None,
    at: Annotated[str, typer.Option(metavar="C,H,W", help="Shape of the features to compute costs for.")] = "256,14,14",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the catalogue as a Markdown table.")] = False,
    as_json: AsJson = False,
) -> None:
    """Show the catalogue of blocks: paper, formula, cost and options."""
    from attn_surgeon.blocks import block_names, get_card, import_user_blocks

    shape = read_shape(at)
    if name and "+" in name:
        raise OptionError(f"'{name}' is a stack", "", "name one of its blocks")
    cards = [get_card(import_user_blocks(name))] if name else [get_card(each) for each in block_names()]
    if markdown:
        sys.stdout.write(markdown_table(cards))
        return
    costs = {card.name: _cost(card, shape) for card in cards}
    if as_json:
        print_json([asdict(card) | {"inputs": card.inputs, "at": shape, "cost": costs[card.name]} for card in cards])
    elif name:
        _show_card(cards[0], at, costs[cards[0].name])
    else:
        _show_catalogue(cards, at, costs)


def markdown_table(cards: Sequence[Card]) -> str:
    """Return the catalogue as a Markdown table, by kind."""
    from attn_surgeon.blocks.base.card import KINDS

    lines = ["| block | | paper | parameters | MACs | needs |", "|---|---|---|---|---|---|"]
    for kind in KINDS:
        rows = [_markdown_row(card) for card in cards if card.kind == kind]
        lines += [f"| **{kind}** | | | | | |", *rows] if rows else []
    return "\n".join(lines) + "\n"


def _markdown_row(card: Card) -> str:
    needs = {"channels": "anything", "positions": "positions", "map": "a map"}[card.runs_on]
    cells = [f"`{card.name}`", card.idea, _authors(card), card.parameters, card.macs, needs]
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _authors(card: Card) -> str:
    return card.paper.split(",")[0]


def _cost(card: Card, shape: tuple[int, int, int]) -> dict[str, int] | None:
    """Compute a block's cost; None where it cannot run on such features."""
    import torch

    from attn_surgeon.blocks import BlockSpec, build_alone
    from attn_surgeon.measure.cost import block_cost

    try:
        with torch.device("meta"):
            block = build_alone(BlockSpec(card.name), shape[0], shape[1] * shape[2])
        return asdict(block_cost(block, (1, *shape)))
    except (ValueError, TypeError, RuntimeError):  # torch raises any of these for sizes that overflow
        return None


def _cells(cost: dict[str, int] | None) -> list[str]:
    return ["-", "-"] if cost is None else [f"{cost['parameters']:,}", f"{cost['macs']:,}"]


def _show_catalogue(cards: Sequence[Card], at: str, costs: Costs) -> None:
    from attn_surgeon.blocks.base.card import KINDS

    out = console()
    out.print(f"[bold]{len(cards)} blocks, costs at (C, H, W) = ({at})[/]")
    columns = ["block", "parameters", "MACs", "paper", "idea"]
    for kind in KINDS:
        rows = [
            [card.name, *_cells(costs[card.name]), _authors(card), card.idea] for card in cards if card.kind == kind
        ]
        out.print(table(f"\n{kind}", columns, rows, right=["parameters", "MACs"]))
    out.print("\n[dim]a card: attn-surgeon blocks NAME[/]")


def _show_card(card: Card, at: str, cost: dict[str, int] | None) -> None:
    from attn_surgeon.blocks.base.card import REACHES

    parameters, macs = _cells(cost)
    rows = [
        ("paper", card.paper),
        ("idea", card.idea),
        ("formula", card.formula),
        ("identity", card.identity),
        ("parameters", f"{card.parameters}  = {parameters} at ({at})"),
        ("MACs", f"{card.macs}  = {macs}"),
        *([("ONNX nodes", f"at most {card.nodes} once it has trained; none before")] if card.nodes else []),
        *([("inputs", "two; --at skips, --at fusions or --with SITE choose the second")] if card.inputs > 1 else []),
        ("usual sites", card.usual_sites),
        ("runs on", REACHES[card.runs_on]),
    ]
    out = console()
    out.print(f"[bold]{escape(card.name)}[/]  {escape(card.title)}\n")
    out.print(key_value_table(rows))
    if card.options:
        options = [[each.name, _default(each), each.range, each.meaning] for each in card.options]
        out.print(table("\noptions (--set name=value)", ["name", "default", "values", "meaning"], options))
    out.print(f"\n[dim]in costs: {_LEGEND}[/]")


def _default(option: Option) -> str:
    if option.default is None:
        return "-" if option.free else "from C"
    return str(option.default).lower() if isinstance(option.default, bool) else str(option.default)
