"""What surgery shares with the rest of the process is left as it was: modes, weights, hooks, streams, threads."""

from __future__ import annotations

import copy
import random
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.artefact.load import load
from attn_surgeon.artefact.save import save
from attn_surgeon.operations.insert import insert
from attn_surgeon.operations.remove import remove
from attn_surgeon.surgery.certificate import certify
from attn_surgeon.surgery.graft_check import check
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.surgery.running import run_network
from attn_surgeon.surgery.sites.survey import find_sites
from tests import toy_networks

from .helpers import grafted, image, open_up, opened


class Merging(nn.Conv2d):
    """Merge low-rank weights on `eval()`, and split them again on `train()`."""

    def __init__(self) -> None:
        super().__init__(4, 4, 1)
        self.low = nn.Parameter(torch.randn(4, 4, 1, 1))
        self.merged = False

    def train(self, mode: bool = True) -> Any:
        super().train(mode)
        if mode == self.merged:
            self.weight.data += -self.low.data if mode else self.low.data
            self.merged = not mode
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self._conv_forward(x, self.weight if self.merged else self.weight + self.low, self.bias)  # type: ignore[no-any-return]


@pytest.mark.parametrize("training", [True, False])
def test_what_train_does_beside_the_flag_is_undone(training: bool) -> None:
    net: Any = nn.Sequential(Merging(), nn.ReLU(), nn.Conv2d(4, 4, 1)).train(training)
    state, merged, x = copy.deepcopy(net.state_dict()), net[0].merged, image()
    model: Any = insert(net, "se", after="1", example=x, options={"reduction": 2})
    find_sites(net, x)
    certify(net, model, x)
    for each in (net, model):
        assert each[0].merged == merged
        assert [module.training for module in each.modules()] == [training] * len(list(each.modules()))
        assert all(torch.equal(each.state_dict()[name], value) for name, value in state.items())


def test_modes_that_differ_come_back() -> None:
    net = toy_networks.Root(toy_networks.Residual()).train()
    net.get_submodule("stage.conv").eval()
    flags = [module.training for module in net.modules()]
    model = grafted(net, "stage")
    assert [module.training for module in net.modules()] == flags
    assert not model.get_submodule("stage.conv").training


def test_hooks_are_those_that_were_there() -> None:
    net = toy_networks.Root(toy_networks.Residual())
    net.register_forward_hook(lambda *_: None)
    before = [list(module._forward_hooks.values()) for module in net.modules()]
    grafted(net, "stage")
    assert [list(module._forward_hooks.values()) for module in net.modules()] == before
    assert not any(module._forward_pre_hooks for module in net.modules())


def streams() -> list[Any]:
    return [torch.get_rng_state().tolist(), random.getstate(), np.random.get_state(legacy=True)[1].tolist()]  # type: ignore[index]


def test_random_streams_are_the_callers(tmp_path: Path) -> None:
    net, x = toy_networks.Root(toy_networks.Residual()), image()
    torch.manual_seed(0)
    before = streams()
    model = grafted(net, "stage", example=x)
    certify(net, model, x)
    save(model, tmp_path / "a.safetensors")
    load(tmp_path / "a.safetensors", model=net)
    check(remove(model), x)
    assert streams() == before


