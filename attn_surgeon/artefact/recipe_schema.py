"""The schema of recipes as frozen dataclasses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from attn_surgeon.errors import RecipeError
from attn_surgeon.networks.preprocessing import PreprocessingOverrides
from attn_surgeon.surgery.sites.selection import Selection
from attn_surgeon.validation import validated

_LARGEST_SEED = 2**63 - 1
_SELECTORS = ("at", "after", "before", "exclude")


@dataclass(frozen=True)
class RecipeSource:
    """A network by name or factory, and its weights."""

    name: str
    weights: str = "default"
    args: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Insert:
    """One insertion: a block, its options, and selectors of sites with the meaning that `Selection` describes."""

    block: str
    at: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    min_channels: int = 0
    every: int = 1
    last: int = 0
    with_: str = ""
    layout: str = ""
    options: Mapping[str, bool | int | float | str | None] = field(default_factory=dict)
    init: Literal["identity", "paper"] = "identity"

    def __post_init__(self) -> None:
        if not self.at and not self.after and not self.before:
            raise ValueError("name sites with at, after or before")
        for name, least in (("min_channels", 0), ("every", 1), ("last", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")

    def selection(self) -> Selection:
        """Return the selection of sites."""
        return Selection.read(**{field.name: getattr(self, field.name) for field in fields(Selection)})


@dataclass(frozen=True)
class Step:
    """One step of the surgery."""

    insert: Insert


@dataclass(frozen=True)
class Recipe:
    """A network and the blocks to insert: everything needed to make an artefact again.

    Args:
        source: the network, its weights and the arguments of its factory.
        operations: the insertions, in order.
        images: image size and normalisation, if the network's source does not know them.
        strict: whether a site that cannot take its block is an error.
        seed: the seed for the initial weights of the blocks, from 0 to 2**63 - 1.
        output: the artefact to write, or None for a name made from network and blocks.

    >>> recipe = Recipe.from_dict({"source": "demo", "operations": [{"insert": {"block": "se", "after": "layer3"}}]})
    >>> recipe.source.name, recipe.operations[0].insert.after, recipe.seed
    ('demo', ('layer3',), 0)
    """

    source: RecipeSource
    operations: tuple[Step, ...]
    images: PreprocessingOverrides = field(default_factory=PreprocessingOverrides)
    strict: bool = False
    seed: int = 0
    output: str | None = None

    def __post_init__(self) -> None:
        if not self.operations:
            raise ValueError("operations must name at least one")
        if not 0 <= self.seed <= _LARGEST_SEED:
            raise ValueError(f"seed must be from 0 to {_LARGEST_SEED}, got {self.seed}")

    @classmethod
    def from_dict(cls, data: object, where: str = "recipe") -> Recipe:
        """Return the recipe in plain data.

        Args:
            data: the parsed YAML. `source` can be a name, and a list of selectors can be a single one.
            where: the file it is from, for errors.

        Raises:
            RecipeError: with all faults of an invalid recipe.
        """
        return validated(cls, _written_out(data), RecipeError, where)


def _written_out(data: object) -> object:
    """Return a recipe's data with abbreviations expanded; other data is returned unchanged."""
    if not isinstance(data, Mapping):
        return data
    full = dict(data)
    if isinstance(full.get("source"), str):
        full["source"] = {"name": full["source"]}
    if isinstance(full.get("operations"), list):
        full["operations"] = [_step_written_out(step) for step in full["operations"]]
    return full


def _step_written_out(step: object) -> object:
    if not isinstance(step, Mapping) or not isinstance(step.get("insert"), Mapping):
        return step
    insert = {"with_" if key == "with" else key: value for key, value in step["insert"].items()}
    insert |= {key: [insert[key]] for key in _SELECTORS if isinstance(insert.get(key), str)}
    return {**step, "insert": insert}
