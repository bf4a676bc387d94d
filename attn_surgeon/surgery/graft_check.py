"""Check that every graft of a network runs in a forward pass on an example."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor, nn

from attn_surgeon.errors import ExampleError, LostGraftError, first_line
from attn_surgeon.surgery.installed_grafts import InstalledGraft, list_grafts, ran, require_grafts
from attn_surgeon.surgery.isolation import isolates
from attn_surgeon.surgery.rewrite.expected_grafts import expected_of
from attn_surgeon.surgery.running import Example, map_tensors, parameter_device, run_network


@isolates
def check(model: nn.Module, example: Example) -> list[InstalledGraft]:
    """Return the grafts of a network, after a forward pass on an example in which every graft ran.

    For networks that other code has trained, fused, wrapped or converted: no metric need show that a graft does not run
    any more. The network is not changed, except that grafts are moved onto a leaf module, such as a BatchNorm, that
    replaced theirs.

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
        >>> [graft.place for graft in attn_surgeon.check(network, x)]
        ['after layer3']
    """
    require_grafts(model)
    if not list_grafts(model):
        return []
    with ran(model) as not_run:
        try:
            run_network(model, example)
        except LostGraftError:
            raise
        except Exception as error:
            what = f"the network does not run on the example: {first_line(error)}"
            raise ExampleError(what, "", "pass an example that it accepts") from error
    grafts = list_grafts(model)
    lost = [graft for graft in grafts if graft.path in not_run]
    if lost:
        raise LostGraftError(
            f"the grafts {', '.join(graft.place for graft in lost)} do not run on the example",
            f"owned by {lost[0].owner or 'the network itself'}",
            "the forward they are in was replaced, or is not called; to go on without them, call attn_surgeon.remove",
        )
    return grafts


def remember_example(model: nn.Module, example: Example) -> None:
    """Record the shapes and dtypes of an example, so that the grafts can be checked later without one."""
    expected = expected_of(model)
    if expected is not None:
        expected.example = map_tensors(example, lambda tensor: torch.empty_like(tensor, device="meta"))


def check_remembered(model: nn.Module, example: Example | None = None) -> None:
    """Raise LostGraftError where a graft does not run; by default, on an input like the one it was inserted with.

    Where the network does not accept such an input any more, such as after a change of its first layer, only its
    modules are checked.
    """
    require_grafts(model)
    expected = expected_of(model)
    shapes = example if example is not None else expected and expected.example
    if shapes is None:
        return
    with suppress(ExampleError):
        check(model, map_tensors(shapes, lambda tensor: _like(tensor, model)))


def _like(tensor: Tensor, model: nn.Module) -> Tensor:
    """Return a random tensor of a tensor's shape, on the model's device and, if floating point, in its dtype."""
    if not tensor.is_floating_point():
        return torch.zeros(tensor.shape, dtype=tensor.dtype, device=parameter_device(model))
    weights = next((p for p in model.parameters() if p.is_floating_point()), tensor)
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(tensor.shape, generator=generator, dtype=torch.float32)
    return values.to(device=parameter_device(model), dtype=weights.dtype)
