"""The settings of fine-tuning, each with its help text and limits."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from attn_surgeon.errors import SettingsError, option
from attn_surgeon.finetune.stages import FREEZES, MOST_EPOCHS, Stage, freeze_problem, parse_stages, stages_problem
from attn_surgeon.settings import setting
from attn_surgeon.tasks.settings import TaskSettings

BEST = "best.safetensors"  # in a run folder, the artefact of the best epoch
MIXED_PRECISIONS = ("no", "bf16", "fp16")
SCHEDULES = ("cosine", "poly", "step", "tanh", "wsd", "constant")

_optimisation = partial(setting, panel="Optimisation")
_trained = partial(setting, panel="What trains")
_regularisation = partial(setting, panel="Regularisation")
_run = partial(setting, panel="Run")


@dataclass(frozen=True)
class FinetuneSettings(TaskSettings):
    """How a network is fine-tuned; the command line makes an option of each field.

    >>> FinetuneSettings(freeze="base").graft_rate
    0.01
    >>> FinetuneSettings(epochs=0)
    Traceback (most recent call last):
    attn_surgeon.errors.SettingsError: epochs must be at least 1, got 0; settings
    """

    epochs: int = _optimisation(5, "Training epochs.", "N", least=1, most=MOST_EPOCHS)
    batch_size: int = _optimisation(64, "Images per batch, over all processes.", "N", least=1, most=10**6)
    accumulate: int = _optimisation(1, "Gradient accumulation steps.", "N", least=1, most=10**6)
    optimizer: str = _optimisation("adamw", "One of timm's optimizers: adamw, sgd, lamb, lion ...", "NAME")
    lr: float | None = _optimisation(
        None, f"Peak learning rate (default: 1e-3; 1e-2 with {option('freeze', 'base')}).", "LR", positive=True
    )
    schedule: str = _optimisation(
        "cosine", f"Learning rate schedule: {', '.join(SCHEDULES)}.", "NAME", choices=SCHEDULES
    )
    warmup: float = _optimisation(0.1, "Warm-up, as a fraction of the steps.", "FRACTION", fraction=True)
    clip_grad: float = _optimisation(
        1.0, "Maximum gradient norm, separately for grafts and all other parameters.", "NORM", positive=True
    )
    amp: str = _optimisation("no", "Mixed precision: no, bf16 or fp16.", "TYPE", choices=MIXED_PRECISIONS)
    channels_last: bool = _optimisation(False, "Use the channels-last memory format, which is faster for convolutions.")
    grad_checkpointing: bool = _optimisation(False, "Gradient checkpointing: recompute activations to save memory.")
    compile: bool = _optimisation(False, "Compile the network with torch.compile.")
    freeze: str = _trained(
        "none",
        "Freeze none, bn (the base's BatchNorms), base (all but grafts and head), or until:MODULE (what runs before"
        " it).",
        "PART",
        check=freeze_problem,
        near=FREEZES,
    )
    train_norms: bool = _trained(
        False, f"With {option('freeze', 'base')}, train the weights and biases of its norms too, not their statistics."
    )
    stages: str | None = _trained(
        None,
        f"What is trained for how many epochs, instead of {option('epochs')} and {option('freeze')}: grafts:2,all:8.",
        "STAGES",
        check=stages_problem,
    )
    graft_lr_mult: float | None = _trained(
        None,
        f"Factor of the grafts' learning rate over {option('lr')} (default: 10; 1 with {option('freeze', 'base')}).",
        "FACTOR",
        positive=True,
    )
    layer_decay: float = _trained(
        1.0,
        "Layer-wise learning rate decay of the base: factor from a layer to the one before.",
        "FACTOR",
        positive=True,
        most=1,
    )
    weight_decay: float = _regularisation(0.05, "Weight decay; gates, norms and biases are exempt.", "DECAY", least=0)
    mixup: float = _regularisation(0.0, "Mixup alpha, such as 0.2; 0 turns it off.", "ALPHA", least=0)
    cutmix: float = _regularisation(0.0, "CutMix alpha, such as 1.0; 0 turns it off.", "ALPHA", least=0)
    distill: float = _regularisation(
        0.0, "Weight of self-distillation: the loss against the original's outputs.", "FRACTION", fraction=True
    )
    temperature: float = _regularisation(2.0, f"Temperature of {option('distill')}.", "T", positive=True)
    ema: float = _regularisation(
        0.0,
        "Decay of an exponential moving average of the weights, such as 0.999, which is evaluated and saved.",
        "DECAY",
        fraction=True,
    )
    best_by: str = _run("metric", "Choose best.safetensors by metric or loss.", "NAME", choices=("metric", "loss"))
    checkpoint_steps: int | None = _run(
        None, "Write a checkpoint every N steps, besides after each epoch.", "N", least=1
    )

    def __post_init__(self) -> None:
        """Raise SettingsError if a value is invalid, or two contradict each other."""
        super().__post_init__()
        if self.stages is not None and self.freeze != "none":
            what = f"{option('stages')} already says what is frozen"
            raise SettingsError(what, option("freeze"), f"leave {option('freeze')} out")
        if (self.mixup or self.cutmix) and self.batch_size < 2:
            raise SettingsError("mixing needs two images in a batch", option("batch_size"), "choose a larger one")

    @property
    def base_rate(self) -> float:
        """The peak learning rate of all parameters that are not a graft's."""
        return self.lr if self.lr is not None else 1e-2 if self.freeze == "base" else 1e-3

    @property
    def graft_rate(self) -> float:
        """The grafts' peak learning rate, higher by default because they start from scratch."""
        usual = 1.0 if self.freeze == "base" else 10.0
        return self.base_rate * (usual if self.graft_lr_mult is None else self.graft_lr_mult)

    @property
    def plan(self) -> tuple[Stage, ...]:
        """The stages, a single one unless several are set."""
        return (Stage(self.freeze, 0, self.epochs),) if self.stages is None else parse_stages(self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)
