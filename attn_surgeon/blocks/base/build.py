"""Build the block of a specification for a site's channels and layout."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from attn_surgeon.blocks.base.card import Card
from attn_surgeon.blocks.base.layout import Flat, Permuted, Sequence, Tokens
from attn_surgeon.blocks.base.registry import get_card, get_factory
from attn_surgeon.blocks.base.spec import BlockSpec
from attn_surgeon.blocks.base.stack import Stack
from attn_surgeon.blocks.base.two_inputs import Doubled, Paired, Second
from attn_surgeon.errors import MemoryLimitError, first_line
from attn_surgeon.surgery.allocation import within_memory

MAPS, VOLUMES = ("NCHW", "NHWC", "NLC"), ("NCDHW", "NDHWC")


@dataclass(frozen=True)
class _Place:
    """The layout of the features."""

    layout: str
    prefix: int
    grid: tuple[int, int] | None
    positions: int

    @property
    def dimensions(self) -> int:
        """The number of spatial dimensions."""
        return 3 if self.layout in VOLUMES else 1 if self.layout == "NCL" or self._no_map() else 2

    def _no_map(self) -> bool:
        return self.layout == "NLC" and self.grid is None


def build_block(
    spec: BlockSpec | str,
    channels: int,
    *,
    layout: str = "NCHW",
    prefix: int = 0,
    grid: tuple[int, int] | None = None,
    positions: int = 0,
    other: Second | None = None,
) -> nn.Module:
    """Build a block for features of a layout.

    Args:
        spec: the block's specification, or its name.
        channels: the features' channels.
        layout: NCHW, NHWC, NLC (tokens), NCL, NDHWC, NCDHW or NC.
        prefix: the tokens before those of the map, such as a class token.
        grid: the (height, width) of the map that tokens form.
        positions: the number of positions in the example, 0 where unknown.
        other: the second input of a block of two; without it, the block takes the same map twice. A stack passes it to
            those of its blocks that take two.

    Raises:
        BlockError: for an unknown name.
        ValueError: with the reason, where the block cannot run on such features.

    >>> import torch
    >>> build_block("SE", 64)(torch.ones(1, 64, 7, 7)).shape
    torch.Size([1, 64, 7, 7])
    """
    spec = BlockSpec.read(spec, {}) if isinstance(spec, str) else spec
    place = _Place(layout, prefix, grid, positions)
    if len(spec.parts) == 1:
        return _build(spec, channels, place, other)
    if other is not None and spec.inputs == 1:
        raise ValueError(f"{spec.name} takes one input")
    paired = [other is not None and part.inputs == 2 for part in spec.parts]
    blocks = [
        _build(part, channels, place, other if takes else None) for part, takes in zip(spec.parts, paired, strict=True)
    ]
    return Stack(blocks, paired)


def build_alone(spec: BlockSpec, channels: int, positions: int) -> nn.Module:
    """Build a block outside any network, to count or measure it; one of two inputs takes the same map twice."""
    if spec.inputs == 1:
        return build_block(spec, channels, positions=positions)
    return Doubled(build_block(spec, channels, positions=positions, other=Second(channels)))


def _build(spec: BlockSpec, channels: int, place: _Place, other: Second | None) -> nn.Module:
    card, layout = get_card(spec.name), place.layout
    _require_positions(card, place)
    if card.any_dimensions and place.dimensions != 2:
        return _laid_out(_made(spec, channels, dimensions=place.dimensions), place)
    mapped = card.reach_with(spec.options) == "map" or (other is not None and layout in MAPS)
    if mapped:
        _require_map(spec.name, place)
    if card.selective and other is None:
        raise ValueError(
            f"{card.name} weighs two tensors against each other, and there is only one:"
            " name the site of the second by the option 'with' (with_ in Python)"
        )
    if other is not None:
        _require_second(card, other, place)
    block = _made(spec, channels)
    if card.inputs == 2:
        block = Doubled(block) if other is None else Paired(block, channels, other)
    if layout == "NCHW":
        return block
    if layout == "NLC":
        return Tokens(block, place.prefix, place.grid if mapped else None)
    if layout == "NHWC":
        return Permuted(block)
    flat = block if isinstance(block, Paired) else Flat(block)
    return Permuted(flat) if layout == "NDHWC" else flat


def _laid_out(block: nn.Module, place: _Place) -> nn.Module:
    if place.layout == "NLC":
        return Sequence(block, place.prefix)
    return Permuted(block) if place.layout == "NDHWC" else block


def _made(spec: BlockSpec, channels: int, **more: int) -> nn.Module:
    try:
        with within_memory(spec.name, ""):
            block: nn.Module = get_factory(spec.name)(channels, **spec.options, **more, init=spec.init)
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, MemoryLimitError) as error:  # options of any size
        raise ValueError(f"{spec.name} cannot be made with these options: {first_line(error)[:200]}") from error
    return block


def _require_positions(card: Card, place: _Place) -> None:
    if card.reach != "channels" and (place.positions == 1 or place.layout == "NC"):
        raise ValueError(f"{card.name} tells positions apart, and there is only one")


def _require_map(name: str, place: _Place) -> None:
    if place.layout == "NLC" and place.grid is None:
        raise ValueError(f"{name} needs a map, and its tokens form none of whole patches")
    if place.layout not in MAPS:
        raise ValueError(f"{name} runs on maps (N, C, H, W), not on {place.layout}")


def _require_second(card: Card, other: Second, place: _Place) -> None:
    if card.inputs == 1:
        raise ValueError(f"{card.name} takes one input")
    if place.layout not in MAPS:
        alike = VOLUMES if place.layout in VOLUMES else (place.layout,)
        if other.layout not in alike:
            raise ValueError(f"{card.name} takes {' or '.join(alike)} as its second input there, not {other.layout}")
        return
    if other.layout == "NLC" and other.grid is None:
        raise ValueError(f"{card.name} needs a map as its second input, and those tokens form none of whole patches")
    if other.layout not in MAPS:
        raise ValueError(f"{card.name} takes a map (N, C, H, W) as its second input, not {other.layout}")
