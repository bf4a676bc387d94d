"""Gains by domain and number of images: a table, and the picture of the README."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .differences import difference, whole_seeds, written
from .domains import DOMAINS
from .worth import IMAGES, WORTH_ARMS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEAD, NORMS, SET, BOTH = WORTH_ARMS
Lines = Mapping[str, Mapping[str, Any]]


def points(lines: Lines, domain: str, images: int) -> dict[str, tuple[float, float, float]]:
    """Return what the set gains over the better control, and what it gains beside the norms; empty where not run."""
    names = {arm: f"{domain}, {images} {arm}" for arm in WORTH_ARMS}
    seeds = whole_seeds(lines, list(names.values()))
    if not seeds:
        return {}
    best = max((HEAD, NORMS), key=lambda arm: sum(lines[f"{names[arm]} {seed}"]["metric"] for seed in seeds))
    return {
        "the set over the better of head and norms": difference(lines, names[SET], names[best], seeds),
        "the set beside the norms over the norms": difference(lines, names[BOTH], names[NORMS], seeds),
    }


def in_trial(lines: Lines, domain: str, images: int) -> str:
    """Return which of head, head and norms, head and set had the least loss in scout's trial."""
    trials = [own["trial"] for key, own in lines.items() if key.startswith(f"{domain}, {images} scouted")]
    losses = trials[0]["losses"] if trials and trials[0] else {}
    return min(losses, key=losses.__getitem__) if losses else ""


def worth_report(lines: Lines) -> str:
    """Return the table as Markdown."""
    text = [
        f"| images | domain | {' | '.join(WORTH_ARMS)} | set − better control | set and norms − norms | trial |",
        f"| --- | --- |{' ---: |' * (len(WORTH_ARMS) + 2)} --- |",
    ]
    for images in IMAGES:
        for domain in DOMAINS:
            if found := points(lines, domain, images):
                names = [f"{domain}, {images} {arm}" for arm in WORTH_ARMS]
                seeds = whole_seeds(lines, names)
                means = [sum(lines[f"{name} {seed}"]["metric"] for seed in seeds) / len(seeds) for name in names]
                best = in_trial(lines, domain, images)
                cells = [*(f"{100 * mean:.1f}" for mean in means), *map(written, found.values()), best]
                text.append(f"| {images} | {domain} ({len(seeds)} seeds) | {' | '.join(cells)} |")
    return "\n".join(text)


def draw_worth(lines: Lines) -> Figure:
    """Return the figure: gains in points with their intervals against the number of images, a line for each domain."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)
    for place, domain in enumerate(DOMAINS):
        found = {images: points(lines, domain, images) for images in IMAGES}
        for axes, title in zip(panels, next(filter(None, found.values()), ()), strict=False):
            _draw(axes, domain, place, {images: own[title] for images, own in found.items() if own})
            axes.set_title(title, fontsize=9)
    for axes in panels:
        axes.axhline(0, color="0.5", lw=0.8)
        axes.set_xscale("log")
        axes.set_xticks(IMAGES, [f"{images:,}" for images in IMAGES])
        axes.minorticks_off()
        axes.set_xlabel("training images", fontsize=8)
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("points of top-1", fontsize=8)
    panels[1].legend(fontsize=8, frameon=False)
    return figure


def _draw(axes: Axes, domain: str, place: int, found: Mapping[int, tuple[float, float, float]]) -> None:
    shifted = [images * 1.08 ** (place - 1.5) for images in found]
    means = [own[0] for own in found.values()]
    errors = [[mean - low for mean, low, _ in found.values()], [high - mean for mean, _, high in found.values()]]
    axes.errorbar(shifted, means, errors, marker="osD^"[place % 4], ms=4, lw=1.2, capsize=2, label=domain)
