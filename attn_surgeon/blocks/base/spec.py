"""The specification of a block, or of a stack of blocks: names, options and initialisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from attn_surgeon.blocks.base.initialisation import INITS
from attn_surgeon.blocks.base.registry import canonical, get_card, is_user_block
from attn_surgeon.errors import BlockError, excerpt, nearest

_MOST_PARTS = 64


@dataclass(frozen=True)
class BlockSpec:
    """A block by name, with its options and its initialisation: `identity`, or `paper` for the published one.

    `se+spatial` is a stack, in which blocks run one after the other; its options are named `se.reduction` and
    `spatial.kernel_size`.
    """

    name: str
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    init: str = "identity"

    @classmethod
    def read(cls, name: str, options: Mapping[str, Any], init: str = "identity") -> Self:
        """Build a specification; raise BlockError for an unknown name, option or initialisation. `SE` means `se`."""
        if not isinstance(name, str):
            raise BlockError(
                f"a block is named by a string, not by a {type(name).__name__}",
                "such as 'cbam'",
                f"register your own: attn_surgeon.register_block('mine', {getattr(name, '__name__', 'MyBlock')})",
            )
        if init not in INITS:
            hint = nearest(init, INITS) or f"it is one of {', '.join(INITS)}"
            raise BlockError(f"unknown init '{init}'", f"block '{name}'", hint)
        if name.count("+") >= _MOST_PARTS:
            raise BlockError(f"a stack has at most {_MOST_PARTS} blocks", excerpt(name), "insert the others afterwards")
        parts = [canonical(part) for part in name.split("+")]
        name = "+".join(parts)
        if len(parts) == 1:
            return cls(name, get_card(name).read_options(options), init)
        options_of = _by_part(parts, options)
        read = {part: get_card(part).read_options(options_of[part]) for part in options_of}
        return cls(name, {f"{part}.{key}": value for part in read for key, value in read[part].items()}, init)

    @property
    def parts(self) -> tuple[BlockSpec, ...]:
        """The blocks of a stack, or the single block."""
        names = self.name.split("+")
        if len(names) == 1:
            return (self,)
        options_of = _by_part(names, self.options)
        return tuple(BlockSpec(name, options_of[name], self.init) for name in names)

    @property
    def inputs(self) -> int:
        """The number of maps that it takes."""
        return max(get_card(part.name).inputs for part in self.parts)

    @property
    def has_user_code(self) -> bool:
        """Whether a block of it is the user's own code."""
        return any(is_user_block(part.name) for part in self.parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as plain data."""
        return {"name": self.name, "options": dict(self.options), "init": self.init}


def _by_part(names: list[str], options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Assign each option of a stack to the part it names, else to the only one that has it."""
    options_of: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in options.items():
        part, _, option = key.rpartition(".")
        options_of[_owner(names, part, option)][option] = value
    return options_of


def _owner(names: list[str], part: str, option: str) -> str:
    where = f"stack '{'+'.join(names)}'"
    if part and part not in names:
        raise BlockError(f"no block of the stack is called '{part}'", where, nearest(part, names))
    having = [name for name in dict.fromkeys(names) if get_card(name).has(option)]
    if part or len(having) == 1:
        return part or having[0]
    if not having:
        known = [f"{name}.{each.name}" for name in dict.fromkeys(names) for each in get_card(name).options]
        raise BlockError(
            f"no option is called '{option}'", where, nearest(option, known) or f"it has {', '.join(known)}"
        )
    hint = f"write {' or '.join(f'{name}.{option}' for name in having)}"
    raise BlockError(f"{len(having)} of its blocks have an option '{option}'", where, hint)
