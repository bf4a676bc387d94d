"""RT-DETR on blood cells, then SE in it, with a control: python -m tests.benchmarks.detr.

A small RT-DETR with random weights is trained on half of the training images. Then it trains on all of them with SE
and, with the same settings and seeds, without. All is measured on the validation images. The folder keeps the network
that was trained first, which is not trained again if it is there, and the run of `finetune`.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.data.boxes.dataset import BoxImages
from attn_surgeon.finetune.control_run import fine_tune
from attn_surgeon.finetune.job import open_job
from attn_surgeon.finetune.loop import train
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks.preprocessing import IMAGENET_MEAN, IMAGENET_STD, PreprocessingOverrides
from attn_surgeon.tasks import get_task

from .cifar import unpacked
from .trials import one_core

FIRST = FinetuneSettings(task="detection", epochs=150, batch_size=8, limit=102)
THEN = FinetuneSettings(task="detection", epochs=5, batch_size=8, lr=5e-4)
FACTORY = f"{Path(__file__).with_name('cell_detr.py')}:rt_detr"
IMAGES = PreprocessingOverrides(IMAGENET_MEAN, IMAGENET_STD, (128, 160))
SITES = "model.backbone.model.encoder.stages.*"


def trained(folder: Path, data: Path, arguments: dict[str, str]) -> LoadedNetwork:
    """Return the network that was trained first, from the folder or by training it."""
    file = folder / "start" / "last.safetensors"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(0)
        network = open_network(FACTORY, weights="none", args=arguments, images=IMAGES)
        parts = get_task("detection").open_splits(str(data), network.preprocessing, FIRST)
        few: BoxImages = parts.val.dataset  # type: ignore[assignment]
        # what an epoch is worth matters only at the end
        parts = replace(parts, val=replace(parts.val, dataset=few.having(few.annotations.subset([0, 1]))))
        train(network.model, parts, FIRST, file.parent, network.example)
    return open_network(str(file), trust=True)


def compared(network: LoadedNetwork, folder: Path, data: Path, seeds: int) -> dict[str, Any]:
    """Return the comparison of the network with SE and its control, each trained with each seed."""
    model = insert(network.model, "se", after=SITES, example=network.example)
    operated = replace(network, model=set_provenance(model, network.provenance))
    job = open_job(operated, str(data), THEN, control=True, seeds=seeds).at(folder)
    return fine_tune(job)


def report(result: Mapping[str, Any]) -> str:
    """Return a line with the mAP before and after, that of the control, and their difference with its interval."""
    means = [100 * statistics.mean(run[arm]["map"] for run in result["runs"]) for arm in ("grafts", "control")]
    seeds = ", ".join(f"{100 * run['difference']:+.2f}" for run in result["runs"])
    mean, low, high = (100 * result["difference"][name] for name in ("estimate", "low", "high"))
    difference = f"difference {mean:+.2f} ({low:+.2f} to {high:+.2f}), each seed's {seeds}"
    return f"mAP before {100 * result['before']:.2f}, after {means[0]:.2f}, control {means[1]:.2f}; {difference}"


def main(given: Sequence[str] | None = None, arguments: dict[str, str] | None = None) -> None:
    """Train the network, then with grafts and without, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path("detr"))
    parser.add_argument("--seeds", type=int, default=2)
    chosen = parser.parse_args(given)
    one_core()
    data = unpacked("blood-cells")
    network = trained(chosen.folder, data, arguments or {})
    (chosen.folder / "run").mkdir(exist_ok=True)
    print(report(compared(network, chosen.folder / "run", data, chosen.seeds)), flush=True)


if __name__ == "__main__":
    main()
