"""What users write for a network, and what recipes store."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from attn_surgeon.errors import SourceError
from attn_surgeon.networks import SourceSpec, build_network, model_names, parse_source

from .helpers import refused


def test_parsing_prefixes() -> None:
    assert parse_source("timm/resnet18") == SourceSpec("timm", "resnet18", {}, "default")
    assert parse_source("tv/resnet18") == SourceSpec("torchvision", "resnet18", {}, "default")
    assert parse_source("torchvision/resnet18", weights="none").kind == "torchvision"
    assert parse_source("a/net.py:make") == SourceSpec("file", "a/net.py:make", {}, "default")
    assert parse_source("pkg.mod:make") == SourceSpec("module", "pkg.mod:make", {}, "default")
    assert parse_source("demo").kind == "demo"


def test_parsing_bare_names_prefers_timm() -> None:
    assert parse_source("resnet18").kind == "timm"
    assert parse_source("resnet50.a1_in1k").name == "resnet50.a1_in1k"
    assert parse_source("googlenet").kind == "torchvision"
    assert parse_source("fcn_resnet50").kind == "torchvision"


def test_parsing_arguments() -> None:
    texts = {
        "a": "3",
        "b": "1e-3",
        "c": "True",
        "d": "false",
        "e": "None",
        "f": "(1, 2)",
        "g": "avg",
        "h": "a b",
    }
    values = {"a": 3, "b": 1e-3, "c": True, "d": False, "e": None, "f": (1, 2), "g": "avg", "h": "a b"}
    assert parse_source("demo", args=texts).args == values


def test_spec_survives_json() -> None:
    spec = parse_source("resnet18", args={"size": "(1, 2)", "name": "x"}, weights="none")
    assert SourceSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert spec.to_dict()["args"] == {"size": [1, 2], "name": "x"}


@pytest.mark.parametrize(
    "values",
    [
        {"kind": "tim", "name": "x"},
        {"kind": "timm"},
        {"kind": "timm", "name": 3},
        {"kind": "timm", "name": "x", "args": [1]},
        {"kind": "timm", "name": "x", "args": {"a": {}}},
        {"kind": "timm", "name": "x", "weigths": "none"},
    ],
)
def test_spec_from_bad_values(values: dict[str, Any]) -> None:
    with pytest.raises(SourceError):
        SourceSpec.from_dict(values)


@pytest.mark.parametrize(
    "text",
    [
        "hf-hub:timm/resnet18",
        "hf_hub:x",
        "timm/hf-hub:timm/resnet18",
        "local-dir:/tmp",
        "https://x.y/z",
        "tv/a:b",
    ],
)
def test_names_that_would_fetch_from_elsewhere_are_refused(text: str) -> None:
    with pytest.raises(SourceError, match="not downloaded from URLs"):
        parse_source(text)


def test_a_stored_spec_cannot_fetch_from_elsewhere_either() -> None:
    with pytest.raises(SourceError, match="timm has no network"):
        build_network(SourceSpec("timm", "hf-hub:timm/resnet18"))


@pytest.mark.parametrize("text", ["", "timm/", "a/b", "net.py", ".py:", "a b", "a:b:c", "net.py:"])
def test_texts_that_name_nothing(text: str) -> None:
    with pytest.raises(SourceError):
        parse_source(text)


@pytest.mark.parametrize(
    ("text", "near"),
    [("resnet5O", "resnet50"), ("timm/resnet5O", "resnet50"), ("tv/resnet5O", "resnet50"), ("dem", "demo")],
)
def test_unknown_names_suggest_near_ones(text: str, near: str) -> None:
    assert near in refused(text).hint


def test_unknown_tag_names_near_tags() -> None:
    error = refused("timm/resnet50.a1_in1")
    assert "resnet50.a1_in1k" in error.hint


def test_model_names() -> None:
    names = model_names()
    assert {"resnet50", "resnet50.a1_in1k", "tv/resnet50", "tv/fcn_resnet50", "demo"} <= set(names)
    assert len(names) == len(set(names))


def test_a_run_folder_is_refused_with_its_best_artefact(tmp_path: Path) -> None:
    run = tmp_path / "run"
    for name in ("seed-0-grafts/last", "last", "seed-0-grafts/best", "best"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        artefact = (run / name).with_suffix(".safetensors")
        artefact.touch()
        error = refused(str(run))
        assert (error.what, error.hint) == ("this is a run folder", f"name the artefact in it: {artefact}")


def test_importing_is_light() -> None:
    heavy = "{'timm', 'torchvision', 'torch', 'pydantic'}"
    code = f"import sys, attn_surgeon.networks; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
