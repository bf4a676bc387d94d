"""Files that are whole or not there, hashes that see every bit, and damage that is noticed."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError
from torch import Tensor

from attn_surgeon import load, save
from attn_surgeon.artefact import storage
from attn_surgeon.artefact.load import load_original
from attn_surgeon.artefact.storage import read_artefact_tensors, read_payload, write
from attn_surgeon.artefact.tensors import hash_tensors
from attn_surgeon.errors import ArtefactError

from .test_file import operated_demo

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor([True, False])}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "x.safetensors"
    save(operated_demo(), path)
    return path.read_bytes()


def header_length(data: bytes) -> int:
    return 8 + int.from_bytes(data[:8], "little")


def test_the_same_is_written_to_the_same_bytes(tmp_path: Path) -> None:
    written = set()
    for _ in range(8):
        write(tmp_path / "x.safetensors", {"ä": TENSORS["a"]}, {"story": ["ä", "\n"]})
        written.add((tmp_path / "x.safetensors").read_bytes())
    assert len(written) == 1
    assert read_artefact_tensors(tmp_path / "x.safetensors")["ä"].equal(TENSORS["a"])


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write(path, TENSORS, {"story": ["ä", 1, None]})
    assert read_payload(path) == {"story": ["ä", 1, None]}
    found = read_artefact_tensors(path)
    assert found.keys() == TENSORS.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in TENSORS.items())
    assert list(tmp_path.iterdir()) == [path]


def test_views_ties_and_gaps_are_written_by_value(tmp_path: Path) -> None:
    big = torch.randn(50, 4)
    tensors = {"all": big, "again": big, "rows": big[3:5], "turned": big.t(), "none": big[:0], "one": big[2, 2]}
    write(tmp_path / "x.safetensors", tensors, {})
    found = read_artefact_tensors(tmp_path / "x.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    assert (tmp_path / "x.safetensors").stat().st_size < 4 * (3 * 200 + 9) + 1000


@pytest.mark.parametrize(
    "other",
    [
        {"a": TENSORS["a"], "c": TENSORS["b"]},
        {"a": TENSORS["a"]},
        {**TENSORS, "a": TENSORS["a"].reshape(3, 2)},
        {**TENSORS, "a": TENSORS["a"].view(torch.int32)},
        {**TENSORS, "a": torch.nextafter(TENSORS["a"], torch.tensor(9.0))},
        {**TENSORS, "a": TENSORS["a"] * torch.tensor([[-1.0, 1, 1], [1, 1, 1]])},
    ],
)
def test_the_hash_sees_names_types_shapes_and_bits(other: dict[str, Tensor]) -> None:
    assert hash_tensors(other) != hash_tensors(TENSORS)


def test_the_hash_is_of_values_and_not_of_their_place() -> None:
    turned = {"b": TENSORS["b"].clone(), "a": TENSORS["a"].t().contiguous().t()}
    assert hash_tensors(turned) == hash_tensors(TENSORS)
    assert hash_tensors({"x": torch.zeros(0)}) != hash_tensors({})


def positions(data: bytes) -> dict[str, int]:
    """Choose bytes all over a file."""
    header = json.loads(data[8 : header_length(data)])
    starts = {name: header_length(data) + entry["data_offsets"][0] for name, entry in header.items() if name[0] != "_"}
    graft = next(name for name in starts if ".attn_surgeon." in name)
    words = {"length": 0, "high length": 6, "brace": 8, "last": len(data) - 1, "header end": header_length(data) - 1}
    words |= {text: data.index(text.encode()) + 1 for text in ("F32", "data_offsets", "base_sha256", "identity")}
    words |= {"digest": data.index(b"attn_surgeon_sha256") + 30, "format": data.index(b'"pt"') + 1}
    words |= {"name": data.index(b"layer1.0.conv1.weight"), "graft name": data.index(graft.encode()) + len(graft) - 1}
    return words | {"base": starts["conv1.weight"] + 5, "base end": starts["fc.weight"], "graft": starts[graft] + 2}


PLACES = (
    "length", "high length", "brace", "header end", "F32", "data_offsets", "base_sha256", "identity", "digest",
    "format", "name", "graft name", "base", "base end", "graft", "last",
)  # fmt: skip


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("bit", [0, 7])
def test_one_flipped_bit_anywhere_is_noticed(tmp_path: Path, whole: bytes, place: str, bit: int) -> None:
    data = bytearray(whole)
    data[positions(whole)[place]] ^= 1 << bit
    path = tmp_path / "x.safetensors"
    path.write_bytes(data)
    with pytest.raises(ArtefactError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    if "graft" not in place:
        with pytest.raises(ArtefactError):
            load_original(path)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.5, 0.999])
def test_a_file_cut_short_is_noticed(tmp_path: Path, whole: bytes, share: float) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ArtefactError, match="damaged: it cannot be read"):
        load(path)


def full(*args: object, **kwargs: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def broken(*args: object, **kwargs: object) -> None:
    raise SafetensorError("I/O error")


@pytest.mark.parametrize(("name", "failure"), [("os.fsync", full), ("save_file", full), ("save_file", broken)])
def test_a_failure_in_writing_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, failure: object
) -> None:
    path = tmp_path / "x.safetensors"
    path.write_text("old")
    if name == "os.fsync":
        monkeypatch.setattr(os, "fsync", failure)
    else:
        monkeypatch.setattr(storage, name, failure)
    with pytest.raises(ArtefactError, match=r"cannot write: (No space left on device|I/O error)"):
        write(path, TENSORS, {})
    assert {file: file.read_text() for file in tmp_path.iterdir()} == {path: "old"}
    with pytest.raises(ArtefactError, match="cannot write"):
        write(tmp_path / "new.safetensors", TENSORS, {})
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name == "nt", reason="permissions differ there")
def test_a_file_has_the_usual_permissions(tmp_path: Path) -> None:
    write(tmp_path / "x.safetensors", TENSORS, {})
    (tmp_path / "plain").touch()
    assert (tmp_path / "x.safetensors").stat().st_mode == (tmp_path / "plain").stat().st_mode
