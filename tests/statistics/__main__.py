"""Simulate how often the intervals of `finetune --control` and `evaluate --compare` are wrong, and write the tables.

python -m tests.statistics            # the README beside this file, in a few minutes
python -m tests.statistics --quick    # fewer repeats, printed
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .tables import document

README = Path(__file__).parent / "README.md"
REPEATS, QUICK = 4000, 400


def main(arguments: list[str] | None = None) -> None:
    """Run the simulation."""
    parser = argparse.ArgumentParser(prog="python -m tests.statistics", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repeats; prints, and leaves the README as it is")
    quick = parser.parse_args(arguments).quick
    text = document(QUICK if quick else REPEATS)
    if quick:
        print(text)
    else:
        README.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
