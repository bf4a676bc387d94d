"""The picture of a comparison shows its numbers, and no text overlaps another."""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from attn_surgeon.control.arms import ARMS, ArmResult
from attn_surgeon.control.chart import MOST_GRAFTS, comparison_png, draw_comparison
from attn_surgeon.control.comparison import Comparison, GraftEffect, compare_metrics
from attn_surgeon.control.metrics import Values

LONG = "metrics/mean average precision of small objects (B)"


def comparison(grafts: int, seeds: int, *names: str, place: str = "after layer{}") -> Comparison:
    draw = random.Random(0)
    metrics: Values = {name: (draw.gauss(0.3, 0.01),) for name in names}
    results = [
        ArmResult(arm, seed, {name: (draw.gauss(0.7, 0.01),) for name in names})
        for seed in range(seeds)
        for arm in ARMS
    ]
    effects = tuple(
        GraftEffect(
            place.format(number), 10**number % 997, None, {name: draw.gauss(0.01, 0.01) for name in names}, True
        )
        for number in range(grafts)
    )
    smaller = [name for name in names if "loss" in name]
    return Comparison("x", tuple(range(seeds)), compare_metrics(metrics, results, smaller), effects, (5.25, 5.0))


def test_it_shows_the_numbers() -> None:
    shown = comparison(3, 4, "mAP", "loss")
    figure = draw_comparison(shown)
    grid: Any = [figure.axes[row * 3 : row * 3 + 3] for row in range(3)]
    for column, (name, metric) in enumerate(shown.metrics.items(), 1):
        control, grafts = (line.get_xdata().tolist() for line in grid[0][column].lines)
        assert (control, grafts) == (list(metric.control), list(metric.grafts))
        assert grid[0][column].get_title() == f"{name}\n{metric.before:.4g} before training"
        assert metric.interval is not None
        ends, point = (list(line.get_xdata()) for line in grid[1][column].lines[:2])
        assert (ends, point) == ([metric.interval.low, metric.interval.high], [metric.difference])
        widths = [bar.get_width() for bar in grid[2][column].patches]
        assert widths == [item.bypass_costs[name] for item in shown.grafts]
        assert grid[2][column].get_xlabel() == ("lost if bypassed" if name == "mAP" else "gained if bypassed")
    assert [bar.get_width() for bar in grid[2][0].patches] == [item.parameters for item in shown.grafts]
    assert [label.get_text() for label in grid[2][0].get_yticklabels()] == [item.place for item in shown.grafts]
    assert "latency: 5.25 ms, without grafts 5 ms" in figure.get_suptitle()


def test_of_too_many_grafts_those_with_the_largest_effects_are_shown() -> None:
    shown = comparison(MOST_GRAFTS + 40, 1, "mAP")
    figure = draw_comparison(shown)
    sizes = sorted((abs(item.bypass_costs["mAP"]) for item in shown.grafts), reverse=True)
    axes: Any = figure.axes[5]
    drawn = [bar.get_width() for bar in axes.patches]
    assert sorted(map(abs, drawn), reverse=True) == sizes[:MOST_GRAFTS]
    assert drawn == [item.bypass_costs["mAP"] for item in shown.grafts if item.bypass_costs["mAP"] in drawn]
    assert "shown: the 60 with the largest effects" in " ".join(figure.get_suptitle().split())


@pytest.mark.parametrize(
    "shown",
    [
        comparison(1, 1, "score"),
        comparison(0, 2, "top1"),
        comparison(
            30, 10, "mAP", LONG, "a", "b", f"{LONG} loss", "c", place="after backbone.stages.{}.attention.projection"
        ),
        comparison(2, 3, "$x^2", "日本"),
    ],
    ids=["small", "no grafts", "large", "characters"],
)
def test_no_text_overlaps_another_or_is_cut(shown: Comparison) -> None:
    assert comparison_png(shown).startswith(b"\x89PNG")
    figure = draw_comparison(shown)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph", category=UserWarning)
        canvas.draw()
    renderer = canvas.get_renderer()
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in shown_texts(figure)]
    assert len(boxes) > 5
    width, height = figure.get_size_inches() * figure.dpi
    for name, box in boxes:
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) >= 0, name
    for (first, one), (second, other) in combinations(boxes, 2):
        assert not one.overlaps(other), f"{first} overlaps {second}"


def shown_texts(figure: Figure) -> Iterator[Text]:
    """Yield the texts of a figure; a tick outside of its axis is not drawn."""
    yield from figure.texts
    for axes in figure.axes:
        yield from [*axes.texts, *(axes.legend_.get_texts() if axes.legend_ else ())]
        if axes.axison:
            low, high = axes.get_xlim()
            yield from (axes.title, axes.xaxis.label, *(label for label in axes.get_yticklabels() if label.get_text()))
            yield from (label for label in axes.get_xticklabels() if low <= label.get_position()[0] <= high)
