"""Gains by domain and number of images: a table, and the picture of the README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .differences import difference, whole_seeds, written
from .domains import DOMAINS
from .worth import BOTH, HEAD, IMAGES, NORMS, WORTH_ARMS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Lines = Mapping[str, Mapping[str, Any]]


def gain(lines: Lines, domain: str, images: int) -> tuple[float, float, float] | None:
    """Return by how many points the set beside the norms is better than the better control; None where not run."""
    names = {arm: f"{domain}, {images} {arm}" for arm in WORTH_ARMS}
    seeds = whole_seeds(lines, list(names.values()))
    if not seeds:
        return None
    best = max((HEAD, NORMS), key=lambda arm: sum(lines[f"{names[arm]} {seed}"]["metric"] for seed in seeds))
    return difference(lines, names[BOTH], names[best], seeds)


def in_trial(lines: Lines, domain: str, images: int) -> str:
    """Return by how much the loss was lower with the set than with the better control in scout's trial."""
    losses = lines.get(f"{domain}, {images} trial", {}).get("losses")
    if not losses:
        return ""
    *controls, ours = losses.values()
    return f"{min(controls) - ours:+.3f}"


def worth_report(lines: Lines) -> str:
    """Return the table as Markdown."""
    text = [
        f"| images | domain | {' | '.join(WORTH_ARMS)} | gain over the better control | in the trial |",
        f"| --- | --- |{' ---: |' * (len(WORTH_ARMS) + 2)}",
    ]
    for images in IMAGES:
        for domain in DOMAINS:
            if found := gain(lines, domain, images):
                names = [f"{domain}, {images} {arm}" for arm in WORTH_ARMS]
                seeds = whole_seeds(lines, names)
                means = [sum(lines[f"{name} {seed}"]["metric"] for seed in seeds) / len(seeds) for name in names]
                cells = [*(f"{100 * mean:.1f}" for mean in means), written(found), in_trial(lines, domain, images)]
                text.append(f"| {images} | {domain} ({len(seeds)} seeds) | {' | '.join(cells)} |")
    return "\n".join(text)


def draw_worth(lines: Lines) -> Figure:
    """Return the figure: gains in points with their intervals against the number of images, a line for each domain."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for place, domain in enumerate(DOMAINS):
        found = {images: own for images in IMAGES if (own := gain(lines, domain, images))}
        shifted = [images * 1.08 ** (place - 1.5) for images in found]
        means = [mean for mean, _, _ in found.values()]
        errors = [[mean - low for mean, low, _ in found.values()], [high - mean for mean, _, high in found.values()]]
        axes.errorbar(shifted, means, errors, marker="osD^"[place % 4], ms=4, lw=1.2, capsize=2, label=domain)
    axes.axhline(0, color="0.5", lw=0.8)
    axes.set_xscale("log")
    axes.set_xticks(IMAGES, [f"{images:,}" for images in IMAGES])
    axes.minorticks_off()
    axes.set_xlabel("training images", fontsize=8)
    axes.set_ylabel("gain over the better of head, and head and norms\n(points of top-1)", fontsize=8)
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(fontsize=8, frameon=False)
    return figure
