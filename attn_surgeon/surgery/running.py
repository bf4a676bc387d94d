"""Run a network on an example deterministically and without side effects; helpers for nested tensors and hooks."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from attn_surgeon.errors import ExampleError, either, first_line
from attn_surgeon.surgery.isolation import isolated, mode, seeded

Example = Tensor | tuple[Any, ...] | Mapping[str, Any]


@contextmanager
def hooked(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Register hooks from an iterator of their handles, and remove them when the context ends.

    Where registering one fails, those registered before are removed.
    """
    registered: list[RemovableHandle] = []
    try:
        registered.extend(handles)
        yield
    finally:
        for handle in registered:
            handle.remove()


def in_this_thread(hook: Callable[..., Any]) -> Callable[..., Any]:
    """Return a hook that is ignored in other threads, which may call the same network meanwhile."""
    thread = threading.get_ident()

    def thread_hook(*args: Any) -> Any:
        return hook(*args) if threading.get_ident() == thread else None

    return thread_hook


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
    """Run the model once without gradients, deterministically, and return its output.

    Args:
        model: the network.
        example: its input.
        training: whether to run in train mode; otherwise in eval mode.
        seed: the seed of the random number generators.
        under: a context around the call, such as a `TorchFunctionMode`.
    """
    deterministic = torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True)
    with (
        isolated(),
        mode(model, training=training),
        seeded(seed),
        torch.no_grad(),
        deterministic,
        under or nullcontext(),
    ):
        return call(model, without_inference_tensors(example))


def run_example(model: nn.Module, example: Example) -> Any:
    """Run the model once as `run_network` does; raise ExampleError where it does not run on its example."""
    try:
        return run_network(model, example)
    except Exception as error:  # networks raise anything on inputs that they do not take
        raise example_error(error, example) from error


def example_error(error: Exception, example: Example) -> ExampleError:
    """Return the error to raise where a network does not run on its example."""
    several = either("example=(a, b)", "attn_surgeon.insert(network, block, example=(a, b)) in Python")
    one_input = f"describe an input that it takes with {either('example', '--size and --mean')}"
    takes_more = isinstance(error, TypeError) and "required positional argument" in str(error)
    shapes = ", ".join("×".join(map(str, tensor.shape)) for tensor in tensors(example))
    return ExampleError(
        f"the network does not run on its example: {first_line(error)}",
        f"input {shapes or 'without tensors'}",
        f"a network of several inputs needs {several}" if takes_more else one_input,
    )


def without_inference_tensors(example: Example) -> Example:
    """Return an example with its inference tensors cloned, because autograd cannot record them."""
    return cast(Example, map_tensors(example, lambda tensor: tensor.clone() if tensor.is_inference() else tensor))


def map_tensors(value: Any, function: Callable[[Tensor], Any]) -> Any:
    """Return a nested value with `function` applied to every tensor in tuples, lists and dicts."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [map_tensors(item, function) for item in value]
        return items if isinstance(value, list) else tuple(items)
    return value


def tensors(value: Any) -> list[Tensor]:
    """Return every tensor in nested tuples, lists, dicts and plain objects such as dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return list(itertools.chain.from_iterable(tensors(item) for item in value.values()))
    if isinstance(value, (tuple, list)):
        return list(itertools.chain.from_iterable(tensors(item) for item in value))
    return tensors(vars(value)) if hasattr(value, "__dict__") and not callable(value) else []


def enlarged(example: Example, *variants: Callable[[Tensor], Tensor]) -> Example:
    """Return an example concatenated with variants of it along the batch axis; integer tensors are repeated.

    An example whose tensors differ in the length of their first axis has no batch axis, and is returned unchanged.
    """
    inputs = tensors(example)
    if any(tensor.ndim == 0 for tensor in inputs) or len({len(tensor) for tensor in inputs}) > 1:
        return example

    def enlarge(tensor: Tensor) -> Tensor:
        parts = [variant(tensor) if tensor.is_floating_point() else tensor for variant in variants]
        return torch.cat((tensor, *parts))

    return cast(Example, map_tensors(example, enlarge))


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
    """Return whether any tensor of an output has NaN; a meta tensor, which has no values, counts as one that has."""
    floating = [tensor for tensor in tensors(output) if tensor.is_floating_point()]
    return any(tensor.is_meta or bool(tensor.isnan().any()) for tensor in floating)
