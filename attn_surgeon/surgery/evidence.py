"""What two networks are compared by: their outputs or, where these are empty, the outputs of their modules.

A detector that finds nothing returns empty lists, which are the same whatever was done to it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.surgery.rewrite.grafts import RESERVED
from attn_surgeon.surgery.running import Example, here, hooked, run_network, tensors


@dataclass(frozen=True)
class Evidence:
    """Tensors to compare bit for bit, and what they are in words."""

    values: Any
    what: str


def gather(model: nn.Module, example: Example, *, training: bool = False) -> Evidence:
    """Run a network and return what it can be compared by."""
    output = run_network(model, example, training=training)
    numbers = sum(tensor.numel() for tensor in tensors(output))
    if numbers:
        return Evidence(output, f"{numbers:,} outputs")
    digests: list[Tensor] = []
    with _listening(model, digests):
        run_network(model, example, training=training)
    return Evidence([output, digests], f"the output is empty; {len(digests):,} outputs of modules")


@contextmanager
def _listening(model: nn.Module, digests: list[Tensor]) -> Iterator[None]:
    """Append a digest of every tensor that a module of the network's own returns."""

    def note(_: nn.Module, __: Any, output: Any) -> None:
        digests.extend(_digest(tensor) for tensor in tensors(output))

    own = [
        module
        for path, module in model.named_modules()
        if RESERVED not in path.split(".") and not isinstance(module, torch.jit.ScriptModule)
    ]
    with hooked(module.register_forward_hook(here(note)) for module in own):
        yield


def _digest(tensor: Tensor) -> Tensor:
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return torch.frombuffer(
        bytearray(hashlib.sha256(str(tuple(tensor.shape)).encode() + data).digest()), dtype=torch.uint8
    )
