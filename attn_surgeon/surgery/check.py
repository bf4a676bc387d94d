"""Check that the grafts of a network run: one run on an example, in which each of them is watched."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor, nn

from attn_surgeon.errors import ExampleError, LostGraftError, first_line
from attn_surgeon.surgery.installed import InstalledGraft, list_grafts, ran, require_grafts
from attn_surgeon.surgery.isolation import isolates
from attn_surgeon.surgery.rewrite.expected import expected_of
from attn_surgeon.surgery.running import Example, map_tensors, parameter_device, run_network


@isolates
def check(model: nn.Module, example: Example) -> list[InstalledGraft]:
    """Return the grafts of a network, after one run on an example in which every one of them ran.

    For networks that other code has trained, fused, wrapped or converted: a graft that does not run any more changes
    nothing that a metric would show. The network is not changed, but for grafts put back onto a leaf, such as a
    BatchNorm, that was replaced.

    Args:
        model: a network with grafts.
        example: an input (N, C, H, W), a tuple of arguments or a dict of keyword arguments.

    Returns:
        The grafts, in the order of the network's modules; an empty list where it has none.

    Raises:
        LostGraftError: a graft does not run; the message names it.
        ExampleError: the network does not run on the example.

    Example:
        >>> import torch, attn_surgeon
        >>> from attn_surgeon.networks.demo import load_demo
        >>> x = torch.zeros(1, 1, 32, 32)
        >>> network = attn_surgeon.insert(load_demo(), "se", after="layer3", example=x)
        >>> [made.place for made in attn_surgeon.check(network, x)]
        ['after layer3']
    """
    require_grafts(model)
    if not list_grafts(model):
        return []
    with ran(model) as missed:
        try:
            run_network(model, example)
        except LostGraftError:
            raise
        except Exception as error:
            what = f"the network does not run on the example: {first_line(error)}"
            raise ExampleError(what, "", "give one it takes") from error
    made = list_grafts(model)
    silent = [item for item in made if item.path in missed]
    if silent:
        raise LostGraftError(
            f"the grafts {', '.join(item.place for item in silent)} do not run on the example",
            f"owned by {silent[0].owner or 'the network itself'}",
            "the forward they are in was replaced, or is not called; to go on without them, call attn_surgeon.remove",
        )
    return made


def remember_example(model: nn.Module, example: Example) -> None:
    """Record the shapes that a network takes, so that its grafts can be checked where no example is given."""
    expected = expected_of(model)
    if expected is not None:
        expected.example = map_tensors(example, lambda tensor: torch.empty_like(tensor, device="meta"))


def check_remembered(model: nn.Module, example: Example | None = None) -> None:
    """Check that a network's grafts run, on an input like the one it was operated with where none is given.

    Where it runs on no such input any more, such as after a change of its first layer, what its modules are is checked
    alone. Raises LostGraftError where a graft does not run.
    """
    require_grafts(model)
    expected = expected_of(model)
    given = example if example is not None else expected and expected.example
    if given is None:
        return
    with suppress(ExampleError):
        check(model, map_tensors(given, lambda tensor: _like(tensor, model)))


def _like(tensor: Tensor, model: nn.Module) -> Tensor:
    """Return values of a tensor's shape that a model takes: on its device and, of real numbers, in its precision."""
    if not tensor.is_floating_point():
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=parameter_device(model))
    weights = next((p for p in model.parameters() if p.is_floating_point()), tensor)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
    return values.to(device=parameter_device(model), dtype=weights.dtype)
