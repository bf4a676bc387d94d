"""`inspect`: sites by value, depth, code, selectors."""

from __future__ import annotations

from .helpers import Cli, contents

STAGES = [f"layer{n}" for n in (1, 2, 3)]


def names(document: dict[str, list[dict[str, object]]]) -> list[object]:
    return [site["name"] for site in document["sites"]]


def test_a_site_is_told_in_full(cli: Cli) -> None:
    document = cli("inspect", "demo", "layer2.0.bn2", "--json").document
    feature = {"dtype": "float32", "layout": "NCHW", "channels": 32, "prefix": 0, "grid": None}
    feature["shape"] = [1, 32, 16, 16]
    assert document["input"] == [1, 1, 32, 32]
    (site,) = document["sites"]
    assert site == {
        "name": "layer2.0.bn2", "kind": "module", "type": "BatchNorm2d", "calls": 1,
        "input": feature, "output": feature, "how": ["fx"],
    }  # fmt: skip


def test_a_table_shows_what_fits_and_says_how_to_see_more(cli: Cli) -> None:
    done = cli("inspect", "demo")
    lines = done.out.splitlines()
    assert lines[0].startswith("demo on 1×1×32×32: ")
    assert lines[1].split() == ["site", "type", "output", "layout", "channels", "runs"]
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    assert rows["layer3"] == ["Sequential", "1×64×8×8", "NCHW", "64", "1"]
    assert rows["fc"] == ["Linear", "1×10", "NC", "10", "1"]
    assert "layer3.0" in rows
    assert "layer3.0.bn2" not in rows
    assert "--depth N" in done.err


def test_depth_limits_the_dotted_parts(cli: Cli) -> None:
    shallow = names(cli("inspect", "demo", "--depth", "1", "--json").document)
    assert shallow == ["conv1", "bn1", "relu", *STAGES, "adaptive_avg_pool2d", "flatten", "fc"]
    everything = names(cli("inspect", "demo", "--json").document)
    assert [name for name in everything if "." not in str(name)] == shallow
    assert "layer3.0.downsample.1" in everything


def test_a_selector_shows_its_sites_alone(cli: Cli) -> None:
    assert names(cli("inspect", "demo", "layer*", "--json").document) == STAGES
    out = cli("inspect", "demo", "layer*.1.bn2").out
    assert [line.split()[0] for line in out.splitlines()[2:]] == [f"{stage}.1.bn2" for stage in STAGES]


def test_code_shows_the_forward_as_written(cli: Cli) -> None:
    out = cli("inspect", "demo", "layer3.1.bn2", "--code").out
    assert "BasicBlock layer3.1" in out
    assert "out = self.bn2(self.conv2(out))" in out


def test_grafts_are_shown_with_the_code_that_runs_them(cli: Cli, artefact: str) -> None:
    out = cli("inspect", artefact, "layer3", "--code").out
    row = next(line for line in out.splitlines() if line.startswith("layer3 "))
    assert row.endswith("cbam after")
    assert "output = self.attn_surgeon.after(output)" in out


def test_size_and_mean_make_the_example(cli: Cli) -> None:
    document = cli("inspect", "demo", "conv1", "--size", "48x64", "--json").document
    assert document["input"] == [1, 1, 48, 64]
    assert document["sites"][0]["output"]["shape"] == [1, 16, 48, 64]


def test_nothing_is_written_here(cli: Cli) -> None:
    cli("inspect", "demo")
    assert contents() == {}
