"""Which settings let grafts gain most over their control, on images split off train/: python -m tests.benchmarks.tune.

Nothing here sees val/. Each line is a mean over seeds of what a network with grafts gains over the one without, both
trained with the same settings.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from attn_surgeon.finetune.settings import FinetuneSettings

from .trials import Bench, Trial, described, mean_and_deviation, one_core

FAST = {"batch_size": 128, "limit": 10_000, "amp": "bf16", "channels_last": True}
FULL = FinetuneSettings(epochs=5, **FAST)  # type: ignore[arg-type]
GRAFTS = FinetuneSettings(epochs=3, freeze="base", **FAST)  # type: ignore[arg-type]
NORMS = replace(GRAFTS, train_norms=True)
REGIMES = {"full": FULL, "grafts": GRAFTS, "norms": NORMS}


def grid(regime: str, blocks: list[str], sites: list[str], rates: list[float], factors: list[float]) -> Iterator[Trial]:
    """List the trials of a regime."""
    for rate in rates:
        for factor in factors:
            for block in blocks:
                for at in sites:
                    yield Trial(block, at, replace(REGIMES[regime], lr=rate, graft_lr_mult=factor))


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a grid and print a line for each of its points."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("regime", choices=REGIMES)
    parser.add_argument("--blocks", nargs="+", default=["se", "cbam", "coord"])
    parser.add_argument("--sites", nargs="+", default=["residual"])
    parser.add_argument("--lr", nargs="+", type=float, default=[1e-3])
    parser.add_argument("--mult", nargs="+", type=float, default=[1.0, 5.0])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE")
    parser.add_argument("--file", type=Path, default=Path("tune.jsonl"))
    given = parser.parse_args(arguments)
    one_core()
    bench = Bench(given.file, val_split=0.1)
    changes: dict[str, Any] = {
        name: _value(name, value) for name, _, value in (text.partition("=") for text in given.set)
    }
    for trial in grid(given.regime, given.blocks, given.sites, given.lr, given.mult):
        changed = replace(trial, settings=replace(trial.settings, **changes))
        control = [bench.top1(changed.control().seeded(seed)) for seed in given.seeds]
        gains = bench.differences(changed, changed.control(), given.seeds)
        print(
            f"{given.regime:7} {trial.block:6} {trial.at:9} gain {mean_and_deviation(gains)}  "
            f"control {mean_and_deviation(control)}  {described(changed.settings)}",
            flush=True,
        )


def _value(name: str, text: str) -> object:
    usual = getattr(FinetuneSettings(), name)
    return json.loads(text) if usual is None or isinstance(usual, bool) else type(usual)(text)


if __name__ == "__main__":
    main()
