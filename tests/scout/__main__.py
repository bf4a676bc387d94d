"""Run a study, and report what its file has: python -m tests.scout cifar."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from .bench import Bench, Size
from .networks import SUBJECTS
from .report import report
from .study import Study


def main(arguments: Sequence[str] | None = None, size: Size | None = None) -> None:
    """Run what is missing in the file and print the report; with --report only print it."""
    usual = Size()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", choices=SUBJECTS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--train", type=int, default=usual.train, help="images to train on")
    parser.add_argument("--val", type=int, default=usual.val, help="images to validate on")
    parser.add_argument("--every", type=int, default=usual.every, help="train every n-th pair of site and block")
    parser.add_argument("--file", type=Path)
    parser.add_argument("--report", action="store_true", help="print what the file has, and run nothing")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    chosen = size or Size(train=given.train, val=given.val, every=given.every)
    file = given.file or Path(f"scout-{given.network}.jsonl")
    study = Study(file, lambda: Bench.open(SUBJECTS[given.network], chosen))
    if not given.report:
        study.run(given.seeds)
    print(report(study.lines))


if __name__ == "__main__":
    main()
