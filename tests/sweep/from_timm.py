"""Networks of timm, at random weights and the smallest input they take."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import timm
import torch
from timm.models import get_pretrained_cfg
from timm.models._registry import _model_to_module
from torch import nn

from .cases import Case, try_case
from .quick import build

SIZES = (64, 56, 96, 112, 128, 160, 192, 224, 256)


def names() -> list[str]:
    """List timm's architectures."""
    return list(timm.list_models())


def task(name: str) -> str:
    """Name what the architecture is for; all of timm's classify."""
    return "classification"


def family(name: str) -> str:
    """Name the file of timm that holds the architecture."""
    return str(_model_to_module[name])


def out_of_scope(name: str) -> str | None:
    """Say why an architecture is not swept."""
    return None


def make_case(name: str, largest: int) -> Case:
    """Build the network at the smallest input it takes; raise the last size's error where it takes none."""
    torch.manual_seed(0)
    error: Exception = ValueError("it takes no size")
    model: nn.Module | None = None
    for size, sized in _attempts(name):
        example = torch.randn(2, 3, *size)
        try:
            if sized or model is None:
                model = build(partial(timm.create_model, name, **({"img_size": size} if sized else {})), largest)
            return try_case(model, example, example)
        except Exception as failure:  # each network says in its own way what it does not take
            error = failure
            model = None if sized else model
    raise error


def _attempts(name: str) -> Iterator[tuple[tuple[int, int], bool]]:
    """Offer input sizes, the smallest first, and whether to build the network for that size."""
    config = get_pretrained_cfg(name)
    own: tuple[int, int] = config.input_size[1:]
    sizes = [(size, size) for size in SIZES if size < min(own)]
    if not config.fixed_input_size:
        yield from ((size, False) for size in sizes)
    else:
        yield from ((size, True) for size in sizes)
    yield own, False
