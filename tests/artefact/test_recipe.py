"""Recipes: what they say, and every fault in them at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from attn_surgeon.artefact.recipe import first_comment, list_recipes, read_recipe
from attn_surgeon.artefact.recipe_schema import Recipe
from attn_surgeon.errors import RecipeError
from attn_surgeon.networks.preprocessing import PreprocessingOverrides

FULL = """# All there is.
source: {name: "tv/resnet18", weights: none, args: {num_classes: 3, zero: [1, 2]}}
images: {mean: [0.5], std: [1], size: [32, 48]}
operations:
  - insert: {block: se, after: layer4, before: [fc, "layer*"], options: {reduction: 8}, init: paper}
strict: true
seed: 3
output: x.safetensors
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def read(text: str) -> Recipe:
    Path("x.yaml").write_text(text)
    return read_recipe("x.yaml")


def faults(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        read(text)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_everything_in_a_recipe_is_read() -> None:
    recipe = read(FULL)
    source, (operation,) = recipe.source, recipe.operations
    assert (source.name, source.weights, source.args) == ("tv/resnet18", "none", {"num_classes": 3, "zero": [1, 2]})
    assert recipe.images == PreprocessingOverrides(mean=(0.5,), std=(1.0,), size=(32, 48))
    step = operation.insert
    assert (step.block, step.after, step.before) == ("se", ("layer4",), ("fc", "layer*"))
    assert (step.options, step.init) == ({"reduction": 8}, "paper")
    assert (recipe.strict, recipe.seed, recipe.output) == (True, 3, "x.safetensors")


def test_the_shortest_recipe_has_the_usual_defaults() -> None:
    recipe = read("source: demo\noperations: [{insert: {block: se, after: fc}}]")
    assert (recipe.source.name, recipe.source.weights, recipe.source.args) == ("demo", "default", {})
    assert (recipe.images, recipe.strict, recipe.seed, recipe.output) == (PreprocessingOverrides(), False, 0, None)
    assert recipe.operations[0].insert.init == "identity"


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (("block: se", "blok: se"), "operations.0.insert.blok is unknown, did you mean block"),
        (("block: se", "blok: se"), "operations.0.insert.block is missing"),
        (("init: paper", "init: papr"), "operations.0.insert.init must be 'identity' or 'paper', got 'papr'"),
        (("size: [32, 48]", "size: 32"), "images.size must be a list, got 32"),
        (("seed: 3", "seed: -1"), "seed must be from 0 to"),
        (("seed: 3", f"seed: {2**63}"), "seed must be from 0 to"),
        (("strict: true", "strct: true"), "strct is unknown, did you mean strict"),
        (("weights: none", "weights: 3"), "source.weights must be a string, got 3"),
    ],
)
def test_a_fault_is_reported_with_its_place(change: tuple[str, str], place: str) -> None:
    assert place in faults(FULL.replace(*change))


def test_all_faults_are_reported_together() -> None:
    text = faults("source: {nam: x}\noperations: [{insert: {block: se}}]\nsedd: 1\n")
    for part in ("source.name", "source.nam", "operations.0.insert", "after or before", "sedd", "x.yaml"):
        assert part in text


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "when: 2024-99-99", "source: demo\noperations: []"])
def test_what_is_no_recipe_is_refused(text: str) -> None:
    assert "x.yaml" in faults(text)


def test_yaml_runs_no_code() -> None:
    assert "cannot be read" in faults("!!python/object/apply:os.mkdir [ran]")
    assert not Path("ran").exists()


def test_a_recipe_is_found_by_name_here_first() -> None:
    packaged = list_recipes()["demo-cbam"]
    assert read_recipe("demo-cbam") == read_recipe(str(packaged))
    Path("recipes").mkdir()
    Path("recipes/demo-cbam.yaml").write_text(FULL)
    assert read_recipe("demo-cbam").source.name == "tv/resnet18"
    assert first_comment(list_recipes()["demo-cbam"]) == "All there is."
    with pytest.raises(RecipeError, match="did you mean demo-cbam"):
        read_recipe("demo-cmab")


def test_the_name_of_a_file_that_is_missing_is_not_taken_for_that_of_a_recipe() -> None:
    with pytest.raises(
        RecipeError, match=r"^there is no such file; plans/scout.yaml; write one with: attn_surgeon.scout"
    ):
        read_recipe("plans/scout.yaml")
    Path("plans").mkdir()
    Path("plans/scout-1.yml").write_text(FULL)
    with pytest.raises(RecipeError, match=r"^there is no such file; plans/scout.yaml; did you mean plans/scout-1.yml"):
        read_recipe("plans/scout.yaml")
    with pytest.raises(RecipeError, match=r"no such file; .*; did you mean demo-cbam\?"):
        read_recipe("demo-cbam.yaml")
    with pytest.raises(RecipeError, match="no such file"):
        read_recipe(f"{'x' * 5000}/{'y' * 5000}.yaml")


def test_every_packaged_recipe_is_valid() -> None:
    found = {name: read_recipe(name) for name in list_recipes()}
    assert found["demo-cbam"].operations[0].insert.after == ("layer3",)
    assert found["resnet50-se-residual"].operations[0].insert.options == {"reduction": 16}
