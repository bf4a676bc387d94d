"""Fuzz what reads files and options of others: python -m tests.fuzz [--cases N] [--kind KIND] [--seed N].

Goes on over faults, minimises each of them once, prints a table, and exits with 1 where there is any.
"""

from __future__ import annotations

import argparse
import logging
import resource
import sys
import time

import torch

from tests.fuzz.kinds import kinds
from tests.fuzz.run import run_cases

_ADDRESSES = 12 * 2**30  # bytes, so that a case that asks for everything fails instead of the machine


def main() -> None:
    """Run the kinds that are asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--kind", action="append", choices=sorted(kinds()))
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESSES, _ADDRESSES))
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    print("| kind | cases | refused | accepted | faults | slowest (s) | largest (MB) | all (s) |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    faults: dict[str, str] = {}
    for name in chosen.kind or kinds():
        start = time.process_time()
        tally = run_cases(kinds()[name], chosen.cases, chosen.seed)
        numbers = f"{tally.cases:,} | {tally.refused:,} | {tally.accepted:,} | {len(tally.faults)}"
        rest = f"{tally.slowest:.2f} | {tally.largest:.0f} | {time.process_time() - start:.0f}"
        print(f"| {name} | {numbers} | {rest} |", flush=True)
        faults |= {f"{name}, {signature}": text for signature, text in tally.faults.items()}
        for signature, text in tally.faults.items():
            print(f"{name}, {signature}\n    {text}", file=sys.stderr, flush=True)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
