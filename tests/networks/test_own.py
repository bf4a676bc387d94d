"""Networks of the user's own, from files and modules."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest
import torch

from attn_surgeon.networks.preprocessing import Preprocessing

from .helpers import IMAGENET, NET, holds, layer, load, random, refused


def test_file(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load(f"{net}:small_net", weights="default", width="6")
    assert layer(loaded.model).in_features == 6
    assert loaded.preprocessing == Preprocessing(*IMAGENET, (224, 224), assumed=True)
    assert not loaded.model.training
    assert loaded.notes == (f"no weights were given: the network has those that {net}:small_net gave it",)
    assert load(f"{net}:small_net").notes == ()
    assert capsys.readouterr().out == ""
    assert str(net.parent) not in sys.path


def test_file_pickles_and_is_imported_once(net: Path) -> None:
    first, second = (load(f"{net}:small_net").model for _ in range(2))
    assert type(first) is type(second)
    assert holds(pickle.loads(pickle.dumps(first)), first.state_dict())


def test_a_changed_file_is_imported_again(net: Path) -> None:
    load(f"{net}:small_net")
    net.write_text(NET.replace("classes=2", "classes=9"))
    assert layer(load(f"{net}:small_net").model).out_features == 9


def test_file_by_relative_path_with_a_sibling(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (net.parent / "user.py").write_text("from net import Net\ndef make():\n    import net\n    return net.Net(1, 1)\n")
    monkeypatch.chdir(net.parent)
    assert layer(load("user.py:make").model).in_features == 1
    sys.modules.pop("net")


def test_file_with_weights(net: Path) -> None:
    values = random(load(f"{net}:small_net").model)
    torch.save(values, net.parent / "own.pth")
    assert holds(load(f"{net}:small_net", weights=str(net.parent / "own.pth")).model, values)


def test_a_file_with_a_built_network_returns_a_copy(net: Path) -> None:
    first = load(f"{net}:ready").model
    with torch.no_grad():
        layer(first).weight.zero_()
    assert layer(load(f"{net}:ready").model).weight.abs().sum() > 0


@pytest.mark.parametrize(
    ("factory", "what", "hint"),
    [
        ("smal_net", "there is no factory 'smal_net'", "small_net"),
        ("number", "'number' is not callable", "it has: dataclass"),
        ("needs", "missing argument width", "--arg width"),
        ("wrong", "the factory returned dict, not a network", ""),
        ("fails", "the factory failed: ValueError: no such luck", ""),
        ("leaves", "the factory failed: SystemExit: 3", ""),
    ],
)
def test_factories_that_do_not_work(net: Path, factory: str, what: str, hint: str) -> None:
    error = refused(f"{net}:{factory}")
    assert error.what == what
    assert hint in error.hint


def test_errors_in_a_file_name_its_line(net: Path) -> None:
    line = NET.splitlines().index('    raise ValueError("no such luck\\nsecond line")') + 1
    assert refused(f"{net}:fails").where == f"{net}:{line}"


def test_unknown_argument_of_a_factory(net: Path) -> None:
    error = refused(f"{net}:small_net", widht="3")
    assert error.what == "unknown argument 'widht'"
    assert error.hint == "did you mean width? valid: width, classes"


@pytest.mark.parametrize(
    ("source", "what", "line"),
    [
        ("x = 1\ndef make(:\n", "SyntaxError", 2),
        ("\n\nimport no_such_module_at_all\n", "ModuleNotFoundError", 3),
        ("from .sibling import x\n", "relative import", 1),
    ],
)
def test_files_that_do_not_import(tmp_path: Path, source: str, what: str, line: int) -> None:
    (tmp_path / "broken.py").write_text(source)
    error = refused(f"{tmp_path}/broken.py:make")
    assert what in error.what
    assert error.where == f"{tmp_path / 'broken.py'}:{line}"


def test_missing_file_suggests_a_near_one(net: Path) -> None:
    error = refused(f"{net.parent}/nett.py:small_net")
    assert error.what == "there is no such file"
    assert error.hint == "did you mean net.py?"


def test_module(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = net.parent / "some_package"
    package.mkdir()
    (package / "__init__.py").write_text("")
    net.rename(package / "net.py")
    monkeypatch.chdir(net.parent)
    assert layer(load("some_package.net:small_net", classes="3").model).out_features == 3
    assert "small_net" in refused("some_package.net:smallnet").hint
    assert refused("some_package.nett:make").what == "there is no module 'some_package.nett'"
    assert refused("no_such_package:make").what == "there is no module 'no_such_package'"
