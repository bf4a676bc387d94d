"""Code that a file names runs only where the user names it too, or trusts the file."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from attn_surgeon import insert, load, save
from attn_surgeon.artefact.open_network import open_network
from attn_surgeon.artefact.recipe_schema import Recipe
from attn_surgeon.artefact.trust import code_named, trusted_recipe
from attn_surgeon.blocks.base import registry
from attn_surgeon.blocks.base.user_blocks import import_user_blocks
from attn_surgeon.errors import ArtefactError, BlockError, RecipeError, TrainingError
from attn_surgeon.finetune.run_folders import read_request

CANARY = """from pathlib import Path
from torch import nn
Path(__file__).with_name("ran").touch()
from attn_surgeon.networks.demo import load_demo as net
class Scale(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.layer = nn.Conv2d(channels, channels, 1)
    def forward(self, x):
        return self.layer(x)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    (tmp_path / "canary.py").write_text(CANARY)
    registry._OWN.clear()
    yield tmp_path
    registry._OWN.clear()
    sys.modules.pop("canary", None)


def recipe(source: str, block: str) -> Recipe:
    return Recipe.from_dict({"source": source, "operations": [{"insert": {"block": block, "after": "layer3"}}]})


@pytest.mark.parametrize(
    ("source", "block", "named"),
    [
        ("demo", "se", []),
        ("os:system", "se", ["os:system"]),
        ("canary.py:net", "se+canary:Scale", ["canary.py:net", "canary:Scale"]),
        ("a.safetensors", "canary.py:Scale+canary.py:Scale", ["canary.py:Scale"]),
    ],
)
def test_the_code_that_a_recipe_names_is_listed_and_not_run(folder: Path, source: str, block: str, named: Any) -> None:
    read = recipe(source, block)
    assert code_named(read) == named
    if named:
        with pytest.raises(RecipeError, match="runs no code by itself") as refused:
            trusted_recipe(read, "r.yaml")
        assert all(code in str(refused.value) for code in named)
    assert trusted_recipe(read, "r.yaml", trust=True) == read
    assert not (folder / "ran").exists()


def test_naming_a_recipes_code_allows_that_code_alone(folder: Path) -> None:
    read = recipe("os:system", "canary.py:Scale")
    with pytest.raises(RecipeError, match=r"names canary\.py:Scale"):
        trusted_recipe(read, "r.yaml", source="canary.py:net")
    with pytest.raises(RecipeError, match="names os:system"):
        import_user_blocks("canary.py:Scale")
        trusted_recipe(read, "r.yaml")
    assert trusted_recipe(read, "r.yaml", source="canary.py:net").source.name == "canary.py:net"


def test_an_artefacts_code_runs_where_it_is_trusted(folder: Path) -> None:
    loaded = open_network("canary.py:net", args={})
    images = {"mean": [0.5], "std": [0.5], "size": [32, 32]}
    network = open_network("canary.py:net", images=recipe_images(images))
    made = insert(loaded.model, import_user_blocks("canary.py:Scale"), after="layer3", example=network.example)
    save(made, "own.safetensors")
    registry._OWN.clear()
    (folder / "ran").unlink()
    canary = folder / "canary.py"
    canary.write_text(f"{CANARY}\n")  # another content is imported again
    with pytest.raises(BlockError, match="trust=True"):
        load("own.safetensors")
    registry._OWN.clear()
    with pytest.raises(BlockError, match=r"no block is called 'canary\.py:Scale'"):
        load("own.safetensors", source="canary.py:net")
    assert not (folder / "ran").exists()
    again = load("own.safetensors", trust=True)
    assert (folder / "ran").exists()
    assert again(network.example).equal(made(network.example))


def test_an_artefacts_network_runs_where_it_is_trusted(folder: Path) -> None:
    network = open_network("canary.py:net", images=recipe_images({"mean": [0.5], "std": [0.5], "size": [32, 32]}))
    save(insert(network.model, "se", after="layer3", example=network.example), "own.safetensors")
    (folder / "ran").unlink()
    (folder / "canary.py").write_text(f"{CANARY}\n\n")
    with pytest.raises(ArtefactError, match=r"source=canary\.py:net or trust=True"):
        load("own.safetensors")
    assert not (folder / "ran").exists()
    assert open_network("own.safetensors", trust=True).trusted is not None
    assert (folder / "ran").exists()


def recipe_images(values: dict[str, Any]) -> Any:
    data = {"source": "demo", "operations": [{"insert": {"block": "se", "after": "x"}}], "images": values}
    return Recipe.from_dict(data).images


def test_a_run_folder_names_no_code(folder: Path) -> None:
    settings: dict[str, Any] = {}
    request = {"artefact": "canary.py:net", "data": "demo", "start": "", "settings": settings, "control": False}
    Path("request.json").write_text(json.dumps(request | {"seeds": 1}))
    with pytest.raises(TrainingError, match="safetensors"):
        read_request(folder)
    assert not (folder / "ran").exists()


@pytest.mark.parametrize("tag", ["python/object/apply:canary.net", "python/name:canary.net", "python/module:canary"])
def test_yaml_tags_run_nothing(folder: Path, tag: str) -> None:
    from attn_surgeon.artefact.recipe import read_recipe
    from attn_surgeon.finetune.config import read_config

    Path("r.yaml").write_text(f"source: !!{tag} []\n")
    for read in (lambda: read_recipe("r.yaml"), lambda: read_config(Path("r.yaml"))):
        with pytest.raises(Exception, match="could not determine a constructor"):
            read()
    assert not (folder / "ran").exists()
    assert yaml.safe_load("a: 1") == {"a": 1}
