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
    """One option of a block.

    Args:
        name: its name.
        default: its default; None if that depends on the channels.
        meaning: what it does.
        minimum: the smallest valid number.
        maximum: the largest valid number.
        choices: the valid words.
        odd: whether only odd numbers are valid.
        free: whether any plain value is valid; text is parsed as one: 8, 0.5, true, null, or a word.
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
        """Return text or a number as a value of this option; raise BlockError if it is invalid."""
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
            return self._boolean(value, block)
        try:
            result: int | float | str = kind(value)
        except (TypeError, ValueError, OverflowError):
            raise self._wrong(value, block, f"it takes {_ARTICLES[kind]}") from None
        inexact = isinstance(value, float) and result != value
        if inexact or isinstance(value, bool) or (isinstance(result, float) and not math.isfinite(result)):
            raise self._wrong(value, block, f"it takes {_ARTICLES[kind]}")
        return result

    def _boolean(self, value: Any, block: str) -> bool:
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
            f"invalid option {self.name}={value}: {reason}",
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

    Args:
        name: its name, as `insert` takes it.
        title: its full name.
        paper: authors, title and year.
        idea: what it does, in one line.
        formula: what it computes.
        identity: the parameters that make it the identity.
        parameters: their number, a formula of C, H and W at the default options; other names are defined after a comma.
        macs: its multiply-accumulate operations, a formula of the same kind.
        usual_sites: where papers insert it.
        kind: the part of the catalogue. A block of two inputs takes two maps of one shape.
        reach: what it needs to know of positions: `channels` only pools over them and runs on any features,
            `positions` needs several, in any number of dimensions, `map` needs a height and a width.
        options: its options.
        open: whether it takes any option.
        selective: whether it weighs its two inputs against each other, so that they must differ.
        any_dimensions: whether its class is built for sequences and volumes too, by an argument `dimensions`.
        needs_map: an option and its values with which the block needs a map, whatever its `reach`.
        nodes: the most ONNX nodes of a trained graft on a map of 64 channels and one size; 0 if not measured.
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
        """The features that the block runs on, a key of `REACHES`."""
        return "positions" if self.any_dimensions else self.reach

    def reach_with(self, options: Mapping[str, Any]) -> str:
        """Return the reach of the block with these options."""
        if self.needs_map is not None and options.get(self.needs_map[0]) in self.needs_map[1]:
            return "map"
        return self.reach

    def read_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values of options; raise BlockError for an unknown option or an invalid value."""
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
