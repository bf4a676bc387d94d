"""The description of a block in the catalogue, and how its options are read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from attn_surgeon.errors import BlockError, function, nearest

Value = bool | int | float | str | None
KINDS = ("channel", "spatial", "both", "self-attention", "two inputs")
REACHES = {
    "channels": "maps, tokens, sequences, volumes and vectors",
    "positions": "maps, tokens, sequences and volumes of more than one position",
    "map": "maps and tokens of more than one position",
}


@dataclass(frozen=True)
class Option:
    """One option of a block: its default (None where it depends on the channels), its range, and what it does.

    A `free` option is any plain value, which text is read as: 8, 0.5, true, null, or a word.
    """

    name: str
    default: Value
    meaning: str
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    odd: bool = False
    free: bool = False

    def read(self, value: Any, block: str) -> Value:
        """Return text or a number as a value of this option; raise BlockError where it is out of range."""
        if self.free:
            return _plain(value)
        if value is None and self.default is None:
            return None
        result = self._typed(value, block)
        if self.choices and result not in self.choices:
            raise self._wrong(value, block, f"it takes one of {', '.join(self.choices)}")
        if isinstance(result, int | float):
            self._check_range(result, value, block)
        return result

    @property
    def range(self) -> str:
        """The valid values, as text."""
        if self.choices:
            return " | ".join(self.choices)
        if isinstance(self.default, bool):
            return "true | false"
        if self.minimum is not None and self.maximum is not None:
            text = f"{self.minimum:g} to {self.maximum:g}"
        else:
            text = "" if self.minimum is None else f"at least {self.minimum:g}"
        return f"{text}, odd".removeprefix(", ") if self.odd else text

    def _kind(self) -> type:
        if self.choices:
            return str
        return int if self.default is None else type(self.default)

    def _typed(self, value: Any, block: str) -> bool | int | float | str:
        kind = self._kind()
        if kind is bool:
            return self._switch(value, block)
        try:
            result: int | float | str = kind(value)
        except (TypeError, ValueError, OverflowError):
            raise self._wrong(value, block, f"it takes {_ARTICLES[kind]}") from None
        inexact = isinstance(value, float) and result != value
        if inexact or isinstance(value, bool) or (isinstance(result, float) and not math.isfinite(result)):
            raise self._wrong(value, block, f"it takes {_ARTICLES[kind]}")
        return result

    def _switch(self, value: Any, block: str) -> bool:
        if str(value).lower() not in ("true", "false"):
            raise self._wrong(value, block, "it takes true or false")
        return str(value).lower() == "true"

    def _check_range(self, result: float, value: Any, block: str) -> None:
        if self.minimum is not None and result < self.minimum:
            raise self._wrong(value, block, f"the smallest is {self.minimum:g}")
        if self.maximum is not None and result > self.maximum:
            raise self._wrong(value, block, f"the largest is {self.maximum:g}")
        if self.odd and int(result) % 2 == 0:
            raise self._wrong(value, block, "it takes an odd number")

    def _wrong(self, value: Any, block: str, reason: str) -> BlockError:
        return BlockError(
            f"option {self.name}={value} is out of range: {reason}",
            f"block '{block}'",
            f"see: {function(f'blocks.get_card({block!r})', f'blocks {block}')}",
        )


def _plain(value: Any) -> Value:
    import yaml

    read = yaml.safe_load(value) if isinstance(value, str) else value
    return read if isinstance(read, bool | int | float) or read is None else str(value)


_ARTICLES: Mapping[type, str] = {int: "a whole number", float: "a number", str: "a word"}


@dataclass(frozen=True)
class Card:
    """The description of a block in the catalogue.

    Its reach is where it runs: a block of `channels` only pools over positions and runs on anything, one of `positions`
    uses them in any number of dimensions, one of a `map` needs a height and a width, and so does any block with
    the option that `needs_map` names. One of `any_dimensions` is made for a map, a sequence or a volume by the argument
    `dimensions` of its class, which is no option. A block of two `inputs` takes two maps of one shape, and its output
    is shaped like them; one that is `selective` weighs one against the other, so that it needs two that differ. The
    costs are formulas of C, H and W at the default options, with other names defined after a comma; a trained graft
    takes at most so many `nodes` in an ONNX file of one size of 64 channels, 0 where nobody counted. An
    `open` card takes any option.
    """

    name: str
    title: str
    paper: str
    idea: str
    formula: str
    identity: str
    parameters: str
    macs: str
    usual_sites: str
    kind: Literal["channel", "spatial", "both", "self-attention", "two inputs"]
    reach: Literal["channels", "positions", "map"]
    options: tuple[Option, ...] = ()
    open: bool = False
    selective: bool = False
    any_dimensions: bool = False
    needs_map: tuple[str, tuple[Value, ...]] | None = None
    nodes: int = 0

    @property
    def inputs(self) -> int:
        """The number of maps that the block takes."""
        return 2 if self.kind == "two inputs" else 1

    @property
    def runs_on(self) -> str:
        """Return the reach of what the block runs on, a key of `REACHES`."""
        return "positions" if self.any_dimensions else self.reach

    def reach_with(self, options: Mapping[str, Any]) -> str:
        """Return where the block runs with these options."""
        if self.needs_map is not None and options.get(self.needs_map[0]) in self.needs_map[1]:
            return "map"
        return self.reach

    def read_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return options checked against the card; raise BlockError for an unknown one or a value out of range."""
        known = {option.name: option for option in self.options}
        for name in given:
            if not self.has(name):
                hint = nearest(name, known) or f"it has {', '.join(known) or 'no options'}"
                raise BlockError(f"no option is called '{name}'", f"block '{self.name}'", hint)
        anything = Option("", None, "", free=True)
        return {name: known.get(name, anything).read(value, self.name) for name, value in given.items()}

    def has(self, name: str) -> bool:
        """Return whether the block has an option of this name."""
        return self.open or any(option.name == name for option in self.options)
