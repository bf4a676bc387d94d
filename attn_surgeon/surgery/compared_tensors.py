"""Collect the tensors by which two networks are compared: their outputs or, where empty, those of all modules.

A detector that finds nothing returns empty lists, which would equal those of any other network.
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
from attn_surgeon.surgery.running import Example, hooked, in_this_thread, run_network, tensors


@dataclass(frozen=True)
class Evidence:
    """Tensors to compare bit for bit; `description` says what they are, such as `1,000 outputs`."""

    values: Any
    description: str


def gather(model: nn.Module, example: Example, *, training: bool = False) -> Evidence:
    """Run a network and return the tensors that it can be compared by."""
    output = run_network(model, example, training=training)
    numbers = sum(tensor.numel() for tensor in tensors(output))
    if numbers:
        return Evidence(output, f"{numbers:,} outputs")
    digests: list[Tensor] = []
    with _digested(model, digests):
        run_network(model, example, training=training)
    return Evidence([output, digests], f"the output is empty; {len(digests):,} outputs of modules")


@contextmanager
def _digested(model: nn.Module, digests: list[Tensor]) -> Iterator[None]:
    """Append a SHA-256 digest of every tensor that a module returns, those inside grafts excepted."""

    def append(_: nn.Module, __: Any, output: Any) -> None:
        digests.extend(_digest(tensor) for tensor in tensors(output))

    modules = [
        module
        for path, module in model.named_modules()
        if RESERVED not in path.split(".") and not isinstance(module, torch.jit.ScriptModule)
    ]
    with hooked(module.register_forward_hook(in_this_thread(append)) for module in modules):
        yield


def _digest(tensor: Tensor) -> Tensor:
    data = tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()
    return torch.frombuffer(
        bytearray(hashlib.sha256(str(tuple(tensor.shape)).encode() + data).digest()), dtype=torch.uint8
    )
