"""Read weights files without running code from them, and load them where they fit."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attn_surgeon.errors import WeightsError, first_line, option
from attn_surgeon.networks.torch_files import UnboundedError, load_torch_file
from attn_surgeon.text_files import opened

_NESTED = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "network",
    "net",
    "state_dict_ema",
    "model_ema",
    "ema",
    "module",
)
_WRAPPERS = ("module.", "_orig_mod.")
_COUNTER = "num_batches_tracked"
_SHOWN = 5
_FORBIDDEN = (
    "GLOBAL",
    "unrecognized function",
    "Can only create new object",
    "Can only build Tensor",
    "unsupported class",
)
_DENSENET = re.compile(r"^(.*denselayer\d+\.(?:norm|conv))\.([12]\.\w+)$")


@dataclass(frozen=True)
class _Fit:
    """How the tensors of a file match those of a network."""

    tensors: dict[str, Tensor]
    missing: list[str]
    unexpected: list[str]
    misshaped: list[str]
    counters: int
    left_out: list[str]

    @property
    def whole(self) -> bool:
        """Whether every tensor of either side has its counterpart."""
        return not (self.missing or self.unexpected or self.misshaped)


def load_weights(model: nn.Module, path: str | Path, *, allow_partial: bool = False) -> list[str]:
    """Load a weights file into a network, and return notes.

    Raises:
        WeightsError: the file cannot be read, or does not fit completely and `allow_partial` is not set.
    """
    fit = _best_fit(model, read_weights(Path(path)))
    where = str(path)
    if not any(_COUNTER not in key for key in fit.tensors):
        raise WeightsError("no tensor of the file fits the network", where, _examples(model, fit))
    if not fit.whole and not allow_partial:
        hint = f"is it this network's file? {option('allow_partial', True)} loads what fits"
        raise WeightsError(f"the weights do not fit: {_misfits(fit)}", where, hint)
    model.load_state_dict(fit.tensors, strict=False)
    return _notes(fit)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read the tensors of a weights file by name, without running code from it."""
    head = _head(path)
    reader = _read_safetensors if head[8:9] == b"{" else _read_torch
    tensors = _find(reader(path), depth=3)
    if tensors is None:
        raise WeightsError(
            "the file contains no state dict", str(path), "save one with torch.save(model.state_dict(), …)"
        )
    for name, tensor in tensors.items():
        if reason := _unusable(tensor):
            raise WeightsError(f"the tensor '{name}' {reason}", str(path), "save a state dict of plain tensors")
    return tensors


def _unusable(tensor: Tensor) -> str:
    """Return why a tensor cannot be copied into a network, or an empty text."""
    if tensor.is_meta:
        return "is on the meta device and has no values"
    if tensor.is_quantized or tensor.is_nested or tensor.layout is not torch.strided:
        return "is quantised, nested or sparse"
    if tensor.is_floating_point() and bool(tensor.float().isnan().any()):
        return "contains NaN"
    return ""


def _head(path: Path) -> bytes:
    """Return a file's first bytes; raise WeightsError if it cannot be a weights file."""
    where = str(path)
    try:
        if path.is_dir():
            raise WeightsError("this is a folder, not a weights file", where, "name the file in it")
        with opened(path) as file:
            head = file.read(256)
    except FileNotFoundError as error:
        raise WeightsError("there is no such weights file", where, "check the path") from error
    except (OSError, ValueError) as error:  # a path with a null character is a ValueError
        reason = getattr(error, "strerror", None) or first_line(error)
        raise WeightsError(f"the weights file cannot be read: {reason}", where) from error
    for what, hint, wrong in _NOT_WEIGHTS:
        if wrong(head):
            raise WeightsError(what, where, hint)
    return head


def _is_checkpoint(head: bytes) -> bool:
    """Whether a file begins like safetensors, a zip archive or a binary pickle."""
    return head[8:9] == b"{" or head[:2] == b"PK" or head[:1] == b"\x80"


_NOT_WEIGHTS: tuple[tuple[str, str, Callable[[bytes], bool]], ...] = (
    ("the weights file is empty", "download it again", lambda head: not head),
    (
        "this is a git-lfs pointer, not the weights themselves",
        "run git lfs pull",
        lambda head: head.startswith(b"version https://git-lfs"),
    ),
    (
        "this is a web page, not a weights file",
        "download the raw file",
        lambda head: head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"),
    ),
    (
        "this is not a checkpoint",
        "expected .safetensors, or a file saved by torch.save",
        lambda head: not _is_checkpoint(head),
    ),
)


