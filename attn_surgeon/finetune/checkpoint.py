"""Checkpoints: all that a run needs to go on as if it had never stopped, in one file that is whole or not there."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from attn_surgeon.files import replacing
from attn_surgeon.finetune.settings import TrainingError

NAME = "checkpoint.pt"


@dataclass
class Position:
    """Say where a run stands: batches done in this epoch, their summed loss, the epochs behind it, the best of them."""

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss: float = 0.0
    images: int = 0
    best: float = -math.inf
    history: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Parties:
    """Hold the things whose state a checkpoint keeps."""

    model: nn.Module
    optimizer: Any
    ema: Any = None
    scaler: Any = None


def write_checkpoint(folder: Path, parties: Parties, position: Position, streams: Sequence[Any]) -> None:
    """Write a checkpoint with the random streams of every process; where that fails, the one before stays as it was."""
    states = {name: party.state_dict() for name, party in vars(parties).items() if party is not None}
    state = {"position": asdict(position), "random": list(streams), **states}
    write_file(folder / NAME, lambda path: torch.save(state, path))


def has_checkpoint(folder: Path) -> bool:
    """Tell whether a run was in a folder before."""
    return (folder / NAME).exists()


def read_checkpoint(folder: Path, parties: Parties, process: int = 0) -> Position:
    """Bring the parties to where a checkpoint has them, random streams included, and say where that is."""
    with _refused(folder):
        state = _read(folder)
        for name, party in vars(parties).items():
            if party is not None:
                party.load_state_dict(in_order(state[name], party) if name == "optimizer" else state[name])
        if process < len(state["random"]):
            _restore_random_states(state["random"][process])
        return Position(**state["position"])


def in_order(saved: dict[str, Any], optimizer: Any) -> dict[str, Any]:
    """Return an optimizer's saved state with its parameters, which it has by number, in the order they have now.

    Version 0.2.0 had grafts behind their module's other children, which are before them since.
    """
    by_title = {group.get("group"): group for group in saved["param_groups"]}
    groups = []
    for own in optimizer.param_groups:
        old = by_title.get(own.get("group"), {})
        numbers = dict(zip(old.get("names", ()), old.get("params", ()), strict=False))
        if numbers.keys() != set(own.get("names", ())):
            return saved  # which the optimizer refuses if it does not fit
        groups.append(old | {"names": list(own["names"]), "params": [numbers[name] for name in own["names"]]})
    return saved | {"param_groups": groups}


def _read(folder: Path) -> Any:
    return torch.load(folder / NAME, map_location="cpu", weights_only=True)


@contextmanager
def _refused(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        what = f"the checkpoint cannot be read: {' '.join(str(error).split())[:200]}"
        raise TrainingError(what, str(folder / NAME), "start the run again in a new folder") from error


def write_file(path: Path, write: Any) -> None:
    """Let `write` make a file at a temporary path, then put it in its place; raise TrainingError where it cannot."""
    try:
        with replacing(path) as temporary:
            write(temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise TrainingError(f"cannot write: {reason}", str(path), "make room, then go on with --resume") from None


def random_states() -> dict[str, Any]:
    """Collect the states of Python's, NumPy's and torch's random streams."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_random_states(states: dict[str, Any]) -> None:
    """Set the random streams."""
    version, values, gauss = states["python"]
    random.setstate((version, tuple(values), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
