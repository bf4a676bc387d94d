"""Recipes: the whole story of a model in YAML, replayable."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from attn_surgeon.errors import RecipeError, nearest

if TYPE_CHECKING:
    from attn_surgeon.artefact.recipe_schema import Recipe

FOLDERS = (Path("recipes"), Path(__file__).parents[1] / "_recipes", Path(__file__).parents[2] / "recipes")


def list_recipes() -> dict[str, Path]:
    """Find the recipes in the current folder's `recipes/` and those that come with the package, by name."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted(folder.glob("*.yaml")):
            found.setdefault(path.stem, path)
    return found


def first_comment(path: Path) -> str:
    """Give the line at a recipe's head that says what it does."""
    first = path.read_text(encoding="utf-8", errors="replace").partition("\n")[0]
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def read_recipe(name: str) -> Recipe:
    """Read and check a recipe by path or name; raise RecipeError with every fault in it at once."""
    import yaml
    from pydantic import ValidationError

    from attn_surgeon.artefact.recipe_schema import Recipe

    path = _find(name)
    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        line = " ".join(str(error).split())
        raise RecipeError(f"the recipe cannot be read: {line}", str(path), "it must be YAML") from None
    try:
        return Recipe.model_validate(data)
    except ValidationError as error:
        faults = "; ".join(_fault(dict(item)) for item in error.errors())
        raise RecipeError(f"the recipe is wrong: {faults}", str(path), "see: attn-surgeon run --help") from None


def _find(name: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    recipes = list_recipes()
    if name in recipes:
        return recipes[name]
    raise RecipeError(f"there is no recipe '{name}'", "", nearest(name, recipes) or "list them: attn-surgeon recipes")


def _fault(item: dict[str, Any]) -> str:
    place = ".".join(map(str, item["loc"])) or "the recipe"
    return f"{place}: {item['msg'].lower()}"
