"""Run a study and print what its file has: python -m tests.scout ranks cifar, sets groceries, or worth."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from .arms import SET_ARMS, USUAL
from .bench import Bench, Size
from .lines import Lines
from .networks import SUBJECTS
from .rank_report import report
from .ranks import Study
from .set_report import set_report
from .sets import Sets
from .transfers import TRANSFERS
from .worth import Worth
from .worth_report import draw_worth, worth_report


def main(arguments: Sequence[str] | None = None, size: Size | None = None) -> None:
    """Run what is missing in the file and print the report; with --report only print it."""
    given = _parser(size or Size()).parse_args(arguments)
    torch.set_num_threads(1)
    name = "-".join(filter(None, ("scout", given.study, getattr(given, "subject", None))))
    lines = Lines(given.file or Path(f"{name}.jsonl"))
    print({"ranks": _ranks, "sets": _sets, "worth": _worth}[given.study](given, lines, size))


def _parser(usual: Size) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__)
    studies = parser.add_subparsers(dest="study", required=True)
    ranks = studies.add_parser("ranks", help="does a score predict what a graft gains?")
    ranks.add_argument("subject", choices=SUBJECTS)
    ranks.add_argument("--train", type=int, default=usual.train, help="images to train on")
    ranks.add_argument("--val", type=int, default=usual.val, help="images to validate on")
    ranks.add_argument("--every", type=int, default=usual.every, help="train every n-th pair of site and block")
    sets = studies.add_parser("sets", help="does scout's set win at equal parameters?")
    sets.add_argument("subject", choices=TRANSFERS)
    worth = studies.add_parser("worth", help="when is attention worth it?")
    worth.add_argument("--picture", type=Path, help="draw the gains to this file")
    for study in (ranks, sets, worth):
        study.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
        study.add_argument("--file", type=Path, help="the results, as JSON lines")
        study.add_argument("--report", action="store_true", help="print what the file has, and run nothing")
    return parser


def _ranks(given: argparse.Namespace, lines: Lines, size: Size | None) -> str:
    chosen = size or Size(train=given.train, val=given.val, every=given.every)
    if not given.report:
        Study(lines, lambda: Bench.open(SUBJECTS[given.subject], chosen)).run(given.seeds)
    return report(lines.known)


def _sets(given: argparse.Namespace, lines: Lines, size: Size | None) -> str:
    transfer = TRANSFERS[given.subject]
    sets = Sets(transfer, transfer.settings, lines)
    for seed in () if given.report else given.seeds:
        for arm in SET_ARMS:
            sets.run(arm, seed)
        sets.try_out(USUAL)
    return set_report(lines.known)


def _worth(given: argparse.Namespace, lines: Lines, size: Size | None) -> str:
    for seed in () if given.report else given.seeds:
        Worth(lines).run(seed)
    if given.picture is not None:
        draw_worth(lines.known).savefig(given.picture, dpi=150)
    return worth_report(lines.known)


if __name__ == "__main__":
    main()
