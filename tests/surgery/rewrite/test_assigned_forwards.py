"""Forwards assigned to an operated module: grafts go round them, each exactly once, or are said to be lost."""

from __future__ import annotations

import copy
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from attn_surgeon.errors import LostGraftError, PlanError
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.rewrite import references
from tests import toy_networks

from ..helpers import block_at, image, opened

Assign = Callable[[nn.Module], None]


def other(self: Any, x: Tensor) -> Tensor:
    return 3 * x


def net() -> nn.Module:
    return toy_networks.Root(toy_networks.Residual()).eval()


def stage(model: nn.Module) -> Any:
    return model.get_submodule("stage")


def closure(module: Any) -> None:
    old = module.forward
    module.forward = functools.wraps(old)(lambda *args, **kwargs: old(*args, **kwargs))  # noqa: PLW0108


def closure_without_wraps(module: Any) -> None:
    old = module.forward
    module.forward = lambda x: old(x)  # noqa: PLW0108


def bound(module: Any) -> None:
    function = module.forward.__func__

    def wrapper(self: Any, *args: Any, **kwargs: Any) -> Any:
        return function(self, *args, **kwargs)

    module.forward = types.MethodType(wrapper, module)


def kept_on_the_module(module: Any) -> None:
    module._old_forward = module.forward
    module.forward = types.MethodType(lambda self, x: self._old_forward(x), module)


def partial(module: Any) -> None:
    old = module.forward
    module.forward = functools.partial(lambda function, x: function(x), old)


class Calls:
    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def callable_object(module: Any) -> None:
    module.forward = Calls(module.forward)


def several(module: Any) -> None:
    for assign in (closure, bound, callable_object, closure):
        assign(module)


def unwrapped_again(module: Any) -> None:
    """Do as Accelerate does, which looks for the innermost forward."""
    closure(module)
    closure(module)
    forward = module.forward
    while hasattr(forward, "__wrapped__"):
        forward = forward.__wrapped__
    module.forward = types.MethodType(forward.__func__, module)


WRAPPERS = [
    closure,
    closure_without_wraps,
    bound,
    kept_on_the_module,
    partial,
    callable_object,
    several,
    unwrapped_again,
]
SITES: list[dict[str, str]] = [{"after": "stage"}, {"before": "stage"}, {"after": "stage.conv"}]


@pytest.mark.parametrize("site", SITES, ids=str)
@pytest.mark.parametrize("wrap", WRAPPERS)
@torch.no_grad()
def test_grafts_run_once_under_wrappers(wrap: Assign, site: dict[str, str]) -> None:
    model, x = opened(net(), **site), image()
    expected = model(x)
    wrap(stage(model))
    assert torch.equal(model(x), expected)
    assert torch.equal(model(x), expected)


@pytest.mark.parametrize("site", SITES, ids=str)
@torch.no_grad()
def test_deleting_an_assigned_forward_restores_that_of_the_class(site: dict[str, str]) -> None:
    model, x = opened(net(), **site), image()
    expected = model(x)
    closure(stage(model))
    del stage(model).forward
    assert "forward" not in vars(stage(model))
    assert torch.equal(model(x), expected)
    with pytest.raises(AttributeError):
        del stage(model).forward


@torch.no_grad()
def test_grafts_go_round_another_forward() -> None:
    model, x = opened(net(), after="stage", before="stage"), image()
    enter, leave = block_at(model, "stage", "before"), block_at(model, "stage", "after")
    stage(model).forward = types.MethodType(other, stage(model))
    got = stage(model)(x)
    assert torch.equal(got, leave(3 * enter(x)))
    assert torch.equal(stage(model).forward(x), got)


@torch.no_grad()
def test_a_graft_inside_a_replaced_forward_is_lost_by_name() -> None:
    model, x = opened(net(), after="stage.conv"), image()
    stage(model).forward = types.MethodType(other, stage(model))
    with pytest.raises(LostGraftError, match=r"after stage\.conv did not run.*replaced"):
        model(x)


@torch.no_grad()
def test_a_wrapper_that_calls_twice_runs_the_grafts_twice_as_often() -> None:
    model, x = opened(net(), after="stage", before="stage"), image()
    once, flipped = stage(model)(x), stage(model)(x.flip(-1)).flip(-1)
    old = stage(model).forward
    stage(model).forward = lambda x: old(x) + old(x.flip(-1)).flip(-1)
    assert torch.equal(stage(model)(x), once + flipped)


@torch.no_grad()
def test_a_graft_at_the_entry_sees_what_a_wrapper_makes_of_the_input() -> None:
    model, x = opened(net(), before="stage"), image()
    expected = stage(model)(2 * x)
    old = stage(model).forward
    stage(model).forward = lambda x: old(2 * x)
    assert torch.equal(stage(model)(x), expected)


