"""Artefacts: their metadata with a checksum that holds, and the bytes of safetensors."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import torch
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from attn_surgeon import insert, load, save
from attn_surgeon.artefact.header import is_artefact
from attn_surgeon.artefact.load import load_original
from attn_surgeon.artefact.open_network import network_name, open_network
from attn_surgeon.errors import SurgeonError
from attn_surgeon.networks.demo import load_demo
from attn_surgeon.networks.weights import load_weights
from tests.fuzz.draws import ODD_NUMBERS, changed, damaged, texts
from tests.fuzz.kinds import FuzzKind


@cache
def _made() -> tuple[dict[str, Any], bytes]:
    """Return the header of a small artefact, and the bytes after it."""
    loaded = open_network("demo")
    made = insert(loaded.model, "cbam", after="layer3", example=loaded.example)
    made = insert(made, "se", before="fc", at="residual@layer2", example=loaded.example)
    save(made, "made.safetensors", patch=True)
    content = Path("made.safetensors").read_bytes()
    length = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def _written(header: Any, tensors: bytes) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + tensors


def _metadata() -> SearchStrategy[Any]:
    header, _ = _made()
    payload = json.loads(header["__metadata__"]["attn_surgeon"])
    return changed(payload, 2).map(_with_payload)


def _with_payload(payload: Any) -> bytes:
    header, tensors = _made()
    text = json.dumps(payload, sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    metadata = {"attn_surgeon": text, "attn_surgeon_sha256": digest, "format": "pt"}
    return _written({**header, "__metadata__": metadata}, tensors)


def _load(content: bytes) -> None:
    path = Path("x.safetensors")
    path.write_bytes(content)
    is_artefact(path)
    with suppress(SurgeonError):
        network_name(str(path))
    with suppress(SurgeonError):
        load_original(path)
    model = load(path)
    with torch.no_grad():
        model(torch.zeros(1, 1, 32, 32))


def _safetensors() -> SearchStrategy[Any]:
    header, tensors = _made()
    whole = _written(header, tensors)
    entries = {name: entry for name, entry in header.items() if name != "__metadata__"}
    plain = _written(entries, tensors)
    sizes = st.sampled_from(ODD_NUMBERS).map(lambda size: size % 2**64)
    lengths = sizes.map(lambda size: size.to_bytes(8, "little") + whole[8:])
    entry = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F16", "BF16", "F64", "I8", "BOOL", "C64", "F4", "F8_E4M3", "U16"])
            | texts,
            "shape": st.lists(st.integers(-1, 8) | st.sampled_from(ODD_NUMBERS), max_size=4),
            "data_offsets": st.lists(st.integers(0, 64) | st.sampled_from(ODD_NUMBERS), max_size=3),
        }
    )
    invented = st.dictionaries(texts | st.sampled_from(list(entries)), entry, max_size=4)
    return (
        damaged(whole) | damaged(plain) | lengths | changed(entries).map(lambda data: _written(data, tensors))
    ) | invented.map(lambda data: _written(data, tensors))


def _read_safetensors(content: bytes) -> None:
    path = Path("x.safetensors")
    path.write_bytes(content)
    is_artefact(path)
    with suppress(SurgeonError):
        load(path)
    load_weights(load_demo(), path, allow_partial=True)


KINDS = {
    "artefact metadata": FuzzKind(_metadata, _load, often=30),
    "safetensors": FuzzKind(_safetensors, _read_safetensors, often=50),
}
