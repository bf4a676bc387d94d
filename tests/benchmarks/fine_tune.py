"""What five blocks gain on CIFAR-10 over their controls, at two kinds of sites: python -m tests.benchmarks.fine_tune.

The network is the published ResNet-20, the images are JPEG re-encoded, 10,000 of train/ to train on and the 5,000 of
val/ to measure on. *Full* trains everything, against the network without grafts. *Grafts* trains grafts and head,
against the head alone and against the head with the base's norms, the rival of the same size.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from attn_surgeon import insert
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.surgery.installed_grafts import list_grafts

from .trials import Bench, Trial, mean_and_deviation, mean_and_interval, one_core
from .tune import REGIMES

BLOCKS = ("se", "eca", "cbam", "coord", "gc")
SITES = ("residual", "stages")
FULL = replace(REGIMES["full"], lr=1e-3, graft_lr_mult=10.0)
GRAFTS = replace(REGIMES["grafts"], lr=1e-2)
NORMS = replace(REGIMES["norms"], lr=1e-2)


def gain(bench: Bench, trial: Trial, control: Trial, seeds: Sequence[int]) -> str:
    """Write the mean gain over a control with its 95 % interval."""
    mean, low, high = mean_and_interval(bench.differences(trial, control, seeds))
    return f"{mean:+.2f} ({low:+.2f} … {high:+.2f})"


def score(bench: Bench, trial: Trial, seeds: Sequence[int]) -> str:
    """Write the mean accuracy and its standard deviation."""
    return mean_and_deviation([bench.top1(trial.seeded(seed)) for seed in seeds])


def added(bench: Bench, block: str, at: str) -> int:
    """Count the parameters that a block adds."""
    model = insert(bench.loaded.model, block, at=at, example=bench.loaded.example)
    return sum(parameter.numel() for made in list_grafts(model) for parameter in made.block.parameters())


def row(bench: Bench, block: str, at: str, seeds: Sequence[int], settings: Mapping[str, FinetuneSettings]) -> list[str]:
    """Give a block's cells at its sites, with the settings of each regime whose columns are wanted."""
    cells = [f"`{block}`", at, f"{added(bench, block, at):,}"]
    for regime, asked in settings.items():
        trial = Trial(block, at, asked)
        alone = Trial(None, "", asked)
        rivals = [alone, Trial(None, "", replace(asked, train_norms=True))] if regime == "grafts" else [alone]
        # a rival's own grafts' rate plays no part
        cells += [score(bench, trial, seeds), *(gain(bench, trial, rival.control(), seeds) for rival in rivals)]
    return cells


_SETTINGS: dict[str, FinetuneSettings] = {"full": FULL, "grafts": GRAFTS, "norms": NORMS}
_TITLES = {
    "full": ["full", "over no grafts"],
    "grafts": ["grafts and head", "over the head", "over head and norms"],
    "norms": ["grafts, head and norms", "over head and norms"],
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the table, row by row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--regimes", nargs="+", default=list(_SETTINGS), choices=_SETTINGS)
    parser.add_argument("--blocks", nargs="+", default=BLOCKS, choices=BLOCKS)
    parser.add_argument("--sites", nargs="+", default=SITES, choices=SITES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--lr", type=float, help="train at this rate in place of the usual one")
    parser.add_argument("--file", type=Path, default=Path("fine_tune.jsonl"))
    given = parser.parse_args(arguments)
    one_core()
    bench = Bench(given.file, val_split=None)
    regimes = {name: replace(_SETTINGS[name], lr=given.lr or _SETTINGS[name].lr) for name in given.regimes}
    for regime in given.regimes:
        bare = Trial(None, "", regimes[regime]).control()
        print(f"{regime} without grafts: {score(bench, bare, given.seeds)}", flush=True)
    titles = ["block", "at", "parameters", *(title for regime in given.regimes for title in _TITLES[regime])]
    print(f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}")
    for at in given.sites:
        for block in given.blocks:
            print(f"| {' | '.join(row(bench, block, at, given.seeds, regimes))} |", flush=True)


if __name__ == "__main__":
    main()
