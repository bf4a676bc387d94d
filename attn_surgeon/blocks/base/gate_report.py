"""Report the state of a block's gates, also of stacks, blocks of two inputs and users' blocks, in any layout.

A block is the identity if all its gates are closed, or one that closes the whole block.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from attn_surgeon.blocks.base.gate import Gate


def gates_of(block: nn.Module) -> dict[str, Gate]:
    """Return the gates that decide whether a block is the identity, by their paths in it.

    >>> from attn_surgeon.blocks import BlockSpec, build_block
    >>> {path: gate.formula for path, gate in gates_of(build_block(BlockSpec("cbam"), 16)).items()}
    {'channel.gate': 'y = x · 2 · sigmoid(z)', 'spatial.gate': 'y = x · 2 · sigmoid(z)'}
    """
    return {path: gate for path, gate, _ in _walk(block)}


def closing_parameters(block: nn.Module) -> dict[str, Tensor]:
    """Return the parameters that make a block the identity, by their names in it, open or not.

    >>> from attn_surgeon.blocks import BlockSpec, build_block
    >>> list(closing_parameters(build_block(BlockSpec("se"), 16)))
    ['fc2.weight', 'fc2.bias']
    """
    closing = {id(parameter) for _, gate, owner in _walk(block) for parameter, _ in gate.closing_parameters(owner)}
    return {name: parameter for name, parameter in block.named_parameters() if id(parameter) in closing}


def is_identity(block: nn.Module) -> bool:
    """Return whether a block returns its first input bit for bit, whatever its other parameters are.

    >>> from attn_surgeon.blocks import BlockSpec, build_block
    >>> is_identity(build_block(BlockSpec("se"), 16)), is_identity(build_block(BlockSpec("se", init="paper"), 16))
    (True, False)
    """
    gates = list(_walk(block))
    return bool(gates) and all(gate.is_closed(owner) for _, gate, owner in gates)


@torch.no_grad()
def openness(block: nn.Module, *inputs: Tensor) -> float:
    """Return how much a block changes its first input, relative to its norm: ‖f(x) − x‖ / ‖x‖, 0 while it is closed.

    Args:
        block: a block as `build_block` makes it.
        inputs: its one or two inputs, in the layout of its site.
    """
    x = inputs[0].double()
    norm = float(x.norm())
    return float((block(*inputs).double() - x).norm()) / norm if norm else 0.0


@torch.no_grad()
def gate_maps(block: nn.Module, *inputs: Tensor) -> dict[str, list[Tensor]]:
    """Return the values of a block's gates on an input, by their paths, one tensor for each time a gate is used.

    Args:
        block: a block as `build_block` makes it.
        inputs: its one or two inputs, in the layout of its site.

    Returns:
        for a gate that multiplies, its factors (N, C or 1, H or 1, W or 1). For others, ‖y − x‖ / ‖x‖ over channels,
        (N, 1, H, W). Tokens are arranged as maps; without a map, W is 1.

    >>> from attn_surgeon.blocks import BlockSpec, build_block
    >>> maps = gate_maps(build_block(BlockSpec("cbam"), 16), torch.randn(2, 16, 5, 7))
    >>> {path: [tuple(each.shape) for each in values] for path, values in maps.items()}
    {'channel.gate': [(2, 16, 1, 1)], 'spatial.gate': [(2, 1, 5, 7)]}
    """
    gates = gates_of(block)
    maps: dict[str, list[Tensor]] = {path: [] for path in gates}
    handles = [
        gate.register_forward_hook(
            lambda gate, inputs, output, path=path: maps[path].append(gate.measure(inputs, output))
        )
        for path, gate in gates.items()
    ]
    try:
        block(*inputs)
    finally:
        for handle in handles:
            handle.remove()
    return maps


def _walk(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, Gate, nn.Module]]:
    """Yield the paths of gates, the gates, and the modules whose layers close them."""
    children = list(module.named_children())
    gates = [(f"{prefix}{name}", child, module) for name, child in children if isinstance(child, Gate)]
    yield from gates
    if any(gate.closes_all for _, gate, _ in gates):
        return
    for name, child in children:
        if not isinstance(child, Gate):
            yield from _walk(child, f"{prefix}{name}.")
