"""Compute the differences between the outputs of an exported file and the network's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attn_surgeon.errors import ExportError, option

Array = NDArray[Any]


@dataclass(frozen=True)
class OutputDifference:
    """The difference between actual and expected outputs at one input size.

    Args:
        size: the input size, as N×H×W.
        absolute: the largest absolute difference.
        relative: the largest difference divided by the largest expected value of the same output.
        agreement: the fraction of images (or pixels) with the same top-1 class; None without classes.
        silent: whether every expected value is zero, as with a zero-initialised head, so that nothing is compared.
        objects: for a network that returns objects, what differs between those of the two.
    """

    size: str
    absolute: float
    relative: float
    agreement: float | None
    silent: bool = False
    objects: str = ""

    def within(self, tolerance: float) -> bool:
        """Return whether the relative difference is within a tolerance; NaN is not."""
        return self.relative <= tolerance


@dataclass(frozen=True)
class Parity:
    """The comparison of a file with PyTorch or with another export, at several input sizes."""

    against: str
    tolerance: float
    differences: tuple[OutputDifference, ...]

    @property
    def passed(self) -> bool:
        """Whether every size is within the tolerance."""
        return all(difference.within(self.tolerance) for difference in self.differences)

    @property
    def silent(self) -> bool:
        """Whether there was nothing to compare at any size."""
        return all(difference.silent for difference in self.differences)

    @property
    def worst(self) -> OutputDifference:
        """The size with the largest relative difference; NaN counts as the largest."""
        return max(self.differences, key=lambda item: float("inf") if np.isnan(item.relative) else item.relative)

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as JSON values."""
        return {
            "against": self.against,
            "tolerance": self.tolerance,
            "passed": self.passed,
            "sizes": [asdict(difference) for difference in self.differences],
        }


class ParityError(ExportError):
    """Report a file whose outputs differ from the network's, with a possible explanation."""

    def __init__(self, parity: Parity, name: str, explanation: str = "") -> None:
        self.parity = parity
        worst = parity.worst
        objects = f" ({worst.objects})" if worst.objects else ""
        what = (
            f"the export does not agree with {parity.against}: "
            f"relative difference {worst.relative:.2g} at {worst.size}{objects}, allowed is {parity.tolerance:g}"
        )
        hints = (f"nothing was written; a larger {option('tolerance')} allows more", explanation)
        super().__init__(what, name, "; ".join(hint for hint in hints if hint))


def difference(
    size: str, actual: Sequence[Array], expected: Sequence[Array], classes: int | None = 0
) -> OutputDifference:
    """Compute the difference between actual and expected outputs; it is infinite where shapes differ.

    `classes` is the index of the output with the logits.
    """
    pairs = list(zip(actual, expected, strict=True))
    if any(output.shape != reference.shape for output, reference in pairs):
        return OutputDifference(size, float("inf"), float("inf"), None)
    distances = [_distance(output, reference) for output, reference in pairs]
    absolute, relative = (float(np.max(values)) for values in zip(*distances, strict=True))
    silent = not any(reference.any() for _, reference in pairs)
    agreement = None if classes is None else _agreement(*pairs[classes])
    return OutputDifference(size, absolute, relative, agreement, silent)


def _distance(actual: Array, expected: Array) -> tuple[float, float]:
    """Compute the largest difference, absolute and relative; NaN equals NaN, and infinity equals itself."""
    if not actual.size:
        return 0.0, 0.0
    actual, expected = actual.astype(np.float64), expected.astype(np.float64)
    same = (actual == expected) | (np.isnan(actual) & np.isnan(expected))
    with np.errstate(invalid="ignore"):
        largest = float(np.where(same, 0.0, np.abs(actual - expected)).max())
    finite = expected[np.isfinite(expected)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    return largest, largest / scale if scale else largest


def _agreement(actual: Array, expected: Array) -> float | None:
    if actual.ndim < 2 or actual.shape[1] < 2 or not actual.size:
        return None
    return float((actual.argmax(1) == expected.argmax(1)).mean())
