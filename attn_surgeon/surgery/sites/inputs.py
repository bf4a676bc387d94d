"""Find the input tensors of a module: the first is at the module's own input, the others at sites elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from torch import Tensor

from attn_surgeon.surgery.observe.observe import Call, Observation
from attn_surgeon.surgery.running import tensors


def describe_inputs(observation: Observation, name: str) -> str:
    """Return which tensors a module takes and where all but the first are found; empty for fewer than two.

    A site before a module is its first tensor. The others are found after what returns them, else inside the module.
    """
    calls = observation.calls.get(name.partition(":")[0], ())
    inputs = _inputs(observation, calls[0]) if calls and name else {}
    if len(inputs) < 2:
        return ""
    first, *others = inputs
    places = [f"{other} is {_place(observation, inputs[other], name)}" for other in others]
    return f"{name} takes {', '.join(inputs)}, and before it is {first}; {', '.join(places)}"


def _inputs(observation: Observation, call: Call) -> Mapping[str, Tensor]:
    """Return the different tensors of a call's arguments, by the parameter names of the forward."""
    try:
        bound = inspect.signature(type(observation.module(call.path)).forward).bind(None, *call.args, **call.kwargs)
        named = {key: value for key, value in bound.arguments.items() if key != "self"}
    except (TypeError, ValueError):  # a forward that was assigned may have any signature
        named = {str(index): value for index, value in enumerate(call.args)} | dict(call.kwargs)
    inputs: dict[str, Tensor] = {}
    for name, value in named.items():
        several = tensors(value)
        for index, tensor in enumerate(several):
            if not any(tensor is other for other in inputs.values()):
                inputs[name if isinstance(value, Tensor) else f"{name}[{index}]"] = tensor
    return inputs


def _place(observation: Observation, value: Tensor, name: str) -> str:
    producers = [path for path, calls in observation.calls.items() if path and calls[0].output is value]
    if producers:
        return f"after {min(producers, key=len)}"
    if any(value is other for other in observation.inputs):
        return "an input of the network"
    return f"inside {name} or after a function"
