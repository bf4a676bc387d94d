"""Distributed training: rank, world size and device of this process, and collective operations on Python objects."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from attn_surgeon.errors import SurgeonError

T = TypeVar("T")


def world_size() -> int:
    """Return the number of processes, which `accelerate launch` sets in the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the rank of this process."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Return whether this is the process of rank 0, which writes files."""
    return rank() == 0


def join_processes() -> None:
    """Initialise the process group, with the gloo backend where there is no accelerator."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def device() -> torch.device:
    """Return the device of this process."""
    from accelerate import PartialState

    join_processes()
    process_device: torch.device = PartialState().device
    return process_device


def run_on_first(make: Callable[[], T]) -> T:
    """Call a function in the first process, and return its result or raise its SurgeonError in all processes."""
    if world_size() == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    join_processes()
    results: list[Any] = [_attempt(make) if is_first() else None]
    value, error = broadcast_object_list(results)[0]
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def _attempt(make: Callable[[], T]) -> tuple[T | None, SurgeonError | None]:
    try:
        return make(), None
    except SurgeonError as error:
        return None, error


def gather_objects(value: T) -> list[T]:
    """Return the values of all processes, by rank."""
    if world_size() == 1:
        return [value]
    from accelerate.utils import gather_object

    values: list[T] = gather_object([value])
    return values


def any_process(*flags: bool, device: Any = "cpu") -> tuple[bool, ...]:
    """Return, for each flag, whether it is set in any process."""
    if world_size() == 1:
        return flags
    from accelerate.utils import reduce

    counts: torch.Tensor = reduce(torch.tensor(flags, dtype=torch.float32, device=device))
    return tuple((counts > 0).tolist())
