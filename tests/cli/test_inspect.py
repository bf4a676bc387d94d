"""`inspect`: sites by value, depth, code, selectors."""

from __future__ import annotations

from pathlib import Path

from .helpers import Cli, contents, refused

STAGES = [f"layer{n}" for n in (1, 2, 3)]


def names(document: dict[str, list[dict[str, object]]]) -> list[object]:
    return [site["name"] for site in document["sites"]]


def rows(out: str) -> dict[str, list[str]]:
    """Read a table's rows by the site's name, which the guides stand before."""
    cells = [line.lstrip("│├└─ ").split() for line in out.splitlines()[2:]]
    return {first: rest for first, *rest in cells}


def test_a_site_is_described_in_full(cli: Cli) -> None:
    document = cli("inspect", "demo", "layer2.0.bn2", "--json").document
    feature = {"dtype": "float32", "layout": "NCHW", "channels": 32, "prefix": 0, "grid": None}
    feature["shape"] = [1, 32, 16, 16]
    assert document["input"] == [1, 1, 32, 32]
    (site,) = document["sites"]
    assert site == {
        "name": "layer2.0.bn2", "kind": "module", "type": "BatchNorm2d", "calls": 1, "parameters": 64,
        "groups": ["residual"], "input": feature, "output": feature, "how": ["fx"],
    }  # fmt: skip


def test_a_tree_is_collapsed_to_fit_and_names_options_that_show_more(cli: Cli) -> None:
    done = cli("inspect", "demo")
    lines = done.out.splitlines()
    assert lines[0].rstrip() == "demo on 1×1×32×32: 75 sites, 175k parameters"
    assert lines[1].split() == ["site", "type", "output", "layout", "params", "groups"]
    shown = rows(done.out)
    assert shown["layer3"] == ["Sequential", "1×64×8×8", "NCHW", "132k", "stages", "head"]
    assert shown["layer1.{0..1}"] == ["×2", "+8", "BasicBlock", "1×16×32×32", "NCHW", "9.3k", "blocks"]
    assert shown["fc"] == ["Linear", "1×10", "NC", "650"]
    assert "layer3.0.bn2" not in shown
    assert lines[-1] == "groups: stages 3 · blocks 6 · residual 6 · head 1 · convs 7"
    assert "--at residual" in done.err


def test_depth_unfolds_the_tree(cli: Cli) -> None:
    assert "layer1" in rows(cli("inspect", "demo", "--depth", "1").out)
    assert "layer1.{0..1}" not in rows(cli("inspect", "demo", "--depth", "1").out)
    assert "layer1.{0..1}.bn2" in rows(cli("inspect", "demo", "--depth", "3").out)


def test_a_folded_name_chooses_its_sites(cli: Cli) -> None:
    assert names(cli("inspect", "demo", "layer1.{0..1}.bn2", "--json").document) == ["layer1.0.bn2", "layer1.1.bn2"]


def test_a_group_is_listed_with_its_sides(cli: Cli) -> None:
    out = cli("inspect", "demo", "--at", "residual").out
    listed = [line.split()[:2] for line in out.splitlines()[2:]]
    assert listed == [["after", f"{stage}.{block}.bn2"] for stage in STAGES for block in (0, 1)]
    assert names(cli("inspect", "demo", "layer3.*.*", "--at", "residual", "--json").document) == [
        "layer3.0.bn2", "layer3.1.bn2",
    ]  # fmt: skip


def test_a_group_that_is_none_is_refused(cli: Cli) -> None:
    line = refused(cli, "inspect", "demo", "--at", "residuals")
    assert line == "error: no group is called 'residuals'; --at; did you mean residual?"


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


def test_code_shows_the_forward_as_written_and_with_a_graft_there(cli: Cli) -> None:
    out = cli("inspect", "demo", "--code", "layer3.1.bn2").out
    before, after = out.split("BasicBlock layer3.1, with a graft there")
    assert before.startswith("BasicBlock layer3.1, as written")
    assert "out = self.bn2(self.conv2(out))" in before
    assert "attn_surgeon" not in before
    assert "attn_surgeon_after_bn2 = self.attn_surgeon.after_bn2(bn2)" in after


def test_code_that_carries_grafts_is_shown_as_it_is(cli: Cli, artefact: str) -> None:
    (code,) = cli("inspect", artefact, "--code", "layer3", "--json").document["code"]
    assert (code["owner"], code["cls"], code["grafted"]) == ("layer3.1", "BasicBlock", True)
    assert "out += identity" in code["before"]
    assert "output = self.attn_surgeon.after(output)" in code["after"]


def test_code_of_no_site_is_refused(cli: Cli) -> None:
    assert "no site is called 'layer9'" in refused(cli, "inspect", "demo", "--code", "layer9")


def test_grafts_are_shown_in_the_tree(cli: Cli, artefact: str) -> None:
    shown = rows(cli("inspect", artefact).out)
    assert shown["layer3"][-2:] == ["cbam", "after"]


def test_a_graph_is_written_and_never_over_a_file(cli: Cli, artefact: str) -> None:
    done = cli("inspect", artefact, "--graph", "net.svg")
    assert (done.code, done.out, done.err) == (0, "", "wrote net.svg\n")
    text = Path("net.svg").read_text(encoding="utf-8")
    assert "<title>layer3.1</title>" in text
    assert "cbam after layer3" in text
    assert "the output exists already" in refused(cli, "inspect", artefact, "--graph", "net.svg")
    assert cli("inspect", artefact, "--graph", "net.svg", "--force").code == 0


def test_a_graph_of_another_kind_is_refused(cli: Cli) -> None:
    line = refused(cli, "inspect", "demo", "--graph", "net.pdf")
    assert line.startswith("error: the output's name does not end in .svg or .png or .html; net.pdf")


def test_size_and_mean_make_the_example(cli: Cli) -> None:
    document = cli("inspect", "demo", "conv1", "--size", "48x64", "--json").document
    assert document["input"] == [1, 1, 48, 64]
    assert document["sites"][0]["output"]["shape"] == [1, 16, 48, 64]


def test_nothing_is_written_here(cli: Cli) -> None:
    cli("inspect", "demo")
    assert contents() == {}


def test_several_tensors_are_counted_and_named(cli: Cli) -> None:
    done = cli("inspect", "demo-detector")
    assert rows(done.out)["head"] == ["FCOSHead", "1×256×11,", "3", "tensors", "83.3k"]
    assert "'head:*'" in done.err
    listed = names(cli("inspect", "demo-detector", "head:*", "--json").document)
    assert listed == ["head:cls_logits", "head:bbox_regression", "head:bbox_ctrness"]
    assert f"several tensors are there: {', '.join(map(str, listed))}" in cli("inspect", "demo-detector", "head").err
