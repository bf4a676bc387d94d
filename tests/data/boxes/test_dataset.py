"""Images and boxes are scaled together and back; augmentation depends on seed, epoch and draw alone."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from attn_surgeon.data.boxes.boxes import Boxes
from attn_surgeon.data.boxes.corrupted import corrupted_box_images
from attn_surgeon.data.boxes.dataset import BoxImages, RandomView, fed, fed_size
from attn_surgeon.data.boxes.opening import open_boxes
from attn_surgeon.data.corruptions import CORRUPTION_KINDS
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.sampling import EpochImages
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.tasks.settings import TaskSettings

from .files import COLOURS, SIZE, splits, write_voc
from .test_formats import RAW, opened

SCALED = replace(RAW, mean=(0.5,) * 3, std=(0.25,) * 3, longer_side=24)


def test_images_keep_their_proportions_and_boxes_map_back(tmp_path: Path) -> None:
    root = write_voc(tmp_path, splits())
    data = open_boxes(str(root), "val", SCALED, TaskSettings(task="detection"))
    images: BoxImages = data.dataset  # type: ignore[assignment]
    image, boxes = images[1]
    assert image.shape == (3, 20, 24)
    truth = images.truth(1)
    torch.testing.assert_close(boxes.boxes, truth.boxes / 2)
    torch.testing.assert_close(images.in_file(1, boxes.boxes, image.shape[1:]), truth.boxes)
    left, top, right, bottom = (int(side) for side in boxes.boxes[1].tolist())
    inner = image[:, top + 1 : bottom - 1, left + 1 : right - 1] * 0.25 + 0.5
    expected = torch.tensor(COLOURS[int(boxes.labels[1])])[:, None, None].expand_as(inner) / 255
    torch.testing.assert_close(inner, expected, rtol=0, atol=0.02)


def test_uneven_scaling_maps_back_to_the_very_pixels() -> None:
    pixels = torch.zeros(3, 333, 500, dtype=torch.uint8)
    boxes = Boxes(torch.tensor([[10.0, 20.0, 400.0, 300.0]]), torch.zeros(1).long(), torch.zeros(1).bool())
    image, scaled = fed(pixels, boxes, replace(RAW, longer_side=77))
    assert image.shape[1:] == (51, 77)
    torch.testing.assert_close(scaled.boxes, boxes.boxes * torch.tensor([77 / 500, 51 / 333] * 2))


@pytest.mark.parametrize(
    ("preprocessing", "size"),
    [(RAW, (40, 48)), (replace(RAW, longer_side=96), (80, 96)), (replace(RAW, mean=(0.5,) * 3), (27, 32))],
)
def test_only_networks_that_normalise_inside_get_images_at_their_own_size(
    preprocessing: Preprocessing, size: tuple[int, int]
) -> None:
    assert fed_size((40, 48), preprocessing) == size


def drawn_views(root: Path, seed: int, epoch: int) -> list[tuple[Tensor, Boxes]]:
    data = EpochImages(opened(root), seed)
    return [data[(epoch, number)] for number in range(len(data))]


def test_augmentation_depends_on_seed_epoch_and_draw(tmp_path: Path) -> None:
    root = write_voc(tmp_path, splits())
    first = [image for image, _ in drawn_views(root, 0, 1)]
    torch.manual_seed(5)
    assert all(map(torch.equal, first, [image for image, _ in drawn_views(root, 0, 1)]))
    assert not any(map(torch.equal, first, [image for image, _ in drawn_views(root, 0, 2)]))
    assert not any(map(torch.equal, first, [image for image, _ in drawn_views(root, 1, 1)]))


def test_boxes_move_with_their_objects(tmp_path: Path) -> None:
    root = write_voc(
        tmp_path, {split: {name: own[:1] for name, own in part.items()} for split, part in splits().items()}
    )
    dataset = opened(root).train.dataset
    flips = set()
    for number in range(24):
        image, boxes = RandomView(RAW)(dataset, number % 4, f"{number}")
        assert image.shape == (3, SIZE[1], SIZE[0])
        truth = dataset.truth(number % 4)  # type: ignore[attr-defined]
        if not len(boxes.boxes) or float((boxes.boxes[0, 2:] - boxes.boxes[0, :2]).min()) < 5:
            continue
        left, top, right, bottom = boxes.boxes[0].round().int().tolist()
        assert 0 <= left < right <= SIZE[0]
        assert 0 <= top < bottom <= SIZE[1]
        red, _, blue = image[:, top + 1 : bottom - 1, left + 1 : right - 1].mean((1, 2)).tolist()
        outside = image.clone()
        outside[:, max(0, top - 1) : bottom + 1, max(0, left - 1) : right + 1] = 0.5
        colour = 0 if int(truth.labels[0]) == 0 else 2
        assert (red if colour == 0 else blue) > 1.5 * (blue if colour == 0 else red)
        # nowhere else is the object's colour
        assert float((outside[colour] - outside[2 - colour]).max()) < 0.4
        assert boxes.labels.tolist() == truth.labels.tolist()
        flips.add(bool(left > SIZE[0] - right))
    assert flips == {False, True}


@pytest.mark.parametrize("kind", CORRUPTION_KINDS)
def test_corruptions_change_the_image_and_not_its_boxes(kind: str, tmp_path: Path) -> None:
    data = opened(write_voc(tmp_path, splits())).val
    corrupted = corrupted_box_images(data, 3)(kind, 4)
    again = corrupted_box_images(data, 3)(kind, 4)
    for index in range(3):
        image, boxes = _item(data, index)
        changed, unchanged = _item(corrupted, index)
        assert changed.shape == image.shape
        assert not torch.equal(changed, image)
        assert torch.equal(changed, _item(again, index)[0])
        assert torch.equal(boxes.boxes, unchanged.boxes)


def _item(data: ImageData, index: int) -> tuple[Tensor, Boxes]:
    item: tuple[Tensor, Boxes] = data.dataset[index]
    return item
