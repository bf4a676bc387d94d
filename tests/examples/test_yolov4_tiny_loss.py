"""YOLOv4-tiny's priors, assignment, loss and detections, by values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from attn_surgeon.artefact.recipe import read_recipe
from attn_surgeon.operations.insert import insert
from attn_surgeon.surgery.installed_grafts import list_grafts
from tests.examples.example_files import REPO, example

WIDE = (64, 96)  # 2 × 3 coarse cells, then 4 × 6 fine ones
SCALE = 96 / 416
SMALL = (32, 32)  # one coarse cell, then 2 × 2 fine ones: 15 priors
WIDTH, HEIGHT = 135 * 32 / 416, 169 * 32 / 416  # of the second coarse anchor there


def box(x: float, y: float, width: float, height: float) -> list[float]:
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def coarse(anchor: int, row: int, column: int) -> int:
    return anchor * 6 + row * 3 + column


def fine(anchor: int, row: int, column: int) -> int:
    return 18 + anchor * 24 + row * 6 + column


def matches(*boxes: list[float]) -> dict[int, int]:
    """Return the boxes' numbers by prior."""
    module = example("yolov4_tiny_loss")
    found = module.assigned(torch.tensor(boxes).reshape(-1, 4), module.priors(*WIDE)).tolist()
    return {prior: number for prior, number in enumerate(found) if number >= 0}


def test_priors_stand_in_the_order_of_the_predictions() -> None:
    module = example("yolov4_tiny_loss")
    given = module.priors(*WIDE)
    assert len(given.cells) == 90
    index = fine(1, 3, 2)
    assert (given.cells[index].tolist(), given.strides[index].item()) == ([2, 3], 16)
    assert given.sizes[index].tolist() == pytest.approx([37 * SCALE, 58 * SCALE])
    maps = [torch.zeros(1, 24, 2, 3), torch.zeros(1, 24, 4, 6)]
    maps[1][0, 8 + 4, 3, 2] = 7.0  # the objectness of the second anchor
    assert torch.nonzero(module.predictions(maps)).tolist() == [[0, index, 4]]


def test_a_box_belongs_to_the_cell_of_its_centre_and_the_anchor_of_its_shape() -> None:
    large = box(70, 40, 120 * SCALE, 180 * SCALE)
    tiny = box(70, 40, 20 * SCALE, 25 * SCALE)
    middle = box(70, 40, 80 * SCALE, 80 * SCALE)  # its anchor is on both maps
    assert matches(large) == {coarse(1, 1, 2): 0}
    assert matches(tiny) == {fine(0, 2, 4): 0}
    assert matches(middle) == {coarse(0, 1, 2): 0, fine(2, 2, 4): 0}
    assert matches(tiny, large) == {coarse(1, 1, 2): 1, fine(0, 2, 4): 0}


def test_of_two_boxes_in_a_cell_a_prior_takes_the_more_similar() -> None:
    similar, other = (box(70 + shift, 40, size * SCALE, size * SCALE) for shift, size in ((1, 81), (0, 95)))
    assert matches(other, similar) == {coarse(0, 1, 2): 1, fine(2, 2, 4): 1}


def test_no_box_matches_nothing() -> None:
    assert matches() == {}


def zero_maps() -> list[Tensor]:
    """Return outputs for one small image and two classes: each box is its anchor in the middle of its cell."""
    return [torch.zeros(1, 21, 1, 1), torch.zeros(1, 21, 2, 2)]


def small_loss(maps: list[Tensor], *boxes: list[float]) -> float:
    module = example("yolov4_tiny_loss")
    target = {"boxes": torch.tensor(boxes).reshape(-1, 4), "labels": torch.ones(len(boxes), dtype=torch.int64)}
    value: float = module.loss(maps, [target], module.priors(*SMALL)).item()
    return value


def test_the_loss_of_a_box_that_is_met_is_that_of_objectness_and_classes() -> None:
    """Fifteen logits of objectness and two of classes are zero."""
    assert small_loss(zero_maps(), box(16, 16, WIDTH, HEIGHT)) == pytest.approx(17 * math.log(2))


