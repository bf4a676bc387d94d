"""Tables as text and HTML, and that what is shown in Python is what the command line prints."""

from __future__ import annotations

import pytest
import torch

import attn_surgeon
from attn_surgeon.blocks import BlockSpec
from attn_surgeon.networks.demo import load_demo
from attn_surgeon.operations.insert import plan_insertion
from attn_surgeon.surgery.certificate import Certificate
from attn_surgeon.surgery.sites.selection import Selection
from attn_surgeon.surgery.sites.site import Sites
from attn_surgeon.tables import Table, short_count
from tests.cli.conftest import cache, cli, folder
from tests.cli.helpers import Cli

__all__ = ["cache", "cli", "folder"]  # fixtures

TABLE = Table("two", ("name", "empty", "n"), (("a<b", "", "1"), ("c", "", "10")), {"n"})


def shown(text: str) -> list[str]:
    return [line.rstrip() for line in text.splitlines()]


def test_columns_are_aligned_and_empty_ones_left_out() -> None:
    assert str(TABLE).splitlines() == ["two", "name  empty   n", "a<b           1", "c            10"]
    assert str(TABLE.without_empty_columns()).splitlines() == ["two", "name   n", "a<b    1", "c     10"]
    assert str(TABLE.only(["n"])).splitlines() == ["two", " n", " 1", "10"]


def test_html_is_escaped() -> None:
    html = TABLE.only(["name"]).html()
    assert html == (
        "<table><caption>two</caption><thead><tr><th>name</th></tr></thead><tbody>"
        '<tr><td style="text-align: left">a&lt;b</td></tr><tr><td style="text-align: left">c</td></tr></tbody></table>'
    )


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, ""), (999, "999"), (1000, "1.0k"), (174_858, "175k"), (25_557_032, "25.6M"), (10**9, "1.0G")],
)
def test_counts_are_short(count: int, text: str) -> None:
    assert short_count(count) == text


def test_sites_are_shown_as_inspect_prints_them(cli: Cli) -> None:
    sites = attn_surgeon.find_sites(load_demo(), torch.zeros(1, 1, 32, 32))
    some = Sites(site for site in sites if site.name.startswith("layer3") and not site.is_item)
    printed = shown(cli("inspect", "demo", "layer3**").out)
    assert shown(repr(some))[1:] == printed[1:]
    assert "<caption>75 sites</caption>" in sites._repr_html_()
    many = Sites(sites * 2)
    assert shown(repr(many))[-1] == "… and 50 more"


def test_a_plan_is_shown_as_insert_prints_it(cli: Cli) -> None:
    selection = Selection(after=("layer*", "adaptive_avg_pool2d"))
    plan = plan_insertion(load_demo(), BlockSpec.read("cbam", {}), selection, torch.zeros(1, 1, 32, 32))
    arguments = ("--after", "layer*", "--after", "adaptive_avg_pool2d", "--dry-run")
    printed = shown(cli("insert", "demo", "--block", "cbam", *arguments).out)
    assert [*shown(repr(plan)), "", "dry run: nothing was changed or written"] == printed
    assert "after adaptive_avg_pool2d  cbam needs more than one position" in repr(plan)
    assert "<caption>1 refused</caption>" in plan._repr_html_()


def test_a_certificate_is_shown_as_verify_prints_it(cli: Cli) -> None:
    assert cli("insert", "demo", "-b", "se", "-a", "layer3", "--no-verify").code == 0
    certificate = Certificate.from_dict(cli("verify", "demo-se.safetensors", "--json").document["certificate"])
    assert shown(repr(certificate)) == shown(cli("verify", "demo-se.safetensors").out)
    assert shown(repr(certificate))[0] == "certificate: passed"
    assert "<caption>certificate: passed</caption>" in certificate._repr_html_()