@pytest.mark.parametrize("site", SITES[:2], ids=str)
@torch.no_grad()
def test_a_copy_whose_wrapper_calls_the_first_network_runs_one_graft(site: dict[str, str]) -> None:
    model, x = opened(net(), **site), image()
    expected = model(x)
    closure_without_wraps(stage(model))
    assert torch.equal(copy.deepcopy(model)(x), expected)


@torch.no_grad()
def test_a_bound_forward_is_copied_with_its_module() -> None:
    model, x = opened(net(), after="stage"), image()
    stage(model).forward = types.MethodType(other, stage(model))
    expected, copied = model(x), copy.deepcopy(model)
    assert torch.equal(copied(x), expected)
    nn.init.zeros_(block_at(model, "stage").get_parameter("fc2.weight"))
    assert torch.equal(copied(x), expected)


@torch.no_grad()
def test_helper_methods_replaced_on_the_object() -> None:
    model, x = opened(toy_networks.Helpers().eval(), after="body"), image()
    assert "forward" not in vars(model)
    model.forward = types.MethodType(lambda self, x: x, model)
    with pytest.raises(LostGraftError, match="after body"):
        model(x)


def test_signatures_are_those_of_what_runs() -> None:
    model = opened(net(), after="stage")
    assert list(inspect.signature(stage(model).forward).parameters) == ["x"]
    stage(model).forward = types.MethodType(lambda self, a, b=1: a, stage(model))
    assert list(inspect.signature(stage(model).forward).parameters) == ["a", "b"]
    assert list(inspect.signature(type(stage(model)).forward).parameters) == ["self", "x"]


def test_a_wrapper_is_to_come_off_before_the_grafts() -> None:
    model = opened(net(), after="stage")
    closure(stage(model))
    with pytest.raises(PlanError, match="forward of stage is wrapped"):
        remove(model)
    del stage(model).forward
    assert type(remove(model)) is toy_networks.Root


@torch.no_grad()
def test_without_grafts_another_forward_stays() -> None:
    model, x = opened(net(), after="stage"), image()
    stage(model).forward = types.MethodType(other, stage(model))
    restored = remove(model)
    assert type(stage(restored)) is toy_networks.Residual
    assert torch.equal(stage(restored)(x), 3 * x)


def scripted_method(module: Any, x: Tensor) -> None:
    module.forward = torch.jit.trace(module, x).forward  # type: ignore[no-untyped-call]


def over_a_trace(module: Any, x: Tensor) -> None:
    traced = torch.jit.trace(module, x)  # type: ignore[no-untyped-call]
    module.forward = lambda x: traced(x)  # noqa: PLW0108


def over_a_graph_module(module: Any, x: Tensor) -> None:
    module.forward = fx.symbolic_trace(module).forward


def over_a_program(module: Any, x: Tensor) -> None:
    program = torch.export.export(module, (x,)).module()
    module.forward = lambda x: program(x)  # noqa: PLW0108


def compiled(module: Any, x: Tensor) -> None:
    module.forward = torch.compile(module.forward, backend="eager")


def over_a_compiled_copy(module: Any, x: Tensor) -> None:
    twin = torch.compile(copy.deepcopy(module), backend="eager")
    module.forward = lambda x: twin(x)  # type: ignore[no-untyped-call]  # noqa: PLW0108


def beside_a_teacher(module: Any, x: Tensor) -> None:
    teacher, old = copy.deepcopy(module), module.forward
    module.forward = lambda x: old(x) + 0 * teacher(x)


