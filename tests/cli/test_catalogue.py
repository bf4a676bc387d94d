"""`blocks`: the catalogue and its cards."""

from __future__ import annotations

import pytest

from .helpers import BLOCKS, Cli


def test_all_blocks_are_listed_with_their_costs(cli: Cli) -> None:
    out = cli("blocks", "--at", "64,8,8").out
    assert out.startswith("8 blocks, costs at (C, H, W) = (64,8,8)")
    rows = {line.split()[0]: line for line in out.splitlines() if line and line.split()[0] in BLOCKS}
    assert list(rows) == list(BLOCKS)
    assert "  680  " in rows["cbam"]
    assert "  7,296  " in rows["cbam"]


def test_json_gives_cards_and_costs(cli: Cli) -> None:
    cards = {card["name"]: card for card in cli("blocks", "--at", "64,8,8", "--json").document}
    assert tuple(cards) == BLOCKS
    hidden, positions, kernel = 64 // 16, 8 * 8, 7 * 7
    squeeze = {"parameters": 2 * 64 * hidden + hidden + 64, "macs": 2 * 64 * hidden}
    assert cards["se"]["cost"] == squeeze
    assert cards["channel"]["cost"] == {"parameters": squeeze["parameters"], "macs": 2 * squeeze["macs"]}
    assert cards["spatial"]["cost"] == {"parameters": 2 * kernel + 2, "macs": 2 * kernel * positions}
    assert cards["cbam"]["cost"]["macs"] == 4 * 64 * hidden + 2 * kernel * positions
    assert cards["cbam"]["at"] == [64, 8, 8]
    assert [option["name"] for option in cards["cbam"]["options"]] == ["reduction", "kernel_size"]


def test_a_card_tells_paper_formula_and_options(cli: Cli) -> None:
    out = cli("blocks", "cbam").out
    assert out.startswith("cbam  Convolutional Block Attention Module")
    assert "Woo et al. 2018, CBAM: Convolutional Block Attention Module" in out
    assert "y = spatial(channel(x))" in out
    assert [line.split()[:2] for line in out.splitlines()[-2:]] == [["reduction", "16"], ["kernel_size", "7"]]


@pytest.mark.parametrize("shape", ["100000000,8,8", "99999999999999999999999999,1,1"])
def test_a_shape_beyond_memory_or_numbers_is_no_fault(cli: Cli, shape: str) -> None:
    assert cli("blocks", "--at", shape).code == 0


def test_a_block_that_cannot_run_there_has_no_cost(cli: Cli) -> None:
    cards = {card["name"]: card for card in cli("blocks", "--at", "64,1,1", "--json").document}
    assert cards["spatial"]["cost"] is None
    assert cards["se"]["cost"]["parameters"] == 580
