"""The folder of a comparison: what is compared, the results so far, and the files that they are written to."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import nn

from attn_surgeon.artefact.tensors import fingerprint
from attn_surgeon.control.arms import ArmResult, Loop
from attn_surgeon.control.chart import comparison_png
from attn_surgeon.control.comparison import Comparison
from attn_surgeon.control.metrics import Values
from attn_surgeon.data.distributed import is_first
from attn_surgeon.errors import ArtefactError, SettingsError, counted, option
from attn_surgeon.files import remove_leftovers, write_atomically
from attn_surgeon.optional_dependencies import is_installed
from attn_surgeon.progress import StepProgress
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.text_files import read_json
from attn_surgeon.validation import validated

_EXPERIMENT, _BEFORE, _RESULT = "experiment.json", "before.json", "result.json"
_PICTURE, _COMPARISON = "comparison.png", "comparison.json"
_POLL = 0.1  # seconds


@dataclass(frozen=True)
class ComparisonFolder:
    """The folder of a comparison, and what an earlier call has finished there.

    Where several processes train together, only the first writes.

    Args:
        path: the folder.
        before: the metrics before training, None if they are not known yet.
        finished: the results of trainings, by arm and seed.
    """

    path: Path
    before: Values | None
    finished: Mapping[tuple[str, int], ArmResult]

    @classmethod
    def opened(cls, path: Path, network: nn.Module, loop: Loop, progress: StepProgress) -> ComparisonFolder:
        """Return the folder of a new comparison, or of one of the same network and loop that was interrupted.

        Raises:
            SettingsError: it has a finished comparison, one of another network or loop, or other files.
        """
        if is_first():
            _claim_experiment(path, network, loop)
            remove_leftovers(path)
        while not (path / _EXPERIMENT).exists():  # until the first process has made sure that the folder is empty
            time.sleep(_POLL)
        names = [item.parent for item in sorted(path.glob(f"seed-*/{_RESULT}"))]
        results = [_read(ArmResult, name / _RESULT) for name in names]
        if names:
            progress(f"resume after {', '.join(name.name for name in names)}")
        for result in results:
            if result.arm == "grafts" and len(result.bypass_costs) < len(list_grafts(network)):
                known = f"{len(result.bypass_costs)} of {counted(len(list_grafts(network)), 'graft')}"
                progress(f"seed {result.seed}: the effect of {known} was measured before the interruption")
        before = _read(Values, path / _BEFORE) if (path / _BEFORE).exists() else None
        return cls(path, before, {(result.arm, result.seed): result for result in results})

    def of(self, arm: str, seed: int) -> Path:
        """Return the folder of one training, which exists."""
        folder = self.path / f"seed-{seed}-{arm}"
        folder.mkdir(exist_ok=True)
        return folder

    def write_before(self, before: Values) -> None:
        """Write the metrics before training."""
        _write(self.path / _BEFORE, before)

    def write_result(self, result: ArmResult) -> None:
        """Write the result of one training."""
        _write(self.of(result.arm, result.seed) / _RESULT, asdict(result))

    def write_comparison(self, comparison: Comparison) -> None:
        """Write the picture of a comparison where Matplotlib is installed, and then the comparison, which ends it."""
        if is_first() and is_installed("matplotlib"):
            write_atomically(self.path / _PICTURE, comparison_png(comparison))
        _write(self.path / _COMPARISON, comparison.to_dict())


def _claim_experiment(folder: Path, network: nn.Module, loop: Loop) -> None:
    """Write what is compared, or require that the folder's comparison began with the same and is not finished."""
    grafted = [item.place for item in list_grafts(network)]
    start = {"network": fingerprint(network), "grafts": grafted, "loop": loop.text}
    path, hint = folder / _EXPERIMENT, f"choose another {option('out')}"
    if (folder / _COMPARISON).exists():
        raise SettingsError("this comparison is finished", str(folder / _COMPARISON), hint)
    if path.exists():
        begun = read_json(path, ArtefactError)
        if begun != start:
            different = "network" if begun.get("network") != start["network"] else "training loop"
            raise SettingsError(f"the folder has a comparison of another {different}", str(folder), hint)
        return
    if any(not file.name.startswith(".") for file in folder.iterdir()):
        raise SettingsError("the folder is not empty", str(folder), hint)
    _write(path, start)


def _read(kind: Any, path: Path) -> Any:
    return validated(kind, read_json(path, ArtefactError), ArtefactError, str(path))


def _write(path: Path, document: object) -> None:
    if is_first():
        write_atomically(path, json.dumps(document, indent=2) + "\n")
