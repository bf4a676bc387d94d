"""Draw the bar chart of a profile: the latency of each network in each runtime and at each batch size."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from attn_surgeon.optional_dependencies import require_extra

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BAR_COLOURS = ("#d6006c", "#8b949e")
DPI = 120


def to_png(document: Mapping[str, Any]) -> bytes:
    """Return the chart of a profile as a PNG; raise SurgeonError where matplotlib is not installed."""
    require_extra("draw", "matplotlib", what="a picture")
    target = io.BytesIO()
    with warnings.catch_warnings():  # characters that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        draw_latencies(document).savefig(target, format="png", dpi=DPI)
    return target.getvalue()


def draw_latencies(document: Mapping[str, Any]) -> Figure:
    """Return a figure of the median latencies of a profile, with their quartiles as error bars."""
    from matplotlib.figure import Figure

    rows = document["runs"]
    groups = list(dict.fromkeys((row["runtime"], row["batch"]) for row in rows))
    names = [network["name"] for network in document["networks"]]
    figure = Figure(figsize=(2.5 + 1.5 * len(groups), 4), layout="constrained")
    axes = figure.add_subplot(ylabel="ms for one batch")
    width = 0.8 / len(names)
    for number, name in enumerate(names):
        runs = [row for row in rows if row["network"] == name]
        offset = (number - (len(names) - 1) / 2) * width
        x = [groups.index((row["runtime"], row["batch"])) + offset for row in runs]
        heights, errors = [row["median_ms"] for row in runs], list(zip(*map(_error_bar, runs), strict=True))
        bars = axes.bar(x, heights, width, yerr=errors, color=BAR_COLOURS[number], label=name, capsize=3)
        axes.bar_label(bars, fmt="%.3g", padding=2, fontsize=8)
    axes.set_xticks(range(len(groups)), [f"{runtime}\nbatch {batch}" for runtime, batch in groups])
    for text in axes.legend(fontsize="small").get_texts():  # a dollar sign in a file name would start mathtext
        text.set_parse_math(False)
    axes.set_title(document["device"], fontsize="small")
    return figure


def _error_bar(row: Mapping[str, Any]) -> tuple[float, float]:
    lower, upper = row["quartiles_ms"]
    return row["median_ms"] - lower, upper - row["median_ms"]
