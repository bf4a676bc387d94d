"""Several processes that train one network: what only the first does, and what all must agree on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, TypeVar

import torch

from attn_surgeon.errors import SurgeonError

T = TypeVar("T")


def count() -> int:
    """Count the processes, as `accelerate launch` says it in the environment."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def index() -> int:
    """Number this process."""
    return int(os.environ.get("RANK", "0"))


def is_first() -> bool:
    """Tell whether this process writes what there is to write."""
    return index() == 0


def join() -> None:
    """Meet the other processes, over gloo where there is no accelerator."""
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available())


def by_first(make: Callable[[], T]) -> T:
    """Let the first process make something and give it to all; its error is everyone's."""
    if count() == 1:
        return make()
    from accelerate.utils import broadcast_object_list

    join()

    said: list[Any] = [_attempt(make) if is_first() else None]
    value, error = broadcast_object_list(said)[0]
    if error is not None:
        raise error
    return value  # type: ignore[no-any-return]


def _attempt(make: Callable[[], T]) -> tuple[T | None, SurgeonError | None]:
    try:
        return make(), None
    except SurgeonError as error:
        return None, error


def gathered(value: T) -> list[T]:
    """Give what every process holds, in the processes' order."""
    if count() == 1:
        return [value]
    from accelerate.utils import gather_object

    found: list[T] = gather_object([value])
    return found


def anywhere(*flags: bool, device: Any = "cpu") -> tuple[bool, ...]:
    """Tell, for each flag, whether it is up in any process."""
    if count() == 1:
        return flags
    from accelerate.utils import reduce

    raised: torch.Tensor = reduce(torch.tensor(flags, dtype=torch.float32, device=device))
    return tuple((raised > 0).tolist())
