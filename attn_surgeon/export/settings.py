"""The settings that all export formats share, and the request for one export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.errors import ExportError, option
from attn_surgeon.export.dynamic_axes import Axis
from attn_surgeon.progress import StepProgress, no_steps


@dataclass(frozen=True, kw_only=True)
class ExportSettings:
    """The settings that all formats share.

    Args:
        axes: the dynamic axes; by default the batch, or none for a network that returns objects.
        keep_identity: keep grafts that are exactly the identity, which are removed by default.
        preprocess: include the normalisation in the file, which then takes uint8 images (N, H, W, C).
        softmax: return probabilities instead of logits.
        images: a folder of images to compare outputs on; by default, seeded random images.
        tolerance: the largest allowed difference, relative to the largest output; by default, that of the format.
    """

    axes: tuple[Axis, ...] | None = None
    keep_identity: bool = False
    preprocess: bool = False
    softmax: bool = False
    images: str | Path | None = None
    tolerance: float | None = None


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """The request for one export.

    Args:
        network: the network, which is not changed.
        settings: the settings that all formats share.
        options: the options of the format, an object of its `options` class.
        targets: the paths of the files to write, by precision or kind.
        artefact: the file that the network was read from, whose certificate is copied into the metadata.
        progress: called with the name of each step.

    Raises:
        ExportError: the file is to include the normalisation, which is unknown.
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
            raise ExportError(what, option("preprocess", True), f"set {option('mean')} and {option('std')}")
