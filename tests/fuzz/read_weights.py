"""Files of torch.save: damaged bytes, pickles of others, archives of others, and tensors that are not plain."""

from __future__ import annotations

import io
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy
from torch import Tensor

from attn_surgeon.networks.demo import load_demo
from attn_surgeon.networks.weights import load_weights
from tests.fuzz.draws import changed, damaged, scalars, values
from tests.fuzz.judge import CANARY
from tests.fuzz.kinds import FuzzKind

_OPCODES = [
    b"(",
    b"]",
    b"}",
    b")",
    b"2",
    b"0",
    b"\x85",
    b"\x86",
    b"\x87",
    b"t",
    b"l",
    b"d",
    b"a",
    b"e",
    b"s",
    b"u",
    b"R",
    b"b",
    b"Q",
    b".",
]
_GLOBALS = [
    b"cos\nsystem\n",
    f"c{CANARY}\nrun\n".encode(),
    b"c__builtin__\nbytearray\n",
    b"ccollections\nOrderedDict\n",
    b"ctorch\nFloatTensor\n",
    b"ctorch._utils\n_rebuild_tensor_v2\n",
    b"ctorch\nFloatStorage\n",
    b"ccollections\nCounter\n",
    b"c__builtin__\nset\n",
    b"ctorch\nSize\n",
]
_LEAVES = [
    b"K\x01",
    b"K\xff",
    b"N",
    b"\x88",
    b"X\x01\x00\x00\x00x",
    b"\x8a\x08" + b"\xff" * 7 + b"\x0f",
    b"J\xff\xff\xff\x7f",
    b"q\x00",
    b"h\x00",
]


@cache
def _state() -> dict[str, Tensor]:
    return dict(load_demo().state_dict())


@cache
def _saved(legacy: bool) -> bytes:
    file = io.BytesIO()
    torch.save(_state(), file, _use_new_zipfile_serialization=not legacy)
    return file.getvalue()


def saved(content: object) -> bytes:
    """Return what torch.save writes for an object."""
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def odd_tensors() -> SearchStrategy[Tensor]:
    """Draw tensors of other kinds than a state dict holds."""
    some = [
        torch.zeros(0),
        torch.zeros(3, 3, device="meta"),
        torch.eye(3).to_sparse(),
        torch.tensor(1 + 2j),
        torch.zeros(2, dtype=torch.bool),
        torch.full((2, 2), float("nan")),
        torch.full((4,), float("inf")),
        torch.zeros(1).expand(10**6),
        torch.zeros(1).expand(2**40),
        torch.zeros(2, dtype=torch.float8_e5m2),
        torch.zeros((1,) * 20),
        torch.tensor(7),
        torch.eye(4).to_sparse_csr(),
        torch.zeros(3, dtype=torch.uint16),
        torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8),
    ]
    return st.sampled_from(some)


@st.composite
def _states(draw: DrawFn) -> bytes:
    """Draw state dicts of the demo with other tensors, other names, or inside other tables."""
    state: dict[Any, Any] = dict(_state())
    for name in draw(st.lists(st.sampled_from(list(state)), max_size=4, unique=True)):
        change = draw(st.sampled_from(["odd", "cast", "value", "remove", "rename"]))
        if change == "odd":
            state[name] = draw(odd_tensors())
        elif change == "cast":
            state[name] = state[name].to(draw(st.sampled_from([torch.half, torch.int8, torch.bool, torch.complex64])))
        elif change == "value":
            state[name] = draw(values)
        elif name in state and change == "remove":
            del state[name]
        else:
            state[draw(scalars)] = state[name]
    wrapped = draw(st.sampled_from(["", "state_dict", "model", "list", "self"]))
    if wrapped == "self":
        state["model"] = state
    return saved({wrapped: state} if wrapped not in ("", "list", "self") else [state] if wrapped == "list" else state)


@st.composite
def _archives(draw: DrawFn) -> bytes:
    """Draw archives of torch.save whose entries are others, or are compressed."""
    with zipfile.ZipFile(io.BytesIO(_saved(False))) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    names = draw(st.lists(st.sampled_from(list(entries)), min_size=1, max_size=3))
    pickle = next(name for name in entries if name.endswith("data.pkl"))
    for name in [*names, pickle] if draw(st.booleans()) else names:
        entries[name] = draw(_pickles() | damaged(entries[name]) | st.integers(0, 10**7).map(bytes))
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return file.getvalue()


def _pickles() -> SearchStrategy[bytes]:
    parts = st.sampled_from(_OPCODES + _GLOBALS + _LEAVES)
    repeated = st.tuples(parts, st.integers(1, 60)).map(lambda drawn: drawn[0] * drawn[1])
    return st.lists(parts | repeated, max_size=25).map(lambda pieces: b"\x80\x02" + b"".join(pieces) + b".")


def _weights() -> SearchStrategy[Any]:
    plain = {"epoch": 3, "state_dict": {"x": [1, 2]}, "model": None}
    return (
        damaged(_saved(False))
        | damaged(_saved(True))
        | _states()
        | _archives()
        | _pickles()
        | changed(plain).map(saved)
    )


def _load(content: bytes) -> None:
    Path("x.pth").write_bytes(content)
    load_weights(load_demo(), "x.pth", allow_partial=True)


KINDS = {"weights": FuzzKind(_weights, _load, often=100)}
