"""Find and read recipes: YAML files that describe how to make an artefact."""

from __future__ import annotations

import os
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

from attn_surgeon.errors import RecipeError, function, nearest
from attn_surgeon.text_files import read_yaml

if TYPE_CHECKING:
    from attn_surgeon.artefact.recipe_schema import Recipe

_LONGEST_LINE = 300
FOLDERS = (Path("recipes"), Path(__file__).parents[1] / "_recipes", Path(__file__).parents[2] / "recipes")


def list_recipes() -> dict[str, Path]:
    """Return the paths of the recipes in `./recipes` and of those in the package, by name."""
    found: dict[str, Path] = {}
    for folder in FOLDERS:
        for path in sorted(folder.glob("*.yaml")):
            if path.is_file():
                found.setdefault(path.stem, path)
    return found


def first_comment(path: Path) -> str:
    """Return the comment in a recipe's first line, or an empty text."""
    with path.open(encoding="utf-8", errors="replace") as file:
        first = file.readline(_LONGEST_LINE)
    return first.removeprefix("#").strip() if first.startswith("#") else ""


def read_recipe(name: str) -> Recipe:
    """Read and validate a recipe.

    Args:
        name: a path, or the name of a recipe in `./recipes` or in the package.

    Returns:
        The recipe. Nothing that it names is built, downloaded or imported.

    Raises:
        RecipeError: if no recipe has that name, or with all faults of an invalid one.

    >>> import attn_surgeon
    >>> recipe = attn_surgeon.read_recipe("demo-cbam")
    >>> recipe.source.name, recipe.operations[0].insert.block, recipe.operations[0].insert.after
    ('demo', 'cbam', ('layer3',))
    """
    from attn_surgeon.artefact.recipe_schema import Recipe

    path = find_recipe(name)
    return Recipe.from_dict(read_yaml(path, RecipeError), str(path))


def find_recipe(name: str) -> Path:
    """Return the file of a recipe, by path or by name; raise RecipeError if there is none."""
    if os.path.isfile(name):  # noqa: PTH113 - pathlib raises for a name that is too long
        return Path(name)
    recipes = list_recipes()
    if name in recipes:
        return recipes[name]
    if name.endswith((".yaml", ".yml")):
        folder = Path(name).parent
        near = [str(folder / file) for file in glob("*.y*ml", root_dir=folder)]  # noqa: PTH207 - as above
        make = function("scout(network, data=data).save(path)", "scout NETWORK --data DATA -o FILE.yaml")
        hint = nearest(name, [*near, *recipes]) or f"write one with: {make}"
        raise RecipeError("there is no such file", name, hint)
    hint = nearest(name, recipes) or f"list them: {function('artefact.recipe.list_recipes()', 'recipes')}"
    raise RecipeError(f"there is no recipe '{name}'", "", hint)
