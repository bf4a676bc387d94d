"""The tables of the simulation, as a Markdown document."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np

from attn_surgeon.tasks.statistics import image_bounds

from .before import conditional, student
from .draws import SETTINGS, Setting, answers
from .masks import GRADED, SPREADS, miou_differences, scores_of_runs, true_miou_difference
from .rates import METHODS, Rates, rates, rates_of_runs

RUNS, IMAGES, EFFECTS = (2, 3, 5), (50, 100, 200, 1000), (0.02, 0.05)
SHARES = ((0.02, 0.02), (0.05, 0.02), (0.1, 0.05), (0.1, 0.01), (0.2, 0.01), (0.05, 0.0))
HALF_A_POINT = Setting("runs differ by half a point", noise=(0.5, 0.5))
INTRODUCTION = """# How often the intervals are wrong

Written by `python -m tests.statistics`, which takes a few minutes. {repeats:,} repeats a cell: a rate of 5 % is known
to ± {error:.1f} points (two standard errors). `--quick` prints the same with fewer. *Before* is version 0.2.0.

## Several training runs of each network, without an effect

Claims of a gain or a loss in per cent, **before → after**, which should be 5 at most. *Before* is Student's t over the
differences of the seeds, *after* the interval over runs and images
([code](../../attn_surgeon/evaluate/paired_runs.py)).
Networks have an accuracy of 90 % unless stated otherwise. The standard deviation of the runs of a network is given in
points. *No effect* means no difference on average over runs and over images like these.
"""
OTHER_SCORES = """
The same for real-valued scores of an image, such as overlaps of masks; few images differ, some by much:

"""
POWER = """
## With an effect

Claims in per cent where grafts add 2 or 5 points to an accuracy of 90 %, **before → after**, and in brackets how often
the interval *after* contains the effect. Where *before* has more, it makes more claims without an effect, too.
"""
ONE_RUN = """
## One run of each, right and wrong answers

How often the interval contains the true difference in accuracy, in per cent, **before → after**, by the fractions of
images that only the first and only the second network gets right. *Before* is the interval of McNemar's exact test,
which takes the number of images that differ as given; *after* is Bonett and Price's.
"""
CAUSE = """
Such an interval is about two trained networks, not about training with and without grafts: with {images:,} images, no
effect of the grafts at all, and runs that differ by half a point, it excludes zero in {claims:.0f} % of cases. Version
0.2.0 called each of these a gain or a loss *from the grafts*; now the sentence states which of the two networks scores
higher, and that one run of each does not show why.
"""
GRADED_TEXT = """
## One run of each, other scores

How often the interval contains the true mean difference between two scores of an image, in per cent, **before →
after**: Student's t, and the same with two images more. In the last row is the mIoU over all pixels, by the jackknife,
which had no interval before.
"""


def document(repeats: int) -> str:
    """Return the whole document."""
    error = 200 * (0.05 * 0.95 / repeats) ** 0.5
    parts = [INTRODUCTION.format(repeats=repeats, error=error), _false_claims(repeats)]
    parts += [OTHER_SCORES + _other_scores(repeats)]
    parts += [POWER, _power(max(repeats // 2, 1)), ONE_RUN, _one_run(repeats), _cause(max(repeats // 10, 1))]
    return "\n".join([*parts, GRADED_TEXT, _graded(repeats)])


def _false_claims(repeats: int) -> str:
    rows, claims = [], dict.fromkeys(IMAGES, 0.0)
    for runs, setting in product(RUNS, SETTINGS):
        cells = []
        for images in IMAGES:
            found = _both(setting, runs, images, repeats)
            cells.append(f"{100 * found['before'].claims:.1f} → {100 * found['after'].claims:.1f}")
            claims[images] = max(claims[images], found["after"].claims)
        rows.append([str(runs), setting.name, *cells])
    worst = ", ".join(f"{100 * most:.1f} % with {images:,} images" for images, most in claims.items())
    return f"{_table(['runs of each', '', *_titles(IMAGES)], rows)}\nThe most of any cell *after*: {worst}.\n"


def _other_scores(repeats: int) -> str:
    generator, counts, rows = np.random.default_rng(0), (20, 50, 200), []
    for runs, (name, spread) in product(RUNS, SPREADS.items()):
        drawn = [scores_of_runs(generator, spread, repeats, runs, images) for images in counts]
        cells = [[rates([method(*own)], 0.0).claims for method in METHODS.values()] for own in drawn]
        rows.append([str(runs), name, *(f"{100 * old:.1f} → {100 * new:.1f}" for old, new in cells)])
    return _table(["runs of each", "", *_titles(counts)], rows)


def _power(repeats: int) -> str:
    rows = []
    for runs, setting, effect in product(RUNS, (HALF_A_POINT, SETTINGS[2]), EFFECTS):
        cells = []
        for images in IMAGES[1:]:
            found = _both(setting, runs, images, repeats, effect)
            claims = f"{100 * found['before'].claims:.0f} → {100 * found['after'].claims:.0f}"
            cells.append(f"{claims} ({100 * found['after'].cover:.0f})")
        rows.append([str(runs), setting.name, f"+{100 * effect:.0f}", *cells])
    return _table(["runs of each", "", "effect", *_titles(IMAGES[1:])], rows)


def _both(setting: Setting, runs: int, images: int, repeats: int, effect: float = 0.0) -> dict[str, Rates]:
    return {name: rates_of_runs(method, setting, runs, images, repeats, effect) for name, method in METHODS.items()}


def _one_run(repeats: int) -> str:
    generator, rows = np.random.default_rng(0), []
    for first, second in SHARES:
        cells = []
        for images in IMAGES:
            drawn = generator.random((repeats, images))
            differences = np.where(drawn < first, 1.0, np.where(drawn < first + second, -1.0, 0.0))
            found = [rates([method(differences)], first - second) for method in (conditional, image_bounds)]
            cells.append(_arrow(found))
        rows.append([f"{100 * first:.0f} and {100 * second:.0f} %", *cells])
    return _table(["only the first, only the second", *_titles(IMAGES)], rows)


def _cause(repeats: int, images: int = 10_000) -> str:
    drawn = answers(HALF_A_POINT, 1, images, repeats)
    found = rates((conditional((first - second)[:, 0]) for first, second in drawn), 0.0)
    return CAUSE.format(images=images, claims=100 * found.claims)


def _graded(repeats: int) -> str:
    generator, counts = np.random.default_rng(0), (10, 20, 50, 200)
    rows = []
    for name, (draw, truth) in GRADED.items():
        drawn = [draw(generator, (repeats, images)) for images in counts]
        rows.append(
            [name, *(_arrow([rates([method(own)], truth) for method in (student, image_bounds)]) for own in drawn)]
        )
    truth = true_miou_difference(generator)
    masks = [rates([image_bounds(miou_differences(generator, repeats, images))], truth) for images in counts]
    rows.append(["mIoU of four classes, one of them in one image of ten", *(f"{100 * own.cover:.1f}" for own in masks)])
    return _table(["", *_titles(counts)], rows)


def _titles(counts: Sequence[int]) -> list[str]:
    return [f"{images:,} images" for images in counts]


def _arrow(found: Sequence[Rates]) -> str:
    return " → ".join(f"{100 * own.cover:.1f}" for own in found)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