def test_older_weight_norm_is_copied(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net = nn.Sequential(nn.utils.weight_norm(nn.Conv2d(4, 4, 1)), nn.ReLU())
    x = image()
    model = opened(net, after="1")
    save(model, tmp_path / "a.safetensors")
    net(x)
    assert net.get_submodule("0").weight.grad_fn is not None  # computed, with a history, which torch does not copy
    assert torch.equal(load(tmp_path / "a.safetensors", model=net)(x), model.eval()(x))


@pytest.mark.parametrize("around", [torch.inference_mode, lambda: torch.autocast("cpu", torch.bfloat16)])
def test_what_is_around_a_certificate_does_not_matter(around: Any) -> None:
    net = toy_networks.Root(toy_networks.Residual())
    model = grafted(net, "stage")
    with around():
        x = image()
        assert certify(net, model, x).passed
        assert len(check(model, x)) == 1
        again = insert(net, "se", after="stage", example=x, options={"reduction": 2})
    assert not any(parameter.is_inference() for parameter in again.parameters())
    again(image()).sum().backward()


def test_threads_operate_while_another_runs_its_own_network() -> None:
    call, get = nn.Module.__call__, nn.Module.__getattr__
    nets, x = [toy_networks.Root(toy_networks.Residual()) for _ in range(4)], image()
    made: dict[int, nn.Module] = {}
    errors: list[BaseException] = []
    done = threading.Event()
    own = nn.Linear(4, 4)
    expected = own(torch.ones(2, 4))

    def operate(index: int) -> None:
        try:
            for _ in range(3):
                made[index] = grafted(nets[index], ["stage", "stage.conv"], example=x)
        except BaseException as error:
            errors.append(error)

    def infer() -> None:
        try:
            given = torch.ones(2, 4)
            while not done.is_set():
                assert torch.equal(own(given), expected)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=operate, args=(index,)) for index in range(4)]
    other = threading.Thread(target=infer)
    for thread in (other, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    done.set()
    other.join()
    assert errors == []
    assert nn.Module.__call__ is call
    assert nn.Module.__getattr__ is get
    for net, model in zip(nets, (made[index] for index in range(4)), strict=True):
        assert torch.equal(run_network(model, x), run_network(net, x))


@pytest.mark.parametrize("inplace", [False, True])
def test_a_network_is_operated_while_other_threads_call_it(inplace: bool) -> None:
    x, done = image(), threading.Event()
    errors: list[str] = []
    nets = [toy_networks.Root(toy_networks.Residual()).eval() for _ in range(10)]
    with torch.no_grad():
        expected = [net(x) for net in nets]
    current = [0]

    def infer() -> None:
        with torch.no_grad():
            while not done.is_set():
                index = current[0]
                try:
                    if not torch.equal(nets[index](x), expected[index]):
                        errors.append("another output")
                except Exception as error:
                    errors.append(repr(error))

    threads = [threading.Thread(target=infer) for _ in range(2)]
    for thread in threads:
        thread.start()
    made = []
    try:
        for index, net in enumerate(nets):
            current[0] = index
            made += [grafted(net, ["stage", "stage.conv"], "fc", example=x, inplace=inplace) for _ in range(3)]
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert {len(list_grafts(model)) for model in made} == {9 if inplace else 3}
    assert all(torch.equal(run_network(model, x), expected[index // 3]) for index, model in enumerate(made))


def test_operated_networks_run_in_threads_with_assigned_forwards() -> None:
    model: Any = opened(toy_networks.Root(toy_networks.Residual()).eval(), after="stage", before="stage")
    old = model.stage.forward
    model.stage.forward = lambda x: old(x)  # noqa: PLW0108
    inputs = [image() for _ in range(8)]
    with torch.no_grad():
        expected = [model(x) for x in inputs]
    got: dict[int, list[Tensor]] = {}

    def infer(index: int) -> None:
        with torch.no_grad():
            got[index] = [model(inputs[index]) for _ in range(20)]

    threads = [threading.Thread(target=infer, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(y, expected[index]) for index, ys in got.items() for y in ys)
    assert len(got) == 8


def test_a_scripted_and_a_compiled_part_stay_as_they_are() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(nn.Sequential(nn.Conv2d(4, 4, 1), nn.ReLU()))
    compiled = nn.Conv2d(4, 4, 1)
    compiled.compile(backend="eager")
    net, x = nn.Sequential(scripted, compiled, nn.Conv2d(4, 4, 1)).eval(), image()
    model = open_up(insert(net, "se", after="2", example=x, options={"reduction": 2}))
    with torch.no_grad():
        assert torch.equal(model(x), list(model.children())[-1](net[1](net[0](x))))
        assert not torch.equal(model(x), net(x))
    assert net[0] is scripted
    torch.compiler.reset()
