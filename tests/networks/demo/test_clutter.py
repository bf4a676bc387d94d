"""The drawing of clutter: bounded, keyed, and true to the digit."""

from __future__ import annotations

import numpy as np

from attn_surgeon.networks.demo.clutter import KeyedRandom, draw_scene, resize


def test_resizing_to_the_same_size_changes_nothing() -> None:
    plane = np.arange(64, dtype=np.float64).reshape(8, 8)
    assert np.array_equal(resize(plane, 8, 8), plane)


def test_resizing_by_two_mixes_quarters() -> None:
    assert np.array_equal(resize(np.array([[0.0, 4.0]]), 1, 4), [[0.0, 1.0, 3.0, 4.0]])


def test_whole_numbers_reach_both_ends() -> None:
    random = KeyedRandom(0)
    assert {random.whole(2, 4) for _ in range(100)} == {2, 3, 4}


def test_equal_keys_draw_equal_pictures_and_others_do_not() -> None:
    digit, others = np.eye(8), np.full((3, 8, 8), 16, dtype=np.uint8)
    picture, cover = draw_scene(digit, others, 32, KeyedRandom(1, 2, 3))
    again, same = draw_scene(digit, others, 32, KeyedRandom(1, 2, 3))
    assert np.array_equal(picture, again)
    assert np.array_equal(cover, same)
    assert not np.array_equal(picture, draw_scene(digit, others, 32, KeyedRandom(1, 2, 4))[0])


def test_where_the_digit_covers_fully_only_ink_is_seen() -> None:
    digit, others = np.ones((8, 8)), np.full((3, 8, 8), 16, dtype=np.uint8)
    picture, cover = draw_scene(digit, others, 32, KeyedRandom(5))
    assert picture.min() >= 0
    assert picture.max() <= 1
    ink = picture[cover == 1]
    assert ink.size >= 17 * 17
    assert np.ptp(ink) == 0
    assert 0.55 <= ink[0] < 1.0
