"""Images of several digits with boxes: the same bits every time, boxes around the ink, digits of one split alone."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from attn_surgeon.networks.demo.box_scenes import SCENES, draw_digits

PIXELS = "e46329c8da0f50dc33866c58fcc03fafd21cc17ede88aa77e85eab527d866662"


def test_these_very_bits() -> None:
    digest = hashlib.sha256()
    for index in (0, 1, 99):
        scene = draw_digits("val", index)
        digest.update(scene.pixels.tobytes() + scene.boxes.tobytes() + scene.labels.tobytes())
    assert digest.hexdigest() == PIXELS


def test_splits_and_numbers_have_other_images() -> None:
    images = [draw_digits(split, index).pixels.tobytes() for split in SCENES for index in range(3)]
    assert len(set(images)) == len(images)


@pytest.mark.parametrize("split", SCENES)
def test_boxes_are_around_the_ink(split: str) -> None:
    counts = []
    for index in range(40):
        scene = draw_digits(split, index, cluttered=False)  # on black
        counts.append(len(scene.labels))
        inked = np.zeros_like(scene.pixels, dtype=bool)
        for x1, y1, x2, y2 in scene.boxes.astype(int):
            inside = scene.pixels[y1:y2, x1:x2]
            edges = inside[0], inside[-1], inside[:, 0], inside[:, -1]
            assert all(edge.max() >= 0.25 * 0.55 * 255 - 1 for edge in edges)  # of the faintest ink
            inked[y1:y2, x1:x2] = True
        assert scene.pixels[~inked].max(initial=0) <= 0.25 * 255 + 1
    assert set(counts) == {0, 1, 2, 3, 4}
