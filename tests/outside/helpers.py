"""What must be true of an operation on any network: nothing changes at first, every graft matters, all comes off."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.operations.insert import insert
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.isolation import seeded
from attn_surgeon.surgery.running import Example, call, run_network, same_bits, tensors


def require_all(
    model: nn.Module, example: Example, sites: int, training: Example | None = None, block: str = "se", **wish: Any
) -> Any:
    """Insert at that many sites and require all of it; `training` is the example for train mode, if another."""
    settle(model, training or example)
    operated = insert(model, block, example=example, strict=True, **wish)
    assert len(list_grafts(operated)) == sites
    expected = outcome(model, example, training)
    assert all(tensor.numel() for tensor in tensors(expected[:2]))
    assert same_bits(outcome(operated, example, training), expected)
    require_use(operated, [(example, False)] if training is None else [(example, False), (training, True)])
    require_removal(model, operated, example, expected[0])
    return operated


def settle(model: nn.Module, example: Example) -> None:
    """Set the statistics of BatchNorms to an example's: without them a deep random network returns almost nothing."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    run_network(model, example, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def outcome(model: nn.Module, example: Example, training: Example | None = None) -> list[Any]:
    """Return the outputs in both modes, and the network's own state after the run in train mode."""
    trained = copy.deepcopy(model)
    outputs = [run_network(model, example), run_network(trained, training or example, training=True)]
    return [*outputs, *(value for key, value in trained.state_dict().items() if "attn_surgeon." not in key)]


def require_use(operated: nn.Module, examples: Sequence[tuple[Example, bool]]) -> None:
    """Require that every graft, opened alone, changes the output on one of the examples (in train mode, if so said)."""
    first = [_output(operated, *example) for example in examples]
    for made in list_grafts(operated):
        closed = copy.deepcopy(made.block.state_dict())
        with torch.no_grad():
            for parameter in made.block.parameters():
                parameter.normal_()
        changes = (not same_bits(_output(operated, *item), one) for item, one in zip(examples, first, strict=True))
        assert any(changes), f"{made.path} changes nothing"
        made.block.load_state_dict(closed)


def _output(model: nn.Module, example: Example, training: bool) -> Any:
    return run_network(copy.deepcopy(model) if training else model, example, training=training)


def require_removal(model: nn.Module, operated: nn.Module, example: Example, expected: Any) -> None:
    """Require classes, keys, values and output of the original after removal."""
    restored = remove(operated)
    assert [type(module) for module in restored.modules()] == [type(module) for module in model.modules()]
    mine, theirs = model.state_dict(), restored.state_dict()
    assert list(mine) == list(theirs)
    assert same_bits(mine, theirs)
    assert same_bits(run_network(restored, example), expected)


def require_learning(operated: nn.Module, example: Example, loss: Callable[[Any], Tensor] | None = None) -> None:
    """Require a gradient for every parameter of every graft in one of two steps in train mode."""
    model = copy.deepcopy(operated).train()
    parameters = {name: value for name, value in model.named_parameters() if "attn_surgeon." in name}
    optimizer = torch.optim.SGD(parameters.values(), 0.1)
    idle = set(parameters)
    for _ in range(2):
        optimizer.zero_grad()
        with seeded(0):
            (loss or squares)(call(model, example)).backward()  # type: ignore[no-untyped-call]
        idle -= {name for name, value in parameters.items() if value.grad is not None and value.grad.any()}
        optimizer.step()
    assert idle == set()


def squares(output: Any) -> Tensor:
    """Take the mean square of everything in an output as a loss."""
    return torch.stack([tensor.square().mean() for tensor in tensors(output)]).sum()
