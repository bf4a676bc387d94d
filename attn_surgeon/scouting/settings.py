"""Settings of scouting with their defaults, which the command line shows; torch is not imported for them."""

from __future__ import annotations

from dataclasses import dataclass

from attn_surgeon.errors import SettingsError, nearest, option

BLOCKS = ("se", "eca", "cbam", "coord", "cpca", "gc")
DEFAULT_SITES = ("stages", "residual")


@dataclass(frozen=True)
class ScoutSettings:
    """How candidates are scored.

    Args:
        score: the definition of the score, one of DEFINITIONS.
        report: further definitions to compute.
        batches: the number of batches of training images.
        batch_size: the images in each.
        head_images: the number of other training images that a head is fitted on.
        fit_head: whether to fit the head on frozen features first; None fits one that is new.
        at_once: the most candidates that stand in the network at once, where memory is short.
        trial_steps: the steps of a trial: the head alone, with the norms, and with the norms and the set is trained for
            so many steps and compared on validation images; 0 leaves it out.
        device: the device to compute on.
        seed: the seed of images, blocks and a new head.
    """

    score: str = "l1"  # of the definitions compared in tests/scout/README.md, the best over both networks
    report: tuple[str, ...] = ()
    batches: int = 16
    batch_size: int = 32
    head_images: int = 2048
    fit_head: bool | None = None
    at_once: int = 128
    trial_steps: int = 100
    device: str = "cpu"
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise SettingsError where a value is invalid."""
        from attn_surgeon.scouting.scoring import DEFINITIONS

        for name in (self.score, *self.report):
            if name not in DEFINITIONS:
                hint = nearest(name, DEFINITIONS) or f"the scores are {', '.join(DEFINITIONS)}"
                raise SettingsError(f"no score is called '{name}'", option("score"), hint)
        if self.trial_steps < 0:
            raise SettingsError(f"trial_steps must be at least 0, got {self.trial_steps}", option("trial_steps"))
        for name in ("batches", "batch_size", "head_images", "at_once"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name} must be at least 1, got {getattr(self, name)}", option(name))
