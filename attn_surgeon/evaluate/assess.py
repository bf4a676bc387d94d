"""Evaluate one network, or two on the same images, clean and corrupted, and give all of it as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from torch import nn

from attn_surgeon.data import ImageData
from attn_surgeon.evaluate.accuracy import Evaluation
from attn_surgeon.evaluate.answers import Answers, Reading, calibration_error, class_scores, confusions, examine
from attn_surgeon.evaluate.compare import HOW, Rivals, compare, paired
from attn_surgeon.evaluate.robust import Trial, gain, means, robustness
from attn_surgeon.evaluate.views import image_names
from attn_surgeon.progress import Progress

SAME = "Both networks give the same logits to the last bit on these images, so there is nothing to tell them apart."


@dataclass(frozen=True)
class Assessment:
    """Hold what came of an evaluation: a document of plain values, and each network's answers."""

    document: dict[str, Any]
    answers: list[Answers]


def assess(
    models: Sequence[nn.Module],
    data: ImageData,
    reading: Reading,
    *,
    rivals: Rivals | None = None,
    robust: int | None = None,
    progress: Progress | None = None,
) -> Assessment:
    """Evaluate one network, or the two that `rivals` names; `robust` is the seed of corruptions. `data` holds Views."""
    scored = examine(models, data, reading, progress)
    answers = [own for _, own in scored]
    first, *rest = [_scores(evaluation, own, data.class_names) for evaluation, own in scored]
    document = dict(first)
    if rivals is not None:
        images = image_names(data, reading.limit)
        document["compare"] = rest[0] | _comparison(answers, data.class_names, rivals, images)
        if first["logits_sha256"] == rest[0]["logits_sha256"]:
            document["compare"]["verdict"] = SAME
    if robust is not None:
        trials = robustness(models, data, reading, seed=robust, progress=progress)
        document["robust"] = {"seed": robust, **_robust(trials, answers, rivals)}
    return Assessment(document, answers)


def _scores(evaluation: Evaluation, answers: Answers, class_names: Sequence[str]) -> dict[str, Any]:
    return {
        **asdict(evaluation),
        "ece": calibration_error(answers),
        "classes": [asdict(score) for score in class_scores(answers, class_names)],
        "confused": [asdict(pair) for pair in confusions(answers, class_names)],
    }


def _comparison(
    answers: Sequence[Answers], class_names: Sequence[str], rivals: Rivals, images: Sequence[str | int]
) -> dict[str, Any]:
    found = compare(answers[0], answers[1], class_names, rivals)
    return {
        "difference": {**asdict(found.difference), "how": HOW},
        "mcnemar": {"only_first": len(found.only_first), "only_second": len(found.only_second), "p": found.p},
        "class_differences": [{"name": name, **asdict(own)} for name, own in found.classes.items()],
        "only_first": [images[place] for place in found.only_first],
        "only_second": [images[place] for place in found.only_second],
        "verdict": found.verdict,
    }


def _robust(trials: Sequence[Trial], clean: Sequence[Answers], rivals: Rivals | None) -> dict[str, Any]:
    document: dict[str, Any] = {"trials": [_trial(trial) for trial in trials], "means": means(trials)}
    if rivals is not None:
        document |= {
            "compare_means": means(trials, 1),
            "gain": asdict(gain(trials, tuple(own.right for own in clean), rivals)),
        }
    return document


def _trial(trial: Trial) -> dict[str, Any]:
    document = {"kind": trial.kind, "strength": trial.strength, "level": trial.level, "top1": trial.shares[0]}
    if len(trial.right) == 1:
        return document
    found = paired(*trial.right)
    counts = {"only_first": found.only_first, "only_second": found.only_second}
    return document | {"compare_top1": found.second, "difference": asdict(found.difference), **counts}
