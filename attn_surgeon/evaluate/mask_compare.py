"""Compare two networks that label every pixel of the same images."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from attn_surgeon.data.parts import Parts
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.compare import Rivals
from attn_surgeon.evaluate.statistics import share_interval, signed_ranks, verdict
from attn_surgeon.tasks.base import Score

SAME = "Both networks are right on the same share of each image, to the same loss: nothing tells them apart."
HOW = "Student's t over images, each with its own mIoU"


def compare(first: Score, second: Score, rivals: Rivals) -> dict[str, Any]:
    """Give the difference in mIoU with its interval, the signed-rank test, and what both allow one to say."""
    differences = [ours - theirs for ours, theirs in zip(first.outcomes, second.outcomes, strict=True)]
    interval = share_interval(differences)
    same = first.outcomes == second.outcomes and first.loss == second.loss
    return {
        "difference": {**asdict(interval), "how": HOW},
        "wilcoxon": signed_ranks(differences),
        "verdict": SAME if same else verdict(interval, f"{rivals.cause} on these images", rivals.scope),
    }


def require_same_masks(first: Parts, second: Parts) -> None:
    """Refuse two networks that tell other classes apart."""
    own, other = first.val.class_names, second.val.class_names
    if own != other:
        what = f"the networks tell {len(own)} and {len(other)} classes apart, or name them differently"
        raise DataError(what, "--compare", "compare networks that were trained on the same classes")
