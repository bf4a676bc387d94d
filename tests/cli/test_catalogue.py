"""`blocks`: the catalogue and its cards."""

from __future__ import annotations

from pathlib import Path

import pytest

from attn_surgeon import blocks

from .helpers import BLOCKS, Cli


def test_all_blocks_are_listed_with_their_costs(cli: Cli) -> None:
    out = cli("blocks", "--at", "64,8,8").out
    assert out.startswith(f"{len(BLOCKS)} blocks, costs at (C, H, W) = (64,8,8)")
    rows = {line.split()[0]: line for line in out.splitlines() if line.strip() and line.split()[0] in BLOCKS}
    assert sorted(rows) == list(BLOCKS)
    assert "  680  " in rows["cbam"]
    assert "  7,296  " in rows["cbam"]


def test_json_contains_cards_and_costs(cli: Cli) -> None:
    cards = {card["name"]: card for card in cli("blocks", "--at", "64,8,8", "--json").document}
    assert tuple(cards) == BLOCKS
    hidden, positions, kernel = 64 // 16, 8 * 8, 7 * 7
    squeeze = {"parameters": 2 * 64 * hidden + hidden + 64, "macs": 2 * 64 * hidden}
    assert cards["se"]["cost"] == squeeze
    assert cards["channel"]["cost"] == {"parameters": squeeze["parameters"], "macs": 2 * squeeze["macs"]}
    assert cards["spatial"]["cost"] == {"parameters": 2 * kernel + 2, "macs": 2 * kernel * positions}
    assert cards["cbam"]["cost"]["macs"] == 4 * 64 * hidden + 2 * kernel * positions
    assert cards["cbam"]["at"] == [64, 8, 8]
    options = ["reduction", "least", "hidden", "kernel_size", "bias", "conv_bias", "norm", "momentum", "order"]
    options += ["activation", "gate", "residual"]
    assert [option["name"] for option in cards["cbam"]["options"]] == options


def test_a_card_shows_paper_formula_and_options(cli: Cli) -> None:
    out = cli("blocks", "cbam").out
    assert out.startswith("cbam  Convolutional Block Attention Module")
    assert "Woo et al. 2018, CBAM: Convolutional Block Attention Module" in out
    assert "y = spatial(channel(x))" in out
    table = out.partition("options (--set name=value)")[2].splitlines()[2:-2]
    rows = {line.split()[0]: line for line in table if line[0] not in " |"}  # others go on with the row above
    assert {name: row.split()[1] for name, row in rows.items()} == {
        "reduction": "16",
        "least": "2",
        "hidden": "from",
        "kernel_size": "7",
        "bias": "true",
        "conv_bias": "false",
        "norm": "true",
        "momentum": "0.01",
        "order": "max-mean",
        "activation": "relu",
        "gate": "sigmoid",
        "residual": "false",
    }
    assert "at least 1, odd" in rows["kernel_size"]
    assert out.splitlines()[-1].startswith("in costs: C, H, W")


def test_the_readme_of_the_blocks_shows_the_whole_catalogue(cli: Cli) -> None:
    text = (Path(blocks.__file__).parent / "README.md").read_text(encoding="utf-8")
    shown = text.partition("<!-- blocks -->\n")[2].partition("<!-- /blocks -->")[0]
    assert shown.strip() == cli("blocks", "--markdown").out.strip()


def test_a_card_of_a_block_of_ones_own(cli: Cli, folder: Path) -> None:
    (folder / "mine.py").write_text(OWN)
    out = cli("blocks", "mine.py:Scale").out
    assert out.startswith("mine.py:Scale  Scale")
    assert "Weigh channels." in out
    assert out.splitlines()[-3].split()[:2] == ["start", "1.0"]
    assert "is a stack" in cli("blocks", "se+eca").err
    lines = cli("blocks", "mine.py:Named").out.splitlines()
    assert [line.split()[:2] for line in lines[-5:-2]] == [["width", "-"], ["mode", "Fast"], ["deep", "true"]]


OWN = '''
from torch import nn, ones

class Scale(nn.Module):
    """Weigh channels."""

    def __init__(self, channels, start=1.0):
        super().__init__()
        self.weight = nn.Parameter(start * ones(channels, 1, 1))

    def forward(self, x):
        return x * self.weight


class Named(Scale):
    def __init__(self, channels, width, mode="Fast", deep=True):
        super().__init__(channels)
'''


def test_measured_costs(cli: Cli, folder: Path) -> None:
    (folder / "mine.py").write_text(OWN)
    wanted = ("bench-blocks", "se", "cbam", "mine.py:Scale", "--batch", "1")
    document = cli(*wanted, "--at", "16,4,4", "--json").document
    assert [block["name"] for block in document["blocks"]] == ["se", "cbam", "mine.py:Scale"]
    for block in document["blocks"]:
        for key in ("forward", "training", "memory"):
            assert block["ratios"][key] == pytest.approx(block["measured"][key] / document["copy"][key])
        assert block["measured"]["memory"] > document["copy"]["memory"] > 16 * 4 * 4 * 4
    out = cli(*wanted, "--at", "16,1,1").out
    assert "cbam needs more than one position" in out
    assert "cannot be used" in cli(*wanted, "--device", "nowhere").err
    assert "expected C,H,W" in cli(*wanted, "--at", "16").err


@pytest.mark.parametrize("shape", ["100000000,8,8", "99999999999999999999999999,1,1"])
def test_a_shape_beyond_memory_or_numbers_is_refused(cli: Cli, shape: str) -> None:
    done = cli("blocks", "--at", shape)
    assert done.code == 2
    assert "expected C,H,W of at most 100,000" in done.err


def test_costs_beyond_memory_are_still_computed(cli: Cli) -> None:
    (card,) = cli("blocks", "eca", "--at", "100000,10000,1000", "--json").document
    assert card["cost"]["parameters"] < 100


def test_a_block_that_cannot_run_there_has_no_cost(cli: Cli) -> None:
    cards = {card["name"]: card for card in cli("blocks", "--at", "64,1,1", "--json").document}
    assert cards["spatial"]["cost"] is None
    assert cards["se"]["cost"]["parameters"] == 580
