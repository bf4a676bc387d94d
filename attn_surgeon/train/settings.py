"""The settings of a fine-tune, and the learning rate they make of each step."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from attn_surgeon.errors import SurgeonError, nearest

OPTIMIZERS = ("adamw", "sgd")
FREEZES = ("none", "bn", "base")
LEAKS = ("warn", "refuse")
PRECISIONS = ("no", "bf16", "fp16")


class TrainingError(SurgeonError):
    """Report a fine-tune that cannot start, or that had to stop."""


@dataclass(frozen=True)
class Settings:
    """Hold how a network is trained; `warmup` is a share of all steps, `ema` a decay or 0 for none."""

    epochs: int = 5
    batch_size: int = 64
    lr: float = 1e-3
    graft_lr_mult: float = 1.0
    weight_decay: float = 0.05
    optimizer: str = "adamw"
    warmup: float = 0.1
    clip_grad: float = 1.0
    freeze: str = "none"
    seed: int = 0
    label_smoothing: float = 0.0
    ema: float = 0.0
    amp: str = "no"
    accumulate: int = 1
    workers: int = 0
    limit: int | None = None
    val_split: float | None = None
    val_data: str | None = None
    data_dir: str | None = None
    download: bool = False
    max_bad: float = 0.01
    leaks: str = "warn"
    augment: bool = True
    checkpoint_steps: int | None = None

    def __post_init__(self) -> None:
        """Refuse values that no run can have."""
        for problem, hint in _problems(self):
            raise TrainingError(problem, "settings", hint)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)


def rate_factor(step: int, steps: int, warmup: float) -> float:
    """Give what the learning rate of a step is multiplied by: a linear warm-up, then half a cosine down to 0."""
    rising = max(1, round(warmup * steps))
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _problems(settings: Settings) -> list[tuple[str, str]]:
    """List what is wrong with the values, with a hint for each."""
    problems = [
        (f"{name} must be at least {least}, got {value}", "")
        for name, value, least in (
            ("epochs", settings.epochs, 1),
            ("batch size", settings.batch_size, 1),
            ("accumulate", settings.accumulate, 1),
            ("workers", settings.workers, 0),
        )
        if value < least
    ]
    for name, number in (("lr", settings.lr), ("graft-lr-mult", settings.graft_lr_mult), ("clip", settings.clip_grad)):
        if not (math.isfinite(number) and number > 0):
            problems.append((f"{name} must be above 0, got {number:g}", ""))
    for name, share in (
        ("warmup", settings.warmup),
        ("ema", settings.ema),
        ("smoothing", settings.label_smoothing),
        ("max-bad", settings.max_bad),
    ):
        if not 0 <= share < 1:
            problems.append((f"{name} must lie in [0, 1), got {share:g}", ""))
    if not (math.isfinite(settings.weight_decay) and settings.weight_decay >= 0):
        problems.append((f"weight-decay must not be negative, got {settings.weight_decay:g}", ""))
    if settings.val_split is not None and not 0 < settings.val_split < 1:
        problems.append((f"val-split must lie between 0 and 1, got {settings.val_split:g}", "try --val-split 0.2"))
    if settings.val_split is not None and settings.val_data is not None:
        problems.append(("val-split and val-data both say what to measure on", "leave one out"))
    return problems + _unknown(settings)


def _unknown(settings: Settings) -> list[tuple[str, str]]:
    """List the words that name nothing."""
    words = (("optimizer", OPTIMIZERS), ("freeze", FREEZES), ("amp", PRECISIONS), ("leaks", LEAKS))
    return [
        (f"unknown {name} '{value}'", nearest(value, known) or f"there are {', '.join(known)}")
        for name, known in words
        if (value := getattr(settings, name)) not in known
    ]
