"""What is asked of an export, whatever the format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attn_surgeon.artefact.opening import LoadedNetwork
from attn_surgeon.errors import ExportError, option
from attn_surgeon.export.axes import Axis
from attn_surgeon.progress import StepProgress, no_steps


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """How a network is exported.

    Args:
        axes: the dynamic axes.
        keep_identity: keep grafts that are exactly the identity; they are removed otherwise.
        preprocess: put the normalisation into the file, which then takes uint8 images (N, H, W, C).
        softmax: return probabilities instead of logits.
        images: a folder of images to compare on; random images with a fixed seed otherwise.
        tolerance: the largest difference allowed, relative to the largest output; the format's own otherwise.
    """

    axes: tuple[Axis, ...] = (Axis("batch"),)
    keep_identity: bool = False
    preprocess: bool = False
    softmax: bool = False
    images: str | Path | None = None
    tolerance: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """One export: a network, how to export it, and where to.

    Args:
        network: the network; it is not changed.
        settings: what all formats have in common.
        options: the format's own options, an object of its `options` class.
        targets: the files to write, by precision or by what they are.
        artefact: the file that the network was read from, whose certificate goes into the metadata.
        progress: called with the name of each step.

    Raises:
        ExportError: the file shall normalise images, and their normalisation is unknown.
    """

    network: LoadedNetwork
    settings: ExportSettings = field(default_factory=ExportSettings)
    options: Any = None
    targets: Mapping[str, Path]
    artefact: str | None = None
    progress: StepProgress = no_steps

    def __post_init__(self) -> None:
        if self.settings.preprocess and self.network.preprocessing.assumed:
            what = "the normalisation of this network's images is unknown"
            raise ExportError(what, option("preprocess", True), f"give {option('mean')} and {option('std')}")
