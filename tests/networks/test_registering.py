"""A source of networks is one file and one registered line: a toy one goes through insert, save and load."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from attn_surgeon import insert, load, save
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.errors import ArtefactError, SourceError, WeightsError
from attn_surgeon.networks import Loaded, Source, SourceSpec, model_names, parse_source, register_source
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.networks.source import _SOURCES, forms, library_name, sources
from attn_surgeon.tasks.head import replace_head

from ..cli.helpers import process

TOY = """
import torch
from torch import nn

from attn_surgeon.networks import Loaded, Source, register_source
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.networks.source import library_name


def build(spec):
    return nn.Sequential(nn.Conv2d(1, spec.args.get("width", 4), 3), nn.ReLU(), nn.Flatten())


def load(spec):
    model = build(spec)
    for parameter in model.parameters():
        nn.init.constant_(parameter, 0.5 if spec.weights == "HALF" else 1.0)
    notes = ("every weight is one",) if spec.weights != "HALF" else ()
    return Loaded(model, spec, Preprocessing((0.0,), (1.0,), (8, 8), channels=1), ("a", "b"), notes)


def has(name):
    return name in ("tiny", "resnet18")


SOURCE = Source(
    kind="toy",
    form="toy/NAME",
    prefix="toy/",
    parse=lambda text: library_name(text, ("toy",), has),
    build=build,
    load=load,
    has=has,
    names=lambda: ["toy/tiny"],
    has_weights=lambda spec: spec.weights == "HALF",
)
register_source(SOURCE)
"""


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Register the toy source for one test."""
    (tmp_path / "toy_source.py").write_text(TOY)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    import importlib

    before = dict(_SOURCES)
    importlib.import_module("toy_source")
    yield tmp_path
    sys.modules.pop("toy_source")
    _SOURCES.clear()
    _SOURCES.update(before)


def test_a_registered_source_works_with_insert_save_and_load(toy: Path) -> None:
    assert open_network("toy/tiny").notes == ("every weight is one",)
    start = open_network("toy/tiny", args={"width": 6}, weights="HALF")
    assert start.notes == ()
    assert start.provenance.source == SourceSpec("toy", "tiny", {"width": 6}, "HALF")
    assert start.example.shape == (1, 1, 8, 8)
    model = insert(start.model, "se", after="0", example=start.example, options={"reduction": 2})
    for patch in (False, True):
        save(model, "x.safetensors", patch=patch)
        again = load("x.safetensors")
        assert torch.equal(again(start.example), start.model(start.example))
        assert again.state_dict().keys() == model.state_dict().keys()


def test_its_names_are_parsed_offered_and_hinted_at(toy: Path) -> None:
    assert parse_source("tiny") == parse_source("TOY/Tiny") == parse_source("toy/tiny")
    assert "toy/tiny" in model_names()
    assert "toy/NAME" in forms()
    with pytest.raises(SourceError, match="did you mean toy/tiny"):
        parse_source("tinny")
    with pytest.raises(WeightsError, match="toy has such weights: name the network toy/resnet18"):
        open_network("timm/resnet18", weights="HALF")
    with pytest.raises(SourceError, match="registered already"):
        register_source(_SOURCES["toy"])


@pytest.mark.slow
def test_the_command_line_takes_it(toy: Path) -> None:
    program = "import toy_source, sys; from attn_surgeon.cli.app import main; sys.argv[0] = 'attn-surgeon'; main()"
    arguments = ("insert", "toy/tiny", "-b", "eca", "-a", "0", "-o", "x.safetensors")
    done = process("-c", program, *arguments, PYTHONPATH=f"{toy}:{Path(__file__).parents[2]}")
    assert done.code == 0, done.err
    done = process("-c", program, "verify", "x.safetensors", PYTHONPATH=f"{toy}:{Path(__file__).parents[2]}")
    assert done.code == 0, done.err


def test_code_that_only_the_user_can_vouch_for_is_named_by_the_user(toy: Path) -> None:
    def load_remote(spec: SourceSpec) -> Loaded:
        return Loaded(nn.Sequential(nn.Conv2d(1, 4, 3)), spec, Preprocessing((0.0,), (1.0,), (8, 8), channels=1))

    # as torch.hub would be: a repository, an entry point, and code of its own
    hub = Source(
        kind="hub",
        form="hub/OWNER/REPO:ENTRY",
        prefix="hub/",
        parse=lambda text: text.removeprefix("hub/") if text.startswith("hub/") else None,
        build=lambda spec: load_remote(spec).model,
        load=load_remote,
        user_code=True,
    )
    register_source(hub)
    start = open_network("hub/owner/repo:net")
    save(insert(start.model, "eca", after="0", example=start.example), "x.safetensors")
    with pytest.raises(ArtefactError, match="source=hub/owner/repo:net"):
        load("x.safetensors")
    assert load("x.safetensors", source="hub/owner/repo:net") is not None


def test_its_argument_for_the_classes_makes_a_new_head(toy: Path) -> None:
    def build(spec: SourceSpec) -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(144, spec.args.get("num_labels", 5)))

    def load_labels(spec: SourceSpec) -> Loaded:
        return Loaded(build(spec), spec, Preprocessing((0.0,), (1.0,), (8, 8), channels=1))

    prefix = "labels/"
    register_source(
        Source(
            kind="labels",
            form="labels/NAME",
            prefix=prefix,
            parse=lambda text: text.removeprefix(prefix) if text.startswith(prefix) else None,
            build=build,
            load=load_labels,
            classes_argument="num_labels",
        )
    )
    network = replace_head(open_network("labels/net"), ("a", "b", "c"), 5, 0)
    assert network.model(network.example).shape == (1, 3)
    assert network.provenance.source.args == {"num_labels": 3}


def test_every_form_of_a_network_is_in_the_help_and_the_readme() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    help_of_insert = " ".join(process("-m", "attn_surgeon", "insert", "--help", COLUMNS="200").out.split())
    for source in sources():
        if source.form:
            assert source.form.lower() in readme.lower(), source.form
            assert source.form.lower() in help_of_insert.lower(), source.form


def test_case_does_not_matter_where_the_name_is_known_in_lower_case() -> None:
    assert parse_source("ResNet18") == parse_source("resnet18")
    assert parse_source("TV/ResNet18") == parse_source("tv/resnet18")
    assert parse_source("timm/ResNet50.a1_in1k").name == "resnet50.a1_in1k"
    assert parse_source("Demo").kind == "demo"
    assert library_name("timm/NoSuchNet", ("timm",), lambda name: False) == "nosuchnet"


def test_torchvisions_weights_of_a_timm_network_point_there() -> None:
    with pytest.raises(WeightsError, match="torchvision has such weights: name the network tv/resnet50"):
        open_network("timm/resnet50.a1_in1k", weights="IMAGENET1K_V2")