def _read_safetensors(path: Path) -> Any:
    """Read a safetensors file."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise _damaged(path) from error


def _read_torch(path: Path) -> Any:
    """Read a file of torch.save without running any code in it."""
    try:
        return load_torch_file(path)
    except UnboundedError as error:
        raise WeightsError(f"this is not a file of torch.save: {error}", str(path), "download it again") from error
    except pickle.UnpicklingError as error:
        if any(sign in str(error) for sign in _FORBIDDEN):
            hint = "save only its state dict, in a program that trusts the file"
            raise WeightsError("the file contains Python code, which was not run", str(path), hint) from error
        if _newer_pickle(path):
            hint = "save its state dict with torch.save, in a program that trusts the file"
            raise WeightsError("this pickle cannot be read safely and was not run", str(path), hint) from error
        raise _damaged(path) from error
    except Exception as error:
        if "TorchScript" in str(error):
            hint = "save the state dict of the program in it"
            raise WeightsError("this is a TorchScript program, not a checkpoint", str(path), hint) from error
        raise _damaged(path) from error


def _newer_pickle(path: Path) -> bool:
    """Whether a file is a plain pickle of a later protocol than `weights_only` can read."""
    with path.open("rb") as file:
        mark, protocol = file.read(2)
    return mark == 0x80 and protocol > 2


def _damaged(path: Path) -> WeightsError:
    """Return the error for a file that starts like a checkpoint but cannot be read."""
    return WeightsError("the file is truncated, or is not a checkpoint", str(path), "download it again")


def _find(value: object, depth: int) -> dict[str, Tensor] | None:
    """Return the state dict in a checkpoint: the checkpoint itself, or its entry under one of the usual names."""
    if not isinstance(value, Mapping) or not depth:
        return None
    for key in _NESTED:
        if (found := _find(value.get(key), depth - 1)) is not None:
            return found
    tensors = {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, Tensor)}
    return tensors or None


def _unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes of data parallelism and compilation, in whichever order they nest."""
    for _ in _WRAPPERS:
        for prefix in _WRAPPERS:
            if all(key.startswith(prefix) for key in tensors):
                tensors = {key.removeprefix(prefix): tensor for key, tensor in tensors.items()}
    return tensors


def _possible_names(tensors: dict[str, Tensor]) -> Iterator[dict[str, Tensor]]:
    """Yield the tensors under the names that a file may mean: first as they are, then without usual prefixes."""
    yield tensors
    plain = _unwrapped(tensors)
    yield plain
    inner = {key.removeprefix("model."): tensor for key, tensor in plain.items()}
    yield inner
    yield _unwrapped(inner)
    yield {_DENSENET.sub(r"\1\2", key): tensor for key, tensor in plain.items()}


def _best_fit(model: nn.Module, tensors: dict[str, Tensor]) -> _Fit:
    """Return the match of a file with a network, under the names that fit best."""
    fits = [_fit(model, names) for names in _possible_names(tensors)]
    return max(fits, key=lambda fit: len(fit.tensors))


def _fit(model: nn.Module, tensors: dict[str, Tensor]) -> _Fit:
    """Match a file's tensors with a network's by name and shape."""
    own = {key: value for key, value in model.state_dict().items() if isinstance(value, Tensor)}
    shared = {key: tensor for key, tensor in tensors.items() if key in own}
    missing = [key for key in own if key not in tensors]
    foreign = [key for key in tensors if key not in own]
    left_out = [key for key in foreign if _is_left_out(model, key)]
    return _Fit(
        tensors={key: tensor for key, tensor in shared.items() if _fits(tensor, own[key])},
        missing=[key for key in missing if not key.endswith(_COUNTER)],
        unexpected=[key for key in foreign if key not in left_out],
        misshaped=[
            f"{key}: file {_described(tensor)}, network {_described(own[key])}"
            for key, tensor in shared.items()
            if not _fits(tensor, own[key])
        ],
        counters=sum(key.endswith(_COUNTER) for key in missing),
        left_out=left_out,
    )


def _fits(tensor: Tensor, own: Tensor) -> bool:
    """Whether a tensor can be copied into one of a network without dropping imaginary parts."""
    return tensor.shape == own.shape and (own.is_complex() or not tensor.is_complex())


def _described(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)}{' complex' if tensor.is_complex() else ''}"


def _is_left_out(model: nn.Module, key: str) -> bool:
    """Whether a name belongs to a part that the network leaves out, such as an auxiliary head."""
    part, _, rest = key.partition(".")
    return bool(rest) and getattr(model, part, model) is None


def _misfits(fit: _Fit) -> str:
    """Describe what does not fit, the first few of each kind."""
    kinds = (("missing", fit.missing), ("unexpected", fit.unexpected), ("of another shape", fit.misshaped))
    return ", ".join(f"{len(keys)} {kind} ({_first(keys)})" for kind, keys in kinds if keys)


def _first(keys: list[str]) -> str:
    """Return the first few keys as text."""
    rest = len(keys) - _SHOWN
    return "; ".join(keys[:_SHOWN]) + (f"; and {rest} more" if rest > 0 else "")


def _examples(model: nn.Module, fit: _Fit) -> str:
    """Return a hint with names or shapes from both sides."""
    if fit.misshaped:
        return fit.misshaped[0]
    return f"file: {_first(fit.unexpected[:2])}; network: {_first(list(model.state_dict())[:2])}"


def _notes(fit: _Fit) -> list[str]:
    """Return notes on tensors that were not loaded."""
    notes = []
    if not fit.whole:
        kept, ignored = len(fit.missing) + len(fit.misshaped), len(fit.unexpected) + len(fit.misshaped)
        notes.append(
            f"partial weights: {len(fit.tensors)} tensors loaded, {kept} of the network keep their values,"
            f" {ignored} of the file are ignored"
        )
    if fit.counters:
        notes.append(f"{fit.counters} BatchNorm counters ({_COUNTER}) are not in the file and keep their values")
    if fit.left_out:
        parts = sorted({key.partition(".")[0] for key in fit.left_out})
        notes.append(f"weights of {', '.join(parts)} ignored: the network leaves that part out")
    return notes
