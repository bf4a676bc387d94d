"""Run a network on an example without leaving a trace of the run."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attn_surgeon.surgery.isolation import isolated, mode, seeded

Example = Tensor | tuple[Any, ...] | Mapping[str, Any]


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks when the context ends, also those that were made before making another failed."""
    made: list[RemovableHandle] = []
    try:
        made.extend(handles)
        yield
    finally:
        for handle in made:
            handle.remove()


def here(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook that acts in this thread only: another one may call the same network meanwhile."""
    thread = threading.get_ident()

    def acting(*args: Any) -> Any:
        return hook(*args) if threading.get_ident() == thread else None

    return acting


def call(model: nn.Module, example: Example) -> Any:
    """Call the model on one tensor, a tuple of arguments or a dict of keyword arguments."""
    if isinstance(example, Mapping):
        return model(**example)
    return model(*example) if isinstance(example, tuple) else model(example)


def run_network(
    model: nn.Module,
    example: Example,
    *,
    training: bool = False,
    seed: int = 0,
    under: AbstractContextManager[Any] | None = None,
) -> Any:
    """Run the model once without gradients, deterministically, and return its output; `under` watches the call."""
    deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with (
        isolated(),
        mode(model, training=training),
        seeded(seed),
        torch.no_grad(),
        deterministic,
        under or nullcontext(),
    ):
        return call(model, usable(example))


def usable(example: Example) -> Example:
    """Return an example whose tensors were not made in inference mode, for autograd takes no such."""
    return cast(Example, map_tensors(example, lambda tensor: tensor.clone() if tensor.is_inference() else tensor))


def map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Apply `function` to every tensor in nested tuples, lists and dicts; other values pass."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [map_tensors(item, function) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def tensors(value: Any) -> list[Tensor]:
    """List every tensor in nested tuples, lists, dicts and plain objects such as dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return list(itertools.chain.from_iterable(tensors(item) for item in value.values()))
    if isinstance(value, (tuple, list)):
        return list(itertools.chain.from_iterable(tensors(item) for item in value))
    return tensors(vars(value)) if hasattr(value, "__dict__") and not callable(value) else []


def enlarged(example: Example, *variants: Callable[[Tensor], Tensor]) -> Example:
    """Return a batch of an example and variants of it; integers are repeated.

    An example whose tensors do not share their first axis has no batch to enlarge, and stays as it is.
    """
    found = tensors(example)
    if any(tensor.ndim == 0 for tensor in found) or len({len(tensor) for tensor in found}) > 1:
        return example

    def grow(tensor: Tensor) -> Tensor:
        parts = [variant(tensor) if tensor.is_floating_point() else tensor for variant in variants]
        return torch.cat((tensor, *parts))

    return cast(Example, map_tensors(example, grow))


def same_bits(first: Any, second: Any) -> bool:
    """Return whether two outputs have the same tensors, bit for bit; NaN equals NaN."""
    left, right = tensors(first), tensors(second)
    return len(left) == len(right) and all(map(_same_tensor, left, right))


def _same_tensor(left: Tensor, right: Tensor) -> bool:
    if left.shape != right.shape or left.dtype != right.dtype:
        return False
    if torch.equal(left, right):
        return True
    return left.is_floating_point() and bool(((left == right) | (left.isnan() & right.isnan())).all())


def parameter_device(module: nn.Module) -> torch.device | None:
    """Return the device of the module's first parameter or buffer."""
    first = next(itertools.chain(module.parameters(), module.buffers()), None)
    return None if first is None else first.device


def has_nan(output: Any) -> bool:
    """Return whether any tensor of an output has NaN; one on the meta device, without values, counts as such."""
    given = [tensor for tensor in tensors(output) if tensor.is_floating_point()]
    return any(tensor.is_meta or bool(tensor.isnan().any()) for tensor in given)
