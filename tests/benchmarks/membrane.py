"""A U-Net on electron-microscopy images, then CBAM and attention gates in it: python -m tests.benchmarks.membrane.

The U-Net is trained once on the 24 images. Then it trains on with grafts and, with the same settings and seeds,
without. All is measured on the six other images as wholes. What is in the file already is not run again.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.segmentation_images import Scenes
from attn_surgeon.data.splits import Splits
from attn_surgeon.finetune.graft_effects import openings
from attn_surgeon.finetune.loop import train
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.measure.cost import parameters
from attn_surgeon.networks.preprocessing import PreprocessingOverrides
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.statistics import wilcoxon

from .cifar import REPO, unpacked
from .trials import mean_and_deviation, mean_and_interval, one_core

FAST = {"task": "segmentation", "batch_size": 8, "crop": 128, "amp": "bf16", "channels_last": True}
FIRST = FinetuneSettings(epochs=20, lr=3e-3, **FAST)  # type: ignore[arg-type]
THEN = FinetuneSettings(epochs=8, lr=1e-3, **FAST)  # type: ignore[arg-type]
TASK = get_task("segmentation")
WIDTH = "8"
CBAM, GATE = ("cbam", "stages"), ("gate", "skips")
# arm: blocks and their sites, and the grafts' rate as a multiple of the others'
ARMS: dict[str, tuple[tuple[tuple[str, str], ...], float]] = {
    "control": ((), 1.0),
    "cbam at stages": ((CBAM,), 1.0),
    "gate at skips": ((GATE,), 1.0),
    "both": ((CBAM, GATE), 1.0),
    "both, rate × 10": ((CBAM, GATE), 10.0),
}


@dataclass(frozen=True)
class Bench:
    """Run trainings on one core, and keep what came of them in a file."""

    file: Path

    @cached_property
    def loaded(self) -> LoadedNetwork:
        """Open the U-Net, untrained."""
        torch.manual_seed(0)
        images = PreprocessingOverrides(size=(THEN.crop or 0, THEN.crop or 0))
        return open_network(
            f"{REPO / 'examples' / 'unet.py'}:unet", weights="none", args={"width": WIDTH}, images=images
        )

    @cached_property
    def parts(self) -> Splits:
        """Open the images."""
        return TASK.open_splits(str(unpacked("em-membrane")), self.loaded.preprocessing, THEN)

    @cached_property
    def trained(self) -> dict[str, Any]:
        """Give the weights that all arms start from."""
        path = self.file.with_suffix(".pt")
        if not path.exists():
            model = self.loaded.base()
            line = self._trained(model, FIRST)
            torch.save(model.state_dict(), path)
            self._write({"arm": "before", "seed": 0, **line})
        return cast("dict[str, Any]", torch.load(path, weights_only=True))

    def result(self, arm: str, seed: int) -> dict[str, Any]:
        """Give what an arm scored with a seed."""
        for line in self._lines():
            if (line["arm"], line["seed"]) == (arm, seed):
                return line
        model = self.loaded.base()
        model.load_state_dict(self.trained)
        blocks, factor = ARMS[arm]
        for block, at in blocks:
            model = insert(model, block, at=at, example=self.loaded.example, seed=seed)
        settings = replace(THEN, seed=seed, graft_lr_mult=factor)
        return self._write({"arm": arm, "seed": seed, **self._trained(model, settings)})

    def _trained(self, model: nn.Module, settings: FinetuneSettings) -> dict[str, Any]:
        since, scenes = time.perf_counter(), cast(Scenes, self.parts.val.dataset)
        # what an epoch is worth matters only at the end
        one = Scenes(scenes.pairs[:1], scenes.labelling, scenes.preprocessing, scenes.overlap, keep=True)
        few = replace(self.parts, val=ImageData(one, self.parts.val.class_names))
        with tempfile.TemporaryDirectory() as folder:
            model = train(model, few, settings, Path(folder), self.loaded.example).model
        found, seconds = TASK.score(model, self.parts.val), time.perf_counter() - since
        opened = openings(model, TASK, self.parts.val)
        size = {"opened": list(opened.values()), "parameters": parameters(model), "seconds": seconds}
        return {"miou": found.metric, "outcomes": found.outcomes, **found.figures, **size}

    def _lines(self) -> list[dict[str, Any]]:
        return list(map(json.loads, self.file.read_text().splitlines())) if self.file.exists() else []

    def _write(self, line: dict[str, Any]) -> dict[str, Any]:
        with self.file.open("a") as file:
            file.write(json.dumps(line) + "\n")
        return line


def report(arm: str, ours: Sequence[dict[str, Any]], theirs: Sequence[dict[str, Any]]) -> str:
    """Write an arm's line: mIoU, its difference from the control with a 95 % interval, and the signed-rank test."""
    values = [100 * line["miou"] for line in ours]
    text = f"{arm:15} {ours[0]['parameters']:9,} parameters  mIoU {mean_and_deviation(values)}"
    if ours is theirs:
        return text
    mean, low, high = mean_and_interval([100 * (a["miou"] - b["miou"]) for a, b in zip(ours, theirs, strict=True)])
    pairs = [zip(a["outcomes"], b["outcomes"], strict=True) for a, b in zip(ours, theirs, strict=True)]
    images = [sum(own - other for own, other in image) / len(pairs) for image in zip(*pairs, strict=True)]
    interval = f"{mean:+.2f}, 95 % {low:+.2f} to {high:+.2f} over {len(values)} seeds"
    return f"{text}  difference {interval}; signed-rank over {len(images)} images p = {wilcoxon(images):.3f}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run all arms with all seeds and print a line for each arm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--file", type=Path, default=Path("membrane.jsonl"))
    given = parser.parse_args(arguments)
    one_core()
    bench = Bench(given.file)
    found: dict[str, list[dict[str, Any]]] = {arm: [] for arm in ARMS}
    for seed in given.seeds:  # all arms of a seed first, so that whatever is there can be compared
        for arm, lines in found.items():
            lines.append(bench.result(arm, seed))
    for arm, lines in found.items():
        print(report(arm, lines, found["control"]), flush=True)


if __name__ == "__main__":
    main()
