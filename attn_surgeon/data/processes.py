"""Distributed training: what only the first process does, and what all processes must agree on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from attn_surgeon.errors import SurgeonError

T = TypeVar("T")


def count() -> int:
    """Return the number of processes, which `accelerate launch` sets in the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def index() -> int:
    """Return the rank of this process."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Whether this process is the one that writes files."""
    return index() == 0


def join_processes() -> None:
    """Initialise the process group, with gloo where there is no accelerator."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def device() -> torch.device:
    """Return the device of this process."""
    from accelerate import PartialState

    join_processes()
    found: torch.device = PartialState().device
    return found


def by_first(make: Callable[[], T]) -> T:
    """Return in every process what the first one makes, or raise its error in all."""
    if count() == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    join_processes()

    made: list[Any] = [_attempt(make) if is_first() else None]
    value, error = broadcast_object_list(made)[0]
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def _attempt(make: Callable[[], T]) -> tuple[T | None, SurgeonError | None]:
    try:
        return make(), None
    except SurgeonError as error:
        return None, error


def gathered(value: T) -> list[T]:
    """Return the values of all processes, by rank."""
    if count() == 1:
        return [value]
    from accelerate.utils import gather_object

    found: list[T] = gather_object([value])
    return found


def anywhere(*flags: bool, device: Any = "cpu") -> tuple[bool, ...]:
    """Return, for each flag, whether it is set in any process."""
    if count() == 1:
        return flags
    from accelerate.utils import reduce

    raised: torch.Tensor = reduce(torch.tensor(flags, dtype=torch.float32, device=device))
    return tuple((raised > 0).tolist())
