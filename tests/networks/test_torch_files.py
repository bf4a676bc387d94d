"""Weights files of others: no code, no more memory than their size accounts for, and plain tensors only."""

from __future__ import annotations

import resource
import time
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from attn_surgeon.errors import WeightsError
from attn_surgeon.networks.demo import load_demo
from attn_surgeon.networks.torch_files import load_torch_file
from attn_surgeon.networks.weights import load_weights

TUPLES = b"\x80\x02}K\x01" + b"2\x86" * 60 + b"K\x01s."  # (((1, 1), (1, 1)), …) as a key, which takes 2**60 hashes
LISTS = b"\x80\x02}]q\x00]q\x01" + b"".join(b"(h%ch%ce]q%c" % (i, i, i + 2) for i in range(60)) + b"."
BYTES = b"\x80\x02c__builtin__\nbytearray\n\x8a\x05\x00\x00\x00\x00\x01\x85R."  # of four gigabytes


def megabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000


def rewritten(path: Path, change: Any, compression: int = zipfile.ZIP_STORED) -> None:
    """Write an archive of torch.save anew, with what `change` returns of each entry."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))


def bomb(path: Path, pickle: bytes) -> None:
    torch.save(load_demo().state_dict(), path)
    rewritten(path, lambda name, content: pickle if name.endswith("data.pkl") else content)


@pytest.mark.parametrize("pickle", [TUPLES, LISTS, BYTES])
@pytest.mark.parametrize("is_zip", [False, True])
def test_a_pickle_that_asks_for_more_than_it_holds(tmp_path: Path, pickle: bytes, is_zip: bool) -> None:
    path = tmp_path / "x.pth"
    if is_zip:
        bomb(path, pickle)
    else:
        path.write_bytes(pickle)
    start, before = time.process_time(), megabytes()
    with pytest.raises(WeightsError, match=r"not a file of torch\.save"):
        load_weights(load_demo(), path)
    assert time.process_time() - start < 2
    assert megabytes() - before < 100


def test_an_archive_that_unpacks_to_more(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save(load_demo().state_dict(), path)
    large = b"\0" * 50_000_000
    rewritten(path, lambda name, content: large if name.endswith("data/0") else content, zipfile.ZIP_DEFLATED)
    with pytest.raises(WeightsError, match="unpack to"):
        load_weights(load_demo(), path)


def test_tensors_that_share_one_value(tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    torch.save({"conv1.weight": torch.zeros(1).expand(10**9)}, path)
    with pytest.raises(WeightsError, match="contain tensors of 4,000,000,000"):
        load_weights(load_demo(), path)


def meta(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to("meta")


def sparse(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.to_sparse() if tensor.ndim == 2 else tensor


def quantised(tensor: torch.Tensor) -> torch.Tensor:
    return torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8) if tensor.ndim == 2 else tensor


@pytest.mark.filterwarnings("ignore:.*quantize:")
@pytest.mark.filterwarnings("ignore:.*TypedStorage:")
@pytest.mark.parametrize(
    ("change", "what"),
    [
        (meta, "is on the meta device"),
        (sparse, "is quantised, nested or sparse"),
        (quantised, "is quantised, nested or sparse"),
        (lambda tensor: tensor * float("nan"), "contains NaN"),
        (lambda tensor: tensor.to(torch.complex64), "complex, network"),
        (lambda tensor: tensor[None], "do not fit|fits the network"),
    ],
)
def test_tensors_that_are_not_plain(tmp_path: Path, change: Any, what: str) -> None:
    path = tmp_path / "x.pth"
    network = load_demo()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    torch.save({name: change(tensor) for name, tensor in before.items()}, path)
    with pytest.raises(WeightsError, match=what):
        load_weights(network, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_checkpoints_of_both_formats_are_read(tmp_path: Path) -> None:
    state = load_demo().state_dict()
    for legacy in (False, True):
        torch.save({"model": state, "epoch": 3}, tmp_path / "x.pth", _use_new_zipfile_serialization=not legacy)
        read = load_torch_file(tmp_path / "x.pth")
        assert read["epoch"] == 3
        assert all(torch.equal(tensor, state[name]) for name, tensor in read["model"].items())
