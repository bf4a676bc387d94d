"""Draw a comparison: both networks by seed, the difference with its interval, and what each graft costs and does."""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attn_surgeon.control.comparison import Comparison, GraftEffect, MetricComparison
from attn_surgeon.errors import excerpt
from attn_surgeon.tables import short_count

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_GRAFTS = 60  # in the picture: those with the largest effects
_DPI = 120
_COLOURS = {"with grafts": "#1f6feb", "control": "#8b949e", "worse with it": "#d1242f", "line": "#d0d7de"}
_LONGEST_NAME = 60  # characters of a graft's name
_ROW = 0.2  # inches for a seed or a graft
_PARAMETERS = 1.1  # inches for the column of parameters
_NARROWEST, _WIDEST = 1.6, 3.4  # inches for the column of a metric
_CHARACTERS = 14  # in an inch


def comparison_png(comparison: Comparison) -> bytes:
    """Return the picture of a comparison as a PNG."""
    target = io.BytesIO()
    with warnings.catch_warnings():  # characters that the font lacks are drawn as boxes
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        draw_comparison(comparison).savefig(target, format="png", dpi=_DPI)
    return target.getvalue()


def draw_comparison(comparison: Comparison) -> Figure:
    """Return a figure with a column for each metric: values by seed, their difference, the effects of the grafts."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    metrics, grafts = comparison.metrics, _shown(comparison.grafts)
    width = min(_WIDEST, max(_NARROWEST, 6.4 / len(metrics)))
    titles = [textwrap.fill(name, int(_CHARACTERS * width) - 2, max_lines=3) for name in metrics]
    labels = max([len("before training"), *(min(_LONGEST_NAME, len(item.place)) for item in grafts)]) / _CHARACTERS
    rows = [_ROW * len(comparison.seeds) + 0.1, 0.25, *([_ROW * len(grafts) + 0.1] if grafts else [])]
    lines = max(title.count("\n") + 1 for title in titles)
    size = (labels + 1 + _PARAMETERS + width * len(metrics), sum(rows) + 0.6 * len(rows) + 0.5 + 0.16 * lines)
    figure = Figure(figsize=size, layout=ConstrainedLayoutEngine(w_pad=0.08))
    grid: Any = figure.subplots(
        len(rows),
        1 + len(metrics),
        squeeze=False,
        gridspec_kw={"height_ratios": rows, "width_ratios": [_PARAMETERS, *[width] * len(metrics)]},
    )
    figure.suptitle(_summary(comparison, grafts, int(_CHARACTERS * size[0])), x=0.01, ha="left", fontsize=9)
    for column, (title, metric) in enumerate(zip(titles, metrics.values(), strict=True), 1):
        _draw_values(grid[0][column], comparison.seeds if column == 1 else [""] * len(comparison.seeds), metric)
        grid[0][column].set_title(f"{title}\n{metric.before:.4g} before training", fontsize=8, parse_math=False)
        _draw_difference(grid[1][column], metric)
    _draw_legend(grid[0][0], grid[0][1])
    grid[1][0].set_axis_off()
    if grafts:
        _draw_grafts(grid[2], grafts, metrics)
    return figure


def _shown(grafts: Sequence[GraftEffect]) -> list[GraftEffect]:
    """Return the grafts that were bypassed; of too many those with the largest effects, in the network's order."""
    measured = [item for item in grafts if item.bypass_costs]
    largest = sorted(measured, key=lambda item: -max(map(abs, item.bypass_costs.values())))[:MOST_GRAFTS]
    return [item for item in measured if item in largest]


def _summary(comparison: Comparison, shown: Sequence[GraftEffect], width: int) -> str:
    every = comparison.grafts
    parts = [
        f"training runs of each network: {len(comparison.seeds)}",
        f"grafts: {len(every)}, with {sum(item.parameters for item in every):,} parameters",
    ]
    if 0 < len(shown) < len(every):
        parts.append(f"shown: the {len(shown)} with the largest effects")
    if comparison.latency_ms is not None:
        parts.append("latency: {:.3g} ms, without grafts {:.3g} ms".format(*comparison.latency_ms))
    return textwrap.fill("; ".join(parts), width)


def _draw_values(axes: Axes, seeds: Sequence[object], metric: MetricComparison) -> None:
    """Draw the values of both networks, joined by seed."""
    rows = range(len(seeds))
    axes.hlines(rows, metric.control, metric.grafts, color=_COLOURS["line"], linewidth=2.5, zorder=1)
    for name, values in (("control", metric.control), ("with grafts", metric.grafts)):
        axes.plot(values, rows, "o", color=_COLOURS[name], markersize=5, label=name)
    _label_rows(axes, [f"seed {seed}" if seed != "" else "" for seed in seeds])
    _few_ticks(axes)


def _draw_difference(axes: Axes, metric: MetricComparison) -> None:
    """Draw the difference with its interval, where there is one with ends."""
    interval = metric.interval
    if interval is not None and math.isfinite(interval.low):
        axes.plot([interval.low, interval.high], [0, 0], "|-", color=_COLOURS["with grafts"], linewidth=1.5)
    axes.plot([metric.difference], [0], "o", color=_COLOURS["with grafts"], markersize=5)
    axes.axvline(0, color="black", linewidth=0.8, zorder=0)
    axes.set_xlabel("grafts − control" + "\n(smaller is better)" * metric.smaller_is_better, fontsize=8)
    _label_rows(axes, [""])
    _few_ticks(axes)


def _draw_legend(axes: Axes, values: Axes) -> None:
    axes.set_axis_off()
    handles, labels = values.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], loc="upper right", fontsize=8, frameon=False, borderaxespad=0)


def _draw_grafts(row: Sequence[Axes], grafts: Sequence[GraftEffect], metrics: Mapping[str, MetricComparison]) -> None:
    """Draw the parameters of each graft, and beside them how much of each metric is lost if it alone is bypassed."""
    names = [excerpt(item.place, _LONGEST_NAME) for item in grafts]
    bars = row[0].barh(range(len(grafts)), [item.parameters for item in grafts], color=_COLOURS["control"], height=0.7)
    row[0].bar_label(bars, [short_count(item.parameters) or "0" for item in grafts], padding=2, fontsize=7)
    row[0].margins(x=0.6)
    row[0].set_xticks([])
    row[0].spines[["top", "right", "bottom"]].set_visible(False)
    row[0].set_xlabel("parameters", fontsize=8)
    _label_rows(row[0], names)
    for axes, (name, metric) in zip(row[1:], metrics.items(), strict=True):
        costs = [item.bypass_costs.get(name, math.nan) for item in grafts]
        colours = [_COLOURS["with grafts" if cost >= 0 else "worse with it"] for cost in costs]
        axes.barh(range(len(grafts)), costs, color=colours, height=0.7)
        axes.axvline(0, color="black", linewidth=0.8)
        axes.set_xlabel(f"{metric.bypass_change} if bypassed", fontsize=8)
        _label_rows(axes, [""] * len(grafts))
        _few_ticks(axes)


def _label_rows(axes: Axes, names: Sequence[str]) -> None:
    """Label the rows of a panel, the first at the top."""
    axes.set_yticks(range(len(names)), names, fontsize=8, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)


def _few_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, ScalarFormatter

    axes.xaxis.set_major_locator(MaxNLocator(3, min_n_ticks=2))
    axes.xaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    axes.tick_params(axis="x", labelsize=7)
    axes.xaxis.get_offset_text().set_fontsize(7)
    axes.margins(x=0.08)
    axes.spines[["top", "right", "left"]].set_visible(False)
