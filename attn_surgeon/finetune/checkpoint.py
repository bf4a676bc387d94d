"""Write and read checkpoints, so that a resumed run continues exactly where it stopped."""

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
    """The progress of a training run.

    Args:
        epoch: finished epochs.
        batch: batches done in this epoch.
        step: optimizer steps of the run.
        loss: sum of the loss over this epoch's images so far.
        images: the number of these images.
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
    """Write a checkpoint; if that fails, the previous one is kept.

    Args:
        folder: the run folder.
        stateful: objects with a `state_dict`, by name; None is skipped.
        state: the progress of the run.
        generators: the states of the random number generators of each process.
    """
    states = {name: item.state_dict() for name, item in stateful.items() if item is not None}
    content = {"position": asdict(state), "random": list(generators), **states}
    write_file(folder / CHECKPOINT, lambda path: torch.save(content, path))


def has_checkpoint(folder: Path) -> bool:
    """Whether a run has written a checkpoint to this folder."""
    return (folder / CHECKPOINT).exists()


def read_checkpoint(folder: Path, stateful: Mapping[str, Any], rank: int = 0) -> RunState:
    """Load the states of a checkpoint, including those of the random number generators; return the run's progress."""
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
    """Return an optimizer's saved state with its parameters, which are stored by number, in the current order.

    In version 0.2.0 a module's grafts came after its other children; now they come before them.
    """
    by_title = {group.get("group"): group for group in saved["param_groups"]}
    groups = []
    for group in optimizer.param_groups:
        names = group.get("names", ())
        old = by_title.get(group.get("group"), {})
        numbers = dict(zip(old.get("names", ()), old.get("params", ()), strict=False))
        if numbers.keys() != set(names):
            return saved  # load_state_dict raises if it does not fit
        groups.append(old | {"names": list(names), "params": [numbers[name] for name in names]})
    return saved | {"param_groups": groups}


@contextmanager
def _unreadable_raises(folder: Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        what = f"the checkpoint cannot be read: {' '.join(str(error).split())[:200]}"
        raise TrainingError(what, str(folder / CHECKPOINT), "start a new run") from error


def write_file(path: Path, write: Callable[[str], Any]) -> None:
    """Write a file atomically: `write` is called with a temporary path; raise TrainingError if it fails."""
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
