"""Draw a scouting: scores along the depth of the network, and against what the candidates cost."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from attn_surgeon.errors import excerpt
from attn_surgeon.scouting.result import ScoutedCandidate, Scouting

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 120
_LONGEST_NAME = 40


def scouting_png(scouting: Scouting) -> bytes:
    """Return the picture of a scouting as a PNG."""
    target = io.BytesIO()
    draw_scouting(scouting).savefig(target, format="png", dpi=_DPI)
    return target.getvalue()


def draw_scouting(scouting: Scouting) -> Figure:
    """Return a figure: the score of each candidate with its standard error, by site and by parameters.

    Chosen candidates are filled.
    """
    from matplotlib.figure import Figure

    places = list(dict.fromkeys(item.candidate.place for item in scouting.candidates))
    figure = Figure(figsize=(4 + 0.28 * len(places) + 4, 4.5), layout="constrained")
    by_site, by_cost = figure.subplots(1, 2, width_ratios=[max(1.0, 0.07 * len(places)), 1.0], sharey=True)
    for number, block in enumerate(dict.fromkeys(item.candidate.block for item in scouting.candidates)):
        own = [item for item in scouting.candidates if item.candidate.block == block]
        _draw(by_site, own, [places.index(item.candidate.place) for item in own], scouting.score, number)
        _draw(by_cost, own, [max(1, item.cost.parameters) for item in own], scouting.score, number)
    by_site.set_xticks(range(len(places)), [excerpt(place, _LONGEST_NAME) for place in places], rotation=90, fontsize=7)
    by_site.set_ylabel(f"{scouting.score} ± standard error", fontsize=8)
    by_cost.set_xscale("log")
    by_cost.set_xlabel("parameters", fontsize=8)
    by_cost.legend(fontsize=8, frameon=False)
    figure.suptitle(f"{len(scouting.chosen)} chosen (filled) of {len(scouting.candidates)} candidates", fontsize=9)
    return figure


def _draw(axes: Axes, items: list[ScoutedCandidate], xs: list[int], score: str, number: int) -> None:
    colour = f"C{number}"
    scores = [item.scores[score] for item in items]
    axes.errorbar(
        xs, [each.value for each in scores], [each.error for each in scores], fmt="none", ecolor=colour, lw=0.8
    )
    axes.scatter(
        xs,
        [each.value for each in scores],
        s=22,
        marker="osD^vP*Xh<"[number % 10],
        edgecolors=colour,
        facecolors=[colour if item.round else "none" for item in items],
        label=items[0].candidate.block,
    )
    axes.tick_params(labelsize=7)
    axes.spines[["top", "right"]].set_visible(False)
