"""Does a file compute what the network computes? Its outputs beside PyTorch's, at every size it is made for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attn_surgeon.errors import ExportError

Array = NDArray[Any]


@dataclass(frozen=True)
class Difference:
    """How far outputs are from what they should be at one size of the images.

    `relative` is the largest difference over the largest value of the same output; `agreement` the share of places
    where the output with classes has the same largest one, None without. `silent` says that there was
    nothing to compare: every value was zero, as those of a head that starts as zeros are.
    """

    size: str
    absolute: float
    relative: float
    agreement: float | None
    silent: bool = False

    def within(self, tolerance: float) -> bool:
        """Say whether it is small enough; one that is no number is not."""
        return self.relative <= tolerance


@dataclass(frozen=True)
class Parity:
    """All differences of one file from what it was compared with."""

    against: str
    tolerance: float
    differences: tuple[Difference, ...]

    @property
    def passed(self) -> bool:
        """Say whether every size is within the tolerance."""
        return all(difference.within(self.tolerance) for difference in self.differences)

    @property
    def silent(self) -> bool:
        """Say whether there was nothing to compare at any size."""
        return all(difference.silent for difference in self.differences)

    @property
    def worst(self) -> Difference:
        """Give the size with the largest relative difference, one that is no number above all."""
        return max(self.differences, key=lambda item: float("inf") if np.isnan(item.relative) else item.relative)

    def to_dict(self) -> dict[str, Any]:
        """Write it as plain data."""
        return {
            "against": self.against,
            "tolerance": self.tolerance,
            "passed": self.passed,
            "sizes": [asdict(difference) for difference in self.differences],
        }


class ParityError(ExportError):
    """Report a file that computes something else than the network, and what PyTorch itself does there."""

    def __init__(self, parity: Parity, name: str, excuse: str = "") -> None:
        self.parity = parity
        worst = parity.worst
        what = (
            f"the export does not agree with {parity.against}: "
            f"relative difference {worst.relative:.2g} at {worst.size}, allowed is {parity.tolerance:g}"
        )
        told = ("nothing was written; a larger tolerance allows more", excuse)
        super().__init__(what, name, "; ".join(part for part in told if part))


def difference(size: str, found: Sequence[Array], expected: Sequence[Array], classes: int | None = 0) -> Difference:
    """Measure how far outputs are from those expected; of another shape, they are infinitely far.

    `classes` is the place of the output that has any.
    """
    pairs = list(zip(found, expected, strict=True))
    if any(one.shape != other.shape for one, other in pairs):
        return Difference(size, float("inf"), float("inf"), None)
    distances = [_distance(one, other) for one, other in pairs]
    absolute, relative = (float(np.max([distance[place] for distance in distances])) for place in (0, 1))
    silent = not any(other.any() for _, other in pairs)
    agreement = None if classes is None else _agreement(*pairs[classes])
    return Difference(size, absolute, relative, agreement, silent)


def _distance(found: Array, expected: Array) -> tuple[float, float]:
    """Give the largest difference, and the same over the largest value; NaN and infinity agree with themselves."""
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
