"""Build the block of a specification for a site's channels and layout."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from attn_surgeon.blocks.base.card import Card
from attn_surgeon.blocks.base.layout import ChannelsLast, FlattenedPositions, TokenMap, TokenSequence
from attn_surgeon.blocks.base.registry import get_card, get_factory
from attn_surgeon.blocks.base.spec import BlockSpec
from attn_surgeon.blocks.base.stack import Stack
from attn_surgeon.blocks.base.two_inputs import SameInputTwice, SecondInput, WithSecondInput
from attn_surgeon.errors import MemoryLimitError, first_line
from attn_surgeon.surgery.allocation import within_memory

MAPS, VOLUMES = ("NCHW", "NHWC", "NLC"), ("NCDHW", "NDHWC")


@dataclass(frozen=True)
class _Features:
    """The layout of the features that a block is built for."""

    layout: str
    prefix: int
    grid: tuple[int, int] | None
    positions: int

    @property
    def dimensions(self) -> int:
        """The number of spatial dimensions."""
        if self.layout in VOLUMES:
            return 3
        return 1 if self.layout == "NCL" or (self.layout == "NLC" and self.grid is None) else 2


def build_block(
    spec: BlockSpec | str,
    channels: int,
    *,
    layout: str = "NCHW",
    prefix: int = 0,
    grid: tuple[int, int] | None = None,
    positions: int = 0,
    other: SecondInput | None = None,
) -> nn.Module:
    """Build a block for features of a layout.

    Args:
        spec: the block's specification, or its name.
        channels: the features' channels.
        layout: NCHW, NHWC, NLC (tokens), NCL, NDHWC, NCDHW or NC.
        prefix: the number of prefix tokens, such as a class token.
        grid: the (height, width) of the map that the other tokens form.
        positions: the number of positions in the example; 0 if unknown.
        other: the second input of a block of two inputs; without it, the block takes the same map twice. A stack
            passes it to those of its blocks that take two.

    Raises:
        BlockError: for an unknown name.
        ValueError: the block cannot run on such features.

    >>> import torch
    >>> build_block("SE", 64)(torch.ones(1, 64, 7, 7)).shape
    torch.Size([1, 64, 7, 7])
    """
    spec = BlockSpec.read(spec, {}) if isinstance(spec, str) else spec
    features = _Features(layout, prefix, grid, positions)
    if len(spec.parts) == 1:
        return _build(spec, channels, features, other)
    if other is not None and spec.inputs == 1:
        raise ValueError(f"{spec.name} takes one input")
    takes_second = [other is not None and part.inputs == 2 for part in spec.parts]
    blocks = [
        _build(part, channels, features, other if takes else None)
        for part, takes in zip(spec.parts, takes_second, strict=True)
    ]
    return Stack(blocks, takes_second)


def build_alone(spec: BlockSpec, channels: int, positions: int) -> nn.Module:
    """Build a block outside any network, to measure it; a block of two inputs takes the same map twice."""
    if spec.inputs == 1:
        return build_block(spec, channels, positions=positions)
    return SameInputTwice(build_block(spec, channels, positions=positions, other=SecondInput(channels)))


def _build(spec: BlockSpec, channels: int, features: _Features, other: SecondInput | None) -> nn.Module:
    card, layout = get_card(spec.name), features.layout
    _require_positions(card, features)
    if card.any_dimensions and features.dimensions != 2:
        return _wrapped(_create(spec, channels, dimensions=features.dimensions), features)
    mapped = card.reach_with(spec.options) == "map" or (other is not None and layout in MAPS)
    if mapped:
        _require_map(spec.name, features)
    if card.selective and other is None:
        raise ValueError(
            f"{card.name} combines two different tensors, and there is only one:"
            " name the site of the second by the option 'with' (with_ in Python)"
        )
    if other is not None:
        _require_second(card, other, features)
    block = _create(spec, channels)
    if card.inputs == 2:
        block = SameInputTwice(block) if other is None else WithSecondInput(block, channels, other)
    if layout == "NCHW":
        return block
    if layout == "NLC":
        return TokenMap(block, features.prefix, features.grid if mapped else None)
    if layout == "NHWC":
        return ChannelsLast(block)
    flat = block if isinstance(block, WithSecondInput) else FlattenedPositions(block)
    return ChannelsLast(flat) if layout == "NDHWC" else flat


def _wrapped(block: nn.Module, features: _Features) -> nn.Module:
    if features.layout == "NLC":
        return TokenSequence(block, features.prefix)
    return ChannelsLast(block) if features.layout == "NDHWC" else block


def _create(spec: BlockSpec, channels: int, **more: int) -> nn.Module:
    try:
        with within_memory(spec.name, ""):
            block: nn.Module = get_factory(spec.name)(channels, **spec.options, **more, init=spec.init)
    except (ArithmeticError, MemoryError, RuntimeError, TypeError, MemoryLimitError) as error:  # options of any size
        raise ValueError(f"{spec.name} cannot be built with these options: {first_line(error)[:200]}") from error
    return block


def _require_positions(card: Card, features: _Features) -> None:
    if card.reach != "channels" and (features.positions == 1 or features.layout == "NC"):
        raise ValueError(f"{card.name} needs more than one position")


def _require_map(name: str, features: _Features) -> None:
    if features.layout == "NLC" and features.grid is None:
        raise ValueError(f"{name} needs a map, which these tokens do not form")
    if features.layout not in MAPS:
        raise ValueError(f"{name} runs on maps (N, C, H, W), not on {features.layout}")


def _require_second(card: Card, other: SecondInput, features: _Features) -> None:
    if card.inputs == 1:
        raise ValueError(f"{card.name} takes one input")
    if features.layout not in MAPS:
        alike = VOLUMES if features.layout in VOLUMES else (features.layout,)
        if other.layout not in alike:
            raise ValueError(f"{card.name} takes {' or '.join(alike)} as its second input there, not {other.layout}")
        return
    if other.layout == "NLC" and other.grid is None:
        raise ValueError(f"{card.name} needs a map as its second input, which those tokens do not form")
    if other.layout not in MAPS:
        raise ValueError(f"{card.name} takes a map (N, C, H, W) as its second input, not {other.layout}")
