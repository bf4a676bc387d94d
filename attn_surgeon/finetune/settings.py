"""The settings of a fine-tune: their values, what each may be, and what each means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from attn_surgeon.errors import SurgeonError, nearest
from attn_surgeon.finetune.schedule import FREEZES, Stage, freeze_problem, parse_stages, stages_problem

TASKS = ("classification", "segmentation")
PRECISIONS = ("no", "bf16", "fp16")
SCHEDULES = ("cosine", "poly", "step", "tanh", "wsd", "constant")


class TrainingError(SurgeonError):
    """Report a fine-tune that cannot start, or that had to stop."""


def _setting(default: Any, meaning: str, metavar: str | None = None, **limits: Any) -> Any:
    """Make a field; `limits` are those of `_problem`, `hint`, and `near`, words to find the meant one among."""
    return field(default=default, metadata={"meaning": meaning, "metavar": metavar, **limits})


@dataclass(frozen=True)
class Settings:
    """Hold how a network is trained; the command line makes an option of each."""

    task: str = _setting("classification", f"{' or '.join(TASKS)} (images with masks).", "NAME", choices=TASKS)
    epochs: int = _setting(5, "Times through the images.", "N", least=1)
    batch_size: int = _setting(64, "Images a step, over all processes.", "N", least=1)
    lr: float | None = _setting(None, "Highest learning rate: 1e-3, with --freeze base 1e-2.", "RATE", positive=True)
    graft_lr_mult: float | None = _setting(
        None, "The grafts' rate, times --lr: 10, with --freeze base 1.", "FACTOR", positive=True
    )
    layer_decay: float = _setting(
        1.0, "Each layer's rate, times the next's; not grafts.", "FACTOR", positive=True, most=1
    )
    weight_decay: float = _setting(0.05, "Never on gates, norms, biases.", "DECAY", least=0)
    optimizer: str = _setting("adamw", "One of timm's: adamw, sgd, lamb, lion …", "NAME")
    schedule: str = _setting("cosine", f"How the rate falls: {', '.join(SCHEDULES)}.", "NAME", choices=SCHEDULES)
    warmup: float = _setting(0.1, "Share of the steps the rate rises in.", "SHARE", share=True)
    clip_grad: float = _setting(1.0, "Longest gradient.", "NORM", positive=True)
    freeze: str = _setting(
        "none",
        "none, bn (the base's BatchNorms), base (all but grafts and head), or until:MODULE (what runs before it).",
        "PART",
        check=freeze_problem,
        near=FREEZES,
    )
    train_norms: bool = _setting(
        False, "With --freeze base, train the weights and biases of its norms too, not their statistics."
    )
    stages: str | None = _setting(
        None, "What trains how long, in place of --epochs and --freeze: grafts:2,all:8.", "PLAN", check=stages_problem
    )
    loss: str = _setting("ce", "ce (cross-entropy) or bce (binary, class by class).", "NAME", choices=("ce", "bce"))
    dice: float = _setting(1.0, "Segmentation: the Dice loss's weight beside the other's.", "WEIGHT", least=0)
    label_smoothing: float = _setting(0.0, "Label smoothing.", "SHARE", share=True)
    mixup: float = _setting(0.0, "Mixup's alpha: 0.2.", "ALPHA", least=0)
    cutmix: float = _setting(0.0, "CutMix's alpha: 1.0.", "ALPHA", least=0)
    distill: float = _setting(
        0.0, "Share of the loss that keeps to what the network said before, without grafts.", "SHARE", share=True
    )
    temperature: float = _setting(2.0, "How much --distill softens what is compared.", "T", positive=True)
    ema: float = _setting(0.0, "Measure and save an average of weights: 0.999.", "DECAY", share=True)
    amp: str = _setting("no", "Mixed precision: no, bf16 or fp16.", "KIND", choices=PRECISIONS)
    channels_last: bool = _setting(False, "Lay maps out with channels last, which is faster for convolutions.")
    grad_checkpointing: bool = _setting(False, "Compute features twice to hold fewer in memory.")
    compile: bool = _setting(False, "Compile the network with torch.compile.")
    accumulate: int = _setting(1, "Batches gathered for a step.", "N", least=1)
    workers: int = _setting(0, "Processes that read images.", "N", least=0)
    limit: int | None = _setting(None, "Train on so many images only, evenly over classes.", "N", least=1)
    val_split: float | None = _setting(
        None,
        "Measure on a share split off train; 0.1 where there is no other part.",
        "SHARE",
        share=True,
        positive=True,
        hint="try --val-split 0.2",
    )
    val_data: str | None = _setting(None, "Measure on other data than --data.", "DATA")
    data_dir: str | None = _setting(None, "Where torch/, hfds/ and wds/ data lies.", "DIR")
    download: bool = _setting(False, "Fetch such data where it is not there.")
    max_bad: float = _setting(
        0.01, "Stop where more images of a part cannot be read; fewer are left out.", "SHARE", share=True
    )
    leaks: str = _setting(
        "warn",
        "warn or refuse where images to measure on are trained on too, byte for byte.",
        "WORD",
        choices=("warn", "refuse"),
    )
    crop: int | None = _setting(
        None,
        "Segmentation: side of the crops to train on and of the windows to look through.",
        "N",
        least=1,
    )
    crops: int | None = _setting(
        None, "Segmentation: crops of each image in an epoch; as many as have its pixels.", "N", least=1
    )
    overlap: float = _setting(0.25, "Segmentation: share of a window that the next one sees too.", "SHARE", share=True)
    ignore_index: int | None = _setting(
        None, "Segmentation: a mask's value that says nothing; 255, unless masks are of 0 and 255.", "VALUE", least=0
    )
    augment: bool = _setting(
        True, "Augment RGB images: shift and mirror from 32 pixels, crop of any scale and mirror from 64."
    )
    seed: int = _setting(0, "The first seed.", "NUMBER", least=0)
    best_by: str = _setting(
        "metric", "What decides which epoch is best.safetensors: metric or loss.", "NAME", choices=("metric", "loss")
    )
    checkpoint_steps: int | None = _setting(None, "Checkpoint so often, and after each epoch.", "N", least=1)

    def __post_init__(self) -> None:
        """Refuse values that no run can have."""
        for item in fields(self):
            value, limits = getattr(self, item.name), item.metadata
            if value is not None and (problem := _problem(value, **limits)):
                hint = limits.get("hint") or nearest(str(value), limits.get("choices") or limits.get("near", ()))
                raise TrainingError(f"{flag(item.name)} {problem}, got {_shown(value)}", "settings", hint)
        if self.stages is not None and self.freeze != "none":
            raise TrainingError("--stages says what is frozen", "--freeze", "leave --freeze out")
        if (self.mixup or self.cutmix) and self.batch_size < 2:
            raise TrainingError("mixing images needs two in a batch", "--batch-size", "take a larger one")

    @property
    def base_rate(self) -> float:
        """Give the highest learning rate of what is no graft."""
        return self.lr if self.lr is not None else 1e-2 if self.freeze == "base" else 1e-3

    @property
    def graft_rate(self) -> float:
        """Give the grafts' highest learning rate: they start from nothing, and what is pretrained does not."""
        usual = 1.0 if self.freeze == "base" else 10.0
        return self.base_rate * (usual if self.graft_lr_mult is None else self.graft_lr_mult)

    @property
    def plan(self) -> tuple[Stage, ...]:
        """Give the stages, of which there is one where none were asked for."""
        return (Stage(self.freeze, 0, self.epochs),) if self.stages is None else parse_stages(self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)


def flag(name: str) -> str:
    """Write a setting's name as the command line does."""
    return f"--{name.replace('_', '-')}"


def _problem(
    value: Any,
    *,
    least: float | None = None,
    most: float | None = None,
    positive: bool = False,
    share: bool = False,
    choices: tuple[str, ...] = (),
    check: Callable[[Any], str] = lambda value: "",
    **_: object,
) -> str:
    """Say what a value must be and is not; a share is at least 0 and below 1, `check` says itself what is wrong."""
    if isinstance(value, float) and not math.isfinite(value):
        return "must be finite"
    if least is not None and value < least:
        return f"must be at least {least}"
    if positive and value <= 0:
        return "must be above 0"
    if share and not 0 <= value < 1:
        return "must be at least 0 and below 1"
    if most is not None and value > most:
        return f"must be at most {most}"
    if choices and value not in choices:
        return f"must be one of {', '.join(choices)}"
    return check(value)


def _shown(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else f"'{value}'" if isinstance(value, str) else str(value)
