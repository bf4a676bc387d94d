"""Split an operated network's tensors into the base's and the grafts', and hash them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.rewrite.grafts import RESERVED, grafts_of


def split_tensors(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return a network's state as the base's tensors and the grafts', each graft's under one name."""
    graft_paths = tuple(f"{item.path}." for item in list_grafts(model))
    every_module = model.named_modules(remove_duplicate=False)  # one module can have several names
    reserved = tuple(f"{path}.{RESERVED}.".removeprefix(".") for path, module in every_module if grafts_of(module))
    state = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, Tensor)}
    base = {name: tensor for name, tensor in state.items() if not name.startswith(reserved)}
    return base, {name: tensor for name, tensor in state.items() if name.startswith(graft_paths)}


def hash_tensors(tensors: Mapping[str, Tensor]) -> str:
    """Return the SHA-256 of names, types, shapes and values; the order of the mapping does not matter."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(_bytes(tensor))
    return digest.hexdigest()


def fingerprint(model: nn.Module) -> str:
    """Return the SHA-256 of all tensors of a network, the grafts' included."""
    base, grafts = split_tensors(model)
    return hash_tensors(base | grafts)


def _bytes(tensor: Tensor) -> Any:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    return flat.view(torch.uint8).numpy().data if flat.numel() else b""
