"""Print the largest differences between printed modules and the blocks that have their weights."""

from __future__ import annotations

from . import PRINTS
from .case import differences

print("| printed | options | eval | train | statistics |\n|---|---|---|---|---|")
for case in PRINTS:
    found = [dict(differences(case, channels)) for channels in case.channels]
    worst = {mode: max(each[mode] for each in found) for mode in found[0]}
    options = ", ".join(f"{name}={value}" for name, value in case.options.items())
    print(f"| {case} | {options} | " + " | ".join(f"{value:.1e}" for value in worst.values()) + " |")
