"""Checkpoints: all that a run needs to resume as if it had never stopped, in one file written atomically."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attn_surgeon.errors import TrainingError, option
from attn_surgeon.files import replacing
from attn_surgeon.networks.torch_files import load_torch_file
from attn_surgeon.validation import validated

CHECKPOINT = "checkpoint.pt"
_EVERY_EPOCH = ("epoch", "step", "train_loss", "val_loss")


@dataclass
class RunState:
    """Where a run stands.

    Args:
        epoch: finished epochs.
        batch: batches done in this epoch.
        step: optimizer steps of the run.
        loss: summed loss of this epoch's images.
        images: how many these are.
        best: the best metric so far, or the negative of the lowest loss.
        history: the metrics of each finished epoch.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    loss: float = 0.0
    images: int = 0
    best: float = -math.inf
    history: list[dict[str, int | float | None]] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("epoch", "batch", "step", "images"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if len(self.history) != self.epoch or any(
            line.get(name) is None for line in self.history for name in _EVERY_EPOCH
        ):
            raise ValueError(f"history must hold {', '.join(_EVERY_EPOCH)} of {self.epoch} epochs")


def write_checkpoint(folder: Path, stateful: Mapping[str, Any], state: RunState, generators: Sequence[Any]) -> None:
    """Write a checkpoint; if that fails, the one before is kept.

    Args:
        folder: the run folder.
        stateful: what has a `state_dict`, by name; None is skipped.
        state: where the run stands.
        generators: the states of the random number generators of each process.
    """
    states = {name: item.state_dict() for name, item in stateful.items() if item is not None}
    content = {"position": asdict(state), "random": list(generators), **states}
    write_file(folder / CHECKPOINT, lambda path: torch.save(content, path))


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has written a checkpoint to this folder."""
    return (folder / CHECKPOINT).exists()


def read_checkpoint(folder: Path, stateful: Mapping[str, Any], rank: int = 0) -> RunState:
    """Load the states of a checkpoint, those of the random number generators included; return where the run stands."""
    with _unreadable_raises(folder):
        content = load_torch_file(folder / CHECKPOINT)
        state = validated(RunState, content["position"], TrainingError, "position")
        for name, item in stateful.items():
            if item is not None:
                item.load_state_dict(in_order(content[name], item) if name == "optimizer" else content[name])
        if rank < len(content["random"]):
            _restore_generators(content["random"][rank])
        return state


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


@contextmanager
def _unreadable_raises(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        what = f"the checkpoint cannot be read: {' '.join(str(error).split())[:200]}"
        raise TrainingError(what, str(folder / CHECKPOINT), "start a new run") from error


def write_file(path: Path, write: Callable[[str], Any]) -> None:
    """Write a file atomically: `write` is called with a temporary path; raise TrainingError where it fails."""
    try:
        with replacing(path) as temporary:
            write(temporary)
    except (OSError, RuntimeError) as error:  # torch reports a full disk as a RuntimeError
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:200]
        raise TrainingError(
            f"cannot write: {reason}", str(path), f"make room, then {option('resume')} the run"
        ) from None


def generator_states() -> dict[str, Any]:
    """Return the states of Python's, NumPy's and torch's global random number generators."""
    kind, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": (kind, torch.from_numpy(np.asarray(keys, dtype=np.int64)), *rest),
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _restore_generators(states: dict[str, Any]) -> None:
    version, values, gauss = states["python"]
    random.setstate((version, tuple(values), gauss))
    kind, keys, *rest = states["numpy"]
    np.random.set_state((kind, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(states["torch"])
    if states["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(states["cuda"])
