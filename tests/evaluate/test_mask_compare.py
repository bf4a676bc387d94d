"""Two networks that label every pixel, compared image by image."""

from __future__ import annotations

from pathlib import Path

import pytest

from attn_surgeon.data.parts import Parts
from attn_surgeon.data.scenes import open_part
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.compare import Rivals
from attn_surgeon.evaluate.mask_compare import compare, require_same_masks
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.tasks.base import Score

from ..data.cells import write

COLOUR = Preprocessing((0.5, 0.5, 0.5), (0.2, 0.2, 0.2), (16, 16))


def test_the_difference_is_the_mean_over_images_with_students_interval() -> None:
    first, second = (Score(0.7, 0.1, outcomes, {}) for outcomes in ((0.5, 0.6, 0.9, 0.7), (0.4, 0.6, 0.8, 0.3)))
    found = compare(first, second, Rivals("a", "b"))
    assert found["difference"]["estimate"] == pytest.approx(0.15)
    reach = 3.182446 * (0.09 / 3 / 4) ** 0.5  # of 0.1, 0, 0.1 and 0.4
    assert found["difference"]["low"] == pytest.approx(0.15 - reach, abs=1e-6)
    assert found["difference"]["high"] == pytest.approx(0.15 + reach, abs=1e-6)
    assert (found["wilcoxon"]["better"], found["wilcoxon"]["worse"]) == (3, 0)
    assert "neither a gain nor a loss of a over b" in found["verdict"]


def test_networks_that_do_the_same_are_told_so() -> None:
    one = Score(0.7, 0.1, (0.5, 0.6), {})
    assert compare(one, one, Rivals("a", "b"))["verdict"].endswith("nothing tells them apart.")
    assert "neither" in compare(one, Score(0.7, 0.2, (0.5, 0.6), {}), Rivals("a", "b"))["verdict"]


def test_networks_of_other_classes_are_refused(tmp_path: Path) -> None:
    write(tmp_path, count=2)
    parts = [
        Parts(scenes, scenes)
        for scenes in (open_part(str(tmp_path), "val", COLOUR, names) for names in (("a", "b", "c"), ("a", "b", "d")))
    ]
    require_same_masks(parts[0], parts[0])
    with pytest.raises(DataError, match="3 and 3 classes apart, or name them differently"):
        require_same_masks(*parts)
