"""Hosts that wrap or replace the forward of modules, or call it in a way of their own."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .networks import Residual, Tiny


def closed_over(network: nn.Module, x: Any) -> Any:
    """Wrap every forward in a closure that takes its name, as many tools do to the whole network or its layers."""
    for module in list(network.modules()):
        module.forward = _wrapped(module.forward)
    return network


def root_closed_over(network: nn.Module, x: Any) -> Any:
    network.forward = _wrapped(network.forward)
    return network


def _wrapped(forward: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(forward)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return forward(*args, **kwargs)

    return wrapper


def bound(network: nn.Module, x: Any) -> Any:
    """Bind to every module a method that calls the forward it had."""
    for module in list(network.modules()):
        vars(module)["_old_forward"] = module.forward
        module.forward = types.MethodType(_calls_old, module)
    return network


def _calls_old(self: Any, *args: Any, **kwargs: Any) -> Any:
    return self._old_forward(*args, **kwargs)


def bound_to_class(network: nn.Module, x: Any) -> Any:
    """Bind to every module the forward of its class."""
    for module in list(network.modules()):
        module.forward = types.MethodType(type(module).forward, module)
    return network


class _Wrapper:
    """A callable object in the place of a forward."""

    def __init__(self, forward: Callable[..., Any]) -> None:
        self.forward = forward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)


def callable_objects(network: nn.Module, x: Any) -> Any:
    for module in list(network.modules()):
        module.forward = _Wrapper(module.forward)
    return network


def partials(network: nn.Module, x: Any) -> Any:
    for module in list(network.modules()):
        module.forward = functools.partial(module.forward)
    return network


class Wrapping(nn.Module):
    """A module around the network, under a name of its own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *args: Any) -> Any:
        return self.module(*args)


def module_around(network: nn.Module, x: Any) -> Any:
    return Wrapping(network)


def modules_around_children(network: nn.Module, x: Any) -> Any:
    for name, child in list(network.named_children()):
        setattr(network, name, Wrapping(child))
    return network


def other(self: Any, x: Tensor) -> Tensor:
    """Compute what the block computes, in other words."""
    y = self.bn1(self.conv1(x)).relu()
    y = self.conv2(y)
    return torch.relu(self.bn2(y).add(x))


def replaced(network: nn.Module, x: Any) -> Any:
    for module in list(network.modules()):
        if isinstance(module, Residual):
            module.forward = types.MethodType(other, module)  # type: ignore[method-assign]
    return network


def replaced_by_function(network: nn.Module, x: Any) -> Any:
    for module in list(network.modules()):
        if isinstance(module, Residual):
            module.forward = functools.partial(other, module)  # type: ignore[method-assign]
    return network


@contextmanager
def class_restored() -> Iterator[None]:
    forward = Residual.forward
    try:
        yield
    finally:
        Residual.forward = forward  # type: ignore[method-assign]


def replaced_on_class(network: nn.Module, x: Any) -> Any:
    Residual.forward = other  # type: ignore[method-assign]
    return network


def hooked(network: nn.Module, x: Any) -> Any:
    """Hook every module, with hooks that give inputs and outputs on as new tensors."""
    for module in list(network.modules()):
        module.register_forward_pre_hook(lambda module, inputs: tuple(value.clone() for value in inputs))
        module.register_forward_hook(lambda module, inputs, output: output.clone())
    return network


def checkpointed(network: nn.Module, x: Any) -> Any:
    return lambda x: checkpoint(network, x.requires_grad_(), use_reentrant=False)


def timm_checkpointed(network: Any, x: Any) -> Any:
    network.set_grad_checkpointing()
    return lambda x: network(x.requires_grad_())


def checkpoint_wrapped(network: nn.Module, x: Any) -> Any:
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import apply_activation_checkpointing

    apply_activation_checkpointing(network, check_fn=lambda module: isinstance(module, (Residual, nn.Sequential)))
    return network


def functional(network: nn.Module, x: Any) -> Any:
    state = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    return lambda x: torch.func.functional_call(network, state, (x,))


def train_and_back(network: nn.Module, x: Any) -> Any:
    network.train()
    return network.eval()


def offloaded(network: nn.Module, x: Any) -> Any:
    """Let Accelerate put weights on and off its device around every forward."""
    from accelerate import cpu_offload

    return cpu_offload(network, execution_device=torch.device("cpu"))


def fp32_outputs(network: nn.Module, x: Any) -> Any:
    """Wrap the forward in autocast and a conversion of outputs, in Accelerate's way."""
    from accelerate import Accelerator

    return Accelerator(cpu=True, mixed_precision="bf16").prepare_model(network, evaluation_mode=True)


def unwrapped(network: nn.Module, x: Any) -> Any:
    from accelerate import Accelerator

    accelerator = Accelerator(cpu=True, mixed_precision="bf16")
    return accelerator.unwrap_model(accelerator.prepare_model(network), keep_fp32_wrapper=False).eval()


def closed_first() -> nn.Module:
    network: nn.Module = closed_over(Tiny().eval(), None)
    return network


def bound_first() -> nn.Module:
    return bound(Tiny().eval(), None)  # type: ignore[no-any-return]


def unbound(network: nn.Module, x: Any) -> Any:
    """Give every module the forward back that it had before it was wrapped."""
    for module in list(network.modules()):
        if "_old_forward" in vars(module):
            module.forward = vars(module).pop("_old_forward")
    return network


def undone(network: nn.Module, x: Any) -> Any:
    """Take the forwards off that were set on objects."""
    for module in list(network.modules()):
        vars(module).pop("forward", None)
    return network


def accelerate_first() -> nn.Module:
    from accelerate.hooks import ModelHook, add_hook_to_module

    network = Tiny().eval()
    for module in list(network.modules()):
        add_hook_to_module(module, ModelHook())
    return network


def unhooked(network: nn.Module, x: Any) -> Any:
    from accelerate.hooks import remove_hook_from_module

    return remove_hook_from_module(network, recurse=True)


def as_it_is(network: nn.Module, x: Any) -> Any:
    return network
