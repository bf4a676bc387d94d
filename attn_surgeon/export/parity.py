"""Parity of a file with the network: the differences of its outputs, at every size that it is made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attn_surgeon.errors import ExportError

Array = NDArray[Any]


@dataclass(frozen=True)
class OutputDifference:
    """The difference between outputs and those expected, at one size of the images.

    Args:
        size: the images' size, as N×H×W.
        absolute: the largest difference.
        relative: the largest difference over the largest value of the same output.
        agreement: the share of images (or pixels) with the same top-1 class, None without classes.
        silent: whether every expected value is zero, as with a zero-initialised head, so that nothing is compared.
    """

    size: str
    absolute: float
    relative: float
    agreement: float | None
    silent: bool = False

    def within(self, tolerance: float) -> bool:
        """Return whether the relative difference is within a tolerance; NaN is not."""
        return self.relative <= tolerance


@dataclass(frozen=True)
class Parity:
    """The differences of one file from what it was compared with, by size."""

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
        """Return it as JSON values."""
        return {
            "against": self.against,
            "tolerance": self.tolerance,
            "passed": self.passed,
            "sizes": [asdict(difference) for difference in self.differences],
        }


class ParityError(ExportError):
    """Report a file whose outputs differ from the network's, and whether PyTorch itself explains that."""

    def __init__(self, parity: Parity, name: str, explanation: str = "") -> None:
        self.parity = parity
        worst = parity.worst
        what = (
            f"the export does not agree with {parity.against}: "
            f"relative difference {worst.relative:.2g} at {worst.size}, allowed is {parity.tolerance:g}"
        )
        hints = ("nothing was written; a larger tolerance allows more", explanation)
        super().__init__(what, name, "; ".join(hint for hint in hints if hint))


def difference(
    size: str, found: Sequence[Array], expected: Sequence[Array], classes: int | None = 0
) -> OutputDifference:
    """Compute the difference between outputs and those expected; it is infinite where a shape differs.

    `classes` is the index of the output with classes.
    """
    pairs = list(zip(found, expected, strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return OutputDifference(size, float("inf"), float("inf"), None)
    distances = [_distance(one, other) for one, other in pairs]
    absolute, relative = (float(np.max([distance[place] for distance in distances])) for place in (0, 1))
    silent = not any(other.any() for _, other in pairs)
    agreement = None if classes is None else _agreement(*pairs[classes])
    return OutputDifference(size, absolute, relative, agreement, silent)


def _distance(found: Array, expected: Array) -> tuple[float, float]:
    """Compute the largest difference, absolute and relative; NaN equals NaN and infinity itself."""
    if not found.size:
        return 0.0, 0.0
    one, other = found.astype(np.float64), expected.astype(np.float64)
    same = (one == other) | (np.isnan(one) & np.isnan(other))
    with np.errstate(invalid="ignore"):
        largest = float(np.where(same, 0.0, np.abs(one - other)).max())
    finite = other[np.isfinite(other)]
    scale = float(np.abs(finite).max()) if finite.size else 0.0
    return largest, largest / scale if scale else largest


def _agreement(found: Array, expected: Array) -> float | None:
    if found.ndim < 2 or found.shape[1] < 2 or not found.size:
        return None
    return float((found.argmax(1) == expected.argmax(1)).mean())