class Engine:
    """Run something else, as inference engines in Python do."""

    __slots__ = ("function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def run(self, x: Tensor) -> Tensor:
        return self.function(x)  # type: ignore[no-any-return]


def method_of_an_engine(module: Any, x: Tensor) -> None:
    module.forward = Engine(torch.jit.trace(module, x)).run  # type: ignore[no-untyped-call]


def method_of_an_engine_of_a_copy(module: Any, x: Tensor) -> None:
    module.forward = Engine(copy.deepcopy(module)).run


def over_a_frozen_trace(module: Any, x: Tensor) -> None:
    frozen = torch.jit.freeze(torch.jit.trace(module, x))  # type: ignore[no-untyped-call]
    module.forward = lambda x: frozen(x)  # noqa: PLW0108


def over_a_global(module: Any, x: Tensor) -> None:
    globals()["traced"] = torch.jit.trace(module, x)  # type: ignore[no-untyped-call]
    module.forward = lambda x: traced(x)  # type: ignore[name-defined]  # noqa: F821, PLW0108


ENGINES = [
    method_of_an_engine,
    method_of_an_engine_of_a_copy,
    over_a_frozen_trace,
    over_a_global,
    scripted_method,
    over_a_trace,
    over_a_graph_module,
    over_a_program,
    compiled,
    over_a_compiled_copy,
    beside_a_teacher,
]


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:")
@pytest.mark.parametrize("site", SITES, ids=str)
@pytest.mark.parametrize("engine", ENGINES)
@torch.no_grad()
def test_engines_made_of_a_module_with_grafts_run_them_once(
    engine: Callable[[Any, Tensor], None], site: dict[str, str]
) -> None:
    model, x = opened(net(), **site), image()
    expected = model(x)
    engine(stage(model), x)
    for _ in range(3):
        assert torch.allclose(model(x), expected, atol=1e-5)
    torch.compiler.reset()


@torch.no_grad()
def test_raises_for_a_wrapper_that_returns_a_cached_output() -> None:
    model, x = opened(net(), after="stage"), image()
    stage(model).forward = functools.lru_cache(stage(model).forward)
    model(x)
    with pytest.raises(LostGraftError, match="a wrapper did not call the forward that it wraps"):
        model(x)


def test_raises_at_the_next_call_for_a_forward_assigned_to_the_class() -> None:
    model, x = opened(net(), after="stage"), image()
    type(stage(model)).forward = toy_networks.Residual.forward
    with pytest.raises(LostGraftError, match="after stage"):
        model(x)


class Wrapping(nn.Module):
    """Wrap the forward of every subclass, as transformers' layers do for gradient checkpointing."""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "forward" in vars(cls):
            function = cls.forward

            def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
                return function(self, *args, **kwargs)

            cls.forward = forward


class Wrapped(Wrapping):
    def __init__(self) -> None:
        super().__init__()
        self.conv = toy_networks.conv()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x)  # type: ignore[no-any-return]


@pytest.mark.parametrize("wrap", [closure, several])
@torch.no_grad()
def test_classes_that_wrap_the_forwards_of_their_subclasses(wrap: Assign) -> None:
    plain, x = toy_networks.Root(Wrapped()).eval(), image()
    model = opened(plain, after="stage", before="stage")
    expected = model(x)
    enter, leave = block_at(model, "stage", "before"), block_at(model, "stage", "after")
    assert torch.equal(stage(model)(x), leave(stage(plain)(enter(x))))
    wrap(stage(model))
    assert torch.equal(model(x), expected)
    stage(model).forward = types.MethodType(other, stage(model))
    assert torch.equal(stage(model)(x), leave(3 * enter(x)))


@torch.no_grad()
def test_references_of_an_assigned_forward_are_searched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x = opened(net(), after="stage", before="stage"), image()
    expected, searched, search = model(x), [], references._reachable

    def noted(*given: Any) -> Any:
        searched.append(given)
        return search(*given)

    monkeypatch.setattr(references, "_reachable", noted)
    closure(stage(model))
    assert [torch.equal(model(x), expected) for _ in range(3)] == [True] * 3
    assert len(searched) == 1
    closure(stage(model))
    assert torch.equal(copy.deepcopy(model)(x), expected)
    assert torch.equal(model(x), expected)
    assert torch.equal(model(x), expected)
    assert len(searched) == 3  # the new one's, also in the copy


@torch.no_grad()
def test_an_assigned_forward_that_changes_is_searched_again() -> None:
    model, x = opened(net(), after="stage", before="stage"), image()
    expected = model(x)
    calls = Calls(stage(model).forward)
    stage(model).forward = calls
    assert torch.equal(model(x), expected)
    calls.function = lambda x: 3 * x
    enter, leave = block_at(model, "stage", "before"), block_at(model, "stage", "after")
    assert torch.equal(stage(model)(x), leave(3 * enter(x)))


@pytest.mark.parametrize("site", SITES, ids=str)
@torch.no_grad()
def test_raises_for_a_copy_that_an_assigned_forward_references_but_does_not_run(site: dict[str, str]) -> None:
    model, x = opened(net(), **site), image()
    average = copy.deepcopy(stage(model))
    stage(model).forward = lambda x: 3 * x if average is not None else x
    with pytest.raises(LostGraftError, match=r"stage.*has a copy of them that it did not run"):
        model(x)


@pytest.mark.filterwarnings("ignore:Dynamo does not know how to trace")
@torch.no_grad()
def test_an_assigned_forward_is_compiled_around_the_grafts_and_refused_in_one_graph() -> None:
    model, x = opened(net(), after="stage"), image()
    stage(model).forward = types.MethodType(other, stage(model))
    expected = model(x)
    assert torch.equal(torch.compile(model, backend="eager")(x), expected)
    torch.compiler.reset()
    with pytest.raises(RuntimeError, match=r"assigned to a module with attn_surgeon's grafts.*fullgraph"):
        torch.compile(model, backend="eager", fullgraph=True)(x)
    torch.compiler.reset()