def test_the_loss_of_a_box_beside_it_has_the_distance_of_centres() -> None:
    overlap = (WIDTH - 2) / (WIDTH + 2)
    distance = 2**2 / ((WIDTH + 2) ** 2 + HEIGHT**2)
    expected = 2 * (1 - overlap + distance) + 17 * math.log(2)
    assert small_loss(zero_maps(), box(18, 16, WIDTH, HEIGHT)) == pytest.approx(expected)


def test_the_loss_of_a_box_of_another_shape_has_the_difference_of_aspects() -> None:
    overlap = 0.8
    aspect = (4 / math.pi**2) * (math.atan(0.8 * WIDTH / HEIGHT) - math.atan(WIDTH / HEIGHT)) ** 2
    expected = 2 * (1 - overlap + aspect**2 / (1 - overlap + aspect)) + 17 * math.log(2)
    assert small_loss(zero_maps(), box(16, 16, 0.8 * WIDTH, HEIGHT)) == pytest.approx(expected)


def test_a_prior_that_covers_the_box_of_another_is_ignored() -> None:
    """The third coarse anchor is shrunk to the box of the second: one objectness less."""
    maps = zero_maps()
    maps[0][0, 16:18, 0, 0] = torch.tensor([math.log(135 / 344), math.log(169 / 319)])
    assert small_loss(maps, box(16, 16, WIDTH, HEIGHT)) == pytest.approx(16 * math.log(2))


def test_an_image_without_boxes_has_the_objectness_alone() -> None:
    assert small_loss(zero_maps()) == pytest.approx(15 * math.log(2))


def test_detections_have_boxes_scores_and_classes_without_duplicates() -> None:
    maps = zero_maps()
    for tensor in maps:
        tensor[:, 4::7] = -20.0  # no objects …
    maps[0][0, 7:14, 0, 0] = torch.tensor([0.0, 0.0, 0.0, 0.0, 2.0, -20.0, 3.0])  # … but one of the second class,
    maps[0][0, 14:21, 0, 0] = torch.tensor([0, 0, math.log(135 / 344), math.log(169 / 319), 1.0, -20.0, 3.0])  # twice
    [found] = example("yolov4_tiny_loss").detections(maps, SMALL)
    assert found["labels"].tolist() == [1]
    torch.testing.assert_close(found["boxes"], torch.tensor([box(16, 16, WIDTH, HEIGHT)]))
    assert found["scores"].tolist() == pytest.approx([1 / (1 + math.exp(-2)) / (1 + math.exp(-3))])


def test_a_finite_prediction_is_a_finite_box_and_centres_reach_the_edges_of_cells() -> None:
    module = example("yolov4_tiny_loss")
    [[large]] = module.decoded(torch.full((1, 1, 4), 500.0), module.Priors(*(torch.ones(1, 2) for _ in range(3))))
    assert large.tolist() == pytest.approx([2.025 - math.e**4 / 2] * 2 + [2.025 + math.e**4 / 2] * 2)


@pytest.mark.parametrize("recipe", ["se", "cbam", "eca", "coord", "backbone"])
def test_the_gradient_reaches_every_graft(recipe: str) -> None:
    module, network, x = example("yolov4_tiny_loss"), example("yolov4_tiny").yolov4_tiny(2), torch.rand(2, 3, 64, 64)
    step = read_recipe(str(REPO / "recipes" / f"yolov4-tiny-{recipe}.yaml")).operations[0].insert
    operated = insert(network, step.block, after=step.after, options=step.options, example=x)
    targets = [{"boxes": torch.tensor([box(30, 30, 15, 15)]), "labels": torch.tensor([number])} for number in (0, 1)]
    module.loss(operated(x), targets, module.priors(64, 64)).backward()
    grafts = list_grafts(operated)
    gradients = [[value.grad for value in made.block.parameters() if value.grad is not None] for made in grafts]
    assert [any(bool(gradient.any()) for gradient in found) for found in gradients] == [True] * 3
