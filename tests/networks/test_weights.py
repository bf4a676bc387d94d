"""Weights files: what is understood, what is refused, and that nothing in them is run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from attn_surgeon.errors import WeightsError
from attn_surgeon.networks.weights import load_weights


def _net(inputs: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))


def _values(seed: int = 0, model: nn.Module | None = None) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    own = (model or _net()).state_dict()
    return {
        key: torch.rand(value.shape, generator=generator) if value.is_floating_point() else value + 7
        for key, value in own.items()
    }


def _holds(model: nn.Module, values: dict[str, Tensor]) -> bool:
    own = model.state_dict()
    return all(torch.equal(own[key], value) for key, value in values.items())


def _refused(path: Path, model: nn.Module | None = None, **options: bool) -> WeightsError:
    model = model or _net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError) as caught:
        load_weights(model, path, **options)
    assert _holds(model, before)
    assert caught.value.where == str(path)
    assert "Traceback" not in str(caught.value)
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("suffix", ["pth", "pt", "th", "bin", "ckpt"])
def test_torch_files_load_under_every_usual_name(tmp_path: Path, suffix: str) -> None:
    path, values, model = tmp_path / f"net.{suffix}", _values(), _net()
    torch.save(values, path)
    assert load_weights(model, path) == []
    assert _holds(model, values)


def test_safetensors_load(tmp_path: Path) -> None:
    path, values, model = tmp_path / "net.safetensors", _values(), _net()
    save_file(values, path)
    assert load_weights(model, str(path)) == []
    assert _holds(model, values)


def test_old_format_of_torch_loads(tmp_path: Path) -> None:
    path, values, model = tmp_path / "net.pth", _values(), _net()
    torch.save(values, path, _use_new_zipfile_serialization=False)
    load_weights(model, path)
    assert _holds(model, values)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda v: {"state_dict": v, "epoch": 3},
        lambda v: {"model": v},
        lambda v: {"model_state": v, "lr": 0.1},
        lambda v: {"model_state_dict": v},
        lambda v: {"ema": v},
        lambda v: {"state_dict_ema": v},
        lambda v: {"model": {"state_dict": v}, "epoch": 1},
        lambda v: {"module." + k: t for k, t in v.items()},
        lambda v: {"_orig_mod." + k: t for k, t in v.items()},
        lambda v: {"module._orig_mod." + k: t for k, t in v.items()},
        lambda v: {"_orig_mod.module." + k: t for k, t in v.items()},
        lambda v: {"state_dict": {"model." + k: t for k, t in v.items()}},
    ],
)
def test_nesting_and_prefixes(tmp_path: Path, wrap: Callable[[dict[str, Tensor]], Any]) -> None:
    path, values, model = tmp_path / "net.pth", _values(), _net()
    torch.save(wrap(values), path)
    assert load_weights(model, path) == []
    assert _holds(model, values)


def test_wrappers_are_stripped_and_a_child_called_model_is_kept(tmp_path: Path) -> None:
    path, model = tmp_path / "net.pth", nn.ModuleDict({"model": _net()})
    values = _values(model=model)
    torch.save({"state_dict": {f"module.{key}": value for key, value in values.items()}}, path)
    assert load_weights(model, path) == []
    assert _holds(model, values)


def test_a_network_that_has_the_prefix_itself_keeps_it(tmp_path: Path) -> None:
    path, model = tmp_path / "net.pth", nn.ModuleDict({"model": _net(), "head": nn.Linear(2, 2)})
    values = _values(model=model)
    torch.save(values, path)
    assert load_weights(model, path) == []
    assert _holds(model, values)


def test_missing_counters_are_tolerated_and_noted(tmp_path: Path) -> None:
    path, values, model = tmp_path / "net.pth", _values(), _net()
    del values["1.num_batches_tracked"]
    torch.save(values, path)
    (note,) = load_weights(model, path)
    assert note.startswith("1 BatchNorm counters")
    assert _holds(model, values)


def test_parts_that_the_network_leaves_out_are_ignored_and_noted(tmp_path: Path) -> None:
    path, model = tmp_path / "net.pth", nn.Sequential(nn.Linear(2, 2))
    model.register_module("aux", None)
    values = _values(model=model)
    torch.save({**values, "aux.weight": torch.ones(1)}, path)
    assert load_weights(model, path) == ["weights of aux ignored: the network leaves that part out"]
    assert _holds(model, values)


def _misfit(tmp_path: Path) -> Path:
    values = _values(model=_net(inputs=1))
    del values["3.bias"]
    values["extra.weight"] = torch.zeros(2)
    torch.save(values, tmp_path / "net.pth")
    return tmp_path / "net.pth"


def test_a_misfit_lists_everything_at_once(tmp_path: Path) -> None:
    error = _refused(_misfit(tmp_path))
    assert "1 missing (3.bias)" in error.what
    assert "1 unexpected (extra.weight)" in error.what
    assert "1 of another shape (0.weight: file (4, 1, 3, 3), network (4, 3, 3, 3))" in error.what


def test_long_lists_are_cut_with_a_count(tmp_path: Path) -> None:
    torch.save({**_values(), **{f"extra.{i}": torch.zeros(1) for i in range(9)}}, tmp_path / "net.pth")
    error = _refused(tmp_path / "net.pth")
    assert "9 unexpected (extra.0; extra.1; extra.2; extra.3; extra.4; and 4 more)" in error.what


def test_partial_loads_what_fits(tmp_path: Path) -> None:
    model = _net()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    (note,) = load_weights(model, _misfit(tmp_path), allow_partial=True)
    values = _values(model=_net(inputs=1))
    assert "partial weights: 7 tensors loaded, 2 of the network keep their values, 2 of the file" in note
    assert _holds(model, {key: before[key] for key in ("0.weight", "3.bias")})
    assert _holds(model, {key: values[key] for key in ("0.bias", "1.weight", "3.weight")})


def test_nothing_fits_is_an_error_even_when_partial(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.zeros(2)}, tmp_path / "net.pth")
    error = _refused(tmp_path / "net.pth", allow_partial=True)
    assert error.what == "no tensor of the file fits the network"
    assert error.hint == "file: a.weight; network: 0.weight; 0.bias"


class _Malicious:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Callable[[str], int], tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("plain", [False, True])
def test_code_in_a_pickle_is_not_run(tmp_path: Path, plain: bool) -> None:
    mark, path = tmp_path / "executed", tmp_path / "net.pth"
    content = {"state_dict": {**_values(), "x": _Malicious(f"touch {mark}")}}
    if plain:
        path.write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, path)
    error = _refused(path)
    assert error.what == "the file contains Python code, which was not run"
    assert not mark.exists()


@pytest.mark.parametrize("protocol", [0, 3, 4, 5])
def test_a_pickle_of_any_protocol_is_refused_and_not_run(tmp_path: Path, protocol: int) -> None:
    mark, path = tmp_path / "executed", tmp_path / "net.pth"
    path.write_bytes(pickle.dumps({"state_dict": _Malicious(f"touch {mark}")}, protocol=protocol))
    error = _refused(path)
    assert ("was not run" in error.what) == (protocol > 0), error.what
    assert not mark.exists()


def test_code_behind_a_safetensors_name_is_not_run(tmp_path: Path) -> None:
    mark, path = tmp_path / "executed", tmp_path / "net.safetensors"
    torch.save({"x": _Malicious(f"touch {mark}")}, path)
    _refused(path)
    assert not mark.exists()


def test_a_whole_pickled_network_is_refused(tmp_path: Path) -> None:
    torch.save(_net(), tmp_path / "net.pth")
    assert "Python code" in _refused(tmp_path / "net.pth").what


def _truncated(path: Path, save: Callable[[Path], None]) -> Path:
    save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return path


@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_torch_file(tmp_path: Path, zipped: bool) -> None:
    path = _truncated(
        tmp_path / "net.pth",
        lambda path: torch.save(_values(), path, _use_new_zipfile_serialization=zipped),
    )
    assert _refused(path).what == "the file is truncated, or is not a checkpoint"


def test_truncated_safetensors(tmp_path: Path) -> None:
    path = _truncated(tmp_path / "net.safetensors", lambda path: save_file(_values(), path))
    assert _refused(path).what == "the file is truncated, or is not a checkpoint"


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n", "git-lfs pointer"),
        (b"\n<!DOCTYPE html><html></html>", "web page"),
        (b"<html><body>404</body></html>", "web page"),
        (b"hello, this is text", "not a checkpoint"),
        (b"\x89PNG\r\n\x1a\n and so on", "not a checkpoint"),
        (b"PK\x03\x04 no archive after all", "truncated, or is not a checkpoint"),
        (b"\x80\x02 no pickle after all", "truncated, or is not a checkpoint"),
        (b"\x40\0\0\0\0\0\0\0{ no header after all", "truncated, or is not a checkpoint"),
    ],
)
@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_files_that_are_no_weights(tmp_path: Path, name: str, content: bytes, what: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert what in _refused(tmp_path / name).what


def test_missing_file_and_folder(tmp_path: Path) -> None:
    assert _refused(tmp_path / "nowhere.pth").what == "there is no such weights file"
    assert _refused(tmp_path).what == "this is a folder, not a weights file"


@pytest.mark.parametrize("content", [{"epoch": 3}, [1, 2], 5, {"state_dict": {}}])
def test_checkpoints_without_tensors(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "net.pth")
    assert _refused(tmp_path / "net.pth").what == "the file contains no state dict"


def test_other_archives_are_refused(tmp_path: Path) -> None:
    import zipfile

    with zipfile.ZipFile(tmp_path / "net.pth", "w") as archive:
        archive.writestr("data.txt", "nothing")
    assert "is not a checkpoint" in _refused(tmp_path / "net.pth").what
