"""Fuzz what reads files and options of others: python -m tests.fuzz [--cases N] [--kind KIND] [--seed N].

Goes on over faults, minimises each of them once, prints a table, and exits with 1 where there is any.
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import time
from multiprocessing import get_context

import torch

from tests.fuzz.kinds import kinds
from tests.fuzz.run import run_cases

_ADDRESSES = 12 * 2**30  # bytes, so that a case that asks for everything fails instead of the machine


def main() -> None:
    """Run the kinds that are asked for, each in a process of its own, because Hypothesis keeps what it has drawn."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--kind", action="append", choices=sorted(kinds()))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    print("| kind | cases | refused | accepted | faults | slowest (s) | largest (MB) | all (s) |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |", flush=True)
    names = chosen.kind or list(kinds())
    processes = [
        get_context("fork").Process(target=_run_kind, args=(name, chosen.cases, chosen.seed)) for name in names
    ]
    for process in processes:
        process.start()
        process.join()
    sys.exit(any(process.exitcode for process in processes))


def _run_kind(name: str, cases: int, seed: int) -> None:
    """Run a kind, print its row and its faults, and exit with 1 where there are any."""
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    start = time.process_time()
    tally = run_cases(kinds()[name], cases, seed)
    numbers = f"{tally.cases:,} | {tally.refused:,} | {tally.accepted:,} | {len(tally.faults)}"
    rest = f"{tally.slowest:.2f} | {tally.largest:.0f} | {time.process_time() - start:.0f}"
    print(f"| {name} | {numbers} | {rest} |", flush=True)
    for signature, text in tally.faults.items():
        print(f"{name}, {signature}\n    {text}", file=sys.stderr, flush=True)
    sys.exit(bool(tally.faults))


if __name__ == "__main__":
    main()
