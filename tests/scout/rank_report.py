"""Rank correlations between scores and the gains that were reached, with bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from .ranks import HEAD_ONLY

Values = npt.NDArray[np.float64]
DRAWS = 2000
GAINS = {"loss": -1.0, "top1": 1.0}  # and the sign by which a larger value is better


def gains(lines: Mapping[str, Mapping[str, Any]], names: Sequence[str], metric: str) -> Values:
    """Return the gains over the head alone, (seeds, candidates), of the seeds of which the file has all lines."""
    seeds = [key.removeprefix("scores ") for key in lines if key.startswith("scores ")]
    whole = [seed for seed in seeds if all(f"{name} {seed}" in lines for name in [HEAD_ONLY, *names])]
    rows = [
        [GAINS[metric] * (lines[f"{name} {seed}"][metric] - lines[f"{HEAD_ONLY} {seed}"][metric]) for name in names]
        for seed in whole
    ]
    return np.array(rows, dtype=np.float64).reshape(len(whole), len(names))


def correlation(scores: Values, reached: Values, seed: int = 0) -> tuple[float, float, float]:
    """Return Spearman's correlation of scores (N,) with mean gains, and its 95 % bootstrap interval over candidates.

    >>> found = correlation(np.arange(12.0), np.arange(12.0)[None])
    >>> round(found[0], 6), round(found[2], 6)
    (1.0, 1.0)
    """
    mean = reached.mean(0)
    drawn = np.random.default_rng(seed).integers(0, len(mean), (DRAWS, len(mean)))
    low, high = np.quantile(_spearman(scores[drawn], mean[drawn]), [0.025, 0.975])
    return float(_spearman(scores, mean)), float(low), float(high)


def _spearman(first: Values, second: Values) -> Values:
    """Return the correlation (...) of the ranks of values (..., N); 0 where all are equal."""
    ranks = [rankdata(values, axis=-1) for values in (first, second)]
    apart = [values - values.mean(-1, keepdims=True) for values in ranks]
    sizes = np.sqrt(np.square(apart[0]).sum(-1) * np.square(apart[1]).sum(-1))
    return np.asarray((apart[0] * apart[1]).sum(-1) / np.where(sizes > 0, sizes, 1.0))


def ranked(lines: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, Values]:
    """Return the scores (N,) of candidates by definition, those of the first seed's batches, and the baselines."""
    first, ahead = lines["scores 0"], lines.get("look-ahead 0", {"scores": {}})
    scores = {**first["scores"], **ahead["scores"]}
    found = {score: np.array([of[name][0] for name in names]) for score, of in scores.items()}
    found["baseline: parameter count"] = np.array([first["parameters"][name] for name in names], dtype=np.float64)
    found["baseline: last first"] = np.array([first["depth"][name] for name in names], dtype=np.float64)
    found["baseline: random"] = np.random.default_rng(0).permutation(len(names)).astype(np.float64)
    return found


def report(lines: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the report of a study as Markdown."""
    if "scores 0" not in lines:
        return "the file has no scores"
    names = [name for name in lines["scores 0"]["depth"] if f"{name} 0" in lines]
    if HEAD_ONLY + " 0" not in lines or len(names) < 5:
        return f"{len(names)} candidates are trained so far"
    text = [f"{len(names)} candidates", ""]
    for metric in GAINS:
        reached = gains(lines, names, metric)
        text += [
            f"gain in {metric} over the head alone, {len(reached)} seeds: {reached.mean():+.4f} on average, from "
            f"{reached.mean(0).min():+.4f} to {reached.mean(0).max():+.4f}",
            *_repeatability(reached),
            "",
            "| score | rank correlation | 95 % interval |",
            "| --- | ---: | ---: |",
        ]
        for score, values in ranked(lines, names).items():
            found, low, high = correlation(values, reached)
            text.append(f"| {score} | {found:+.2f} | {low:+.2f} … {high:+.2f} |")
        text.append("")
    return "\n".join([*text, *_again(lines, names)])


def _repeatability(reached: Values) -> list[str]:
    """Return the mean rank correlation of the gains between two seeds: no score can predict one seed better."""
    pairs = [_spearman(reached[i], reached[j]) for i in range(len(reached)) for j in range(i)]
    return [f"rank correlation of the gains between two seeds: {np.mean(pairs):+.2f}"] if pairs else []


def _again(lines: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> list[str]:
    """Return how each score ranks the candidates again on other batches."""
    text = ["| score | rank correlation with itself on other batches |", "| --- | ---: |"]
    for kind in ("scores ", "look-ahead "):
        drawn = [line["scores"] for key, line in lines.items() if key.startswith(kind)]
        for score in drawn[0] if len(drawn) > 1 else ():
            rows = [np.array([of[score][name][0] for name in names]) for of in drawn]
            pairs = [_spearman(rows[i], rows[j]) for i in range(len(rows)) for j in range(i)]
            text.append(f"| {score} | {np.mean(pairs):+.2f} |")
    return text
