"""`demo-boxes` opened as data: the very images and boxes that are drawn, and neither mirrored nor held out."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from attn_surgeon.data.boxes.demo import DrawnImage
from attn_surgeon.data.boxes.opening import open_box_splits
from attn_surgeon.data.settings import BoxSettings
from attn_surgeon.networks.demo.box_scenes import SCENES, draw_digits
from attn_surgeon.networks.demo.detector import DETECTOR_PREPROCESSING
from attn_surgeon.networks.demo.digits import CLASS_NAMES
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.tasks import infer_task


def test_images_and_boxes_are_those_that_are_drawn() -> None:
    splits = open_box_splits("demo-boxes", DETECTOR_PREPROCESSING, BoxSettings())
    assert splits.train.class_names == splits.val.class_names == CLASS_NAMES
    assert splits.augment is None
    for split, data in {"train": splits.train, "val": splits.val}.items():
        dataset: Any = data.dataset
        assert len(dataset) == SCENES[split]
        for index in (0, 7, SCENES[split] - 1):
            scene, (image, truth) = draw_digits(split, index), dataset[index]
            assert torch.equal(image, torch.from_numpy(scene.pixels)[None] / 255)
            assert np.array_equal(truth.boxes.numpy(), scene.boxes.astype(np.float32))
            assert np.array_equal(truth.labels.numpy(), scene.labels)
            assert not truth.crowd.any()


def test_networks_of_colour_images_get_three_equal_channels() -> None:
    colour = Preprocessing((0.0,) * 3, (1.0,) * 3, (64, 64))
    dataset: Any = open_box_splits("demo-boxes", colour, BoxSettings(limit=8)).train.dataset
    image = dataset[0][0]
    assert len(dataset) == 8
    assert image.shape == (3, 64, 64)
    assert torch.equal(image[0], image[2])


def test_the_task_is_recognised_and_images_have_names() -> None:
    assert infer_task("demo-boxes") == "detection"
    assert str(DrawnImage("val", 3)) == "demo-boxes/val-0003.png"
