"""The average precision is that of pycocotools and of torchmetrics, over the images and over any resample of them."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from attn_surgeon.data.boxes.boxes import Boxes
from attn_surgeon.tasks.average_precision import RECALLS, Matches, _needed, match_boxes, mean_known
from attn_surgeon.tasks.detectors.base import Detections

IMAGES, CLASSES = 24, 3
Truth = list[Boxes]
Found = list[Detections]


def drawn(*, ties: bool = False, seed: int = 0) -> tuple[Truth, Found]:
    """Return boxes and detections near them, of all but the last class; the first image has no object."""
    generator = torch.Generator().manual_seed(seed)

    def rand(*size: int) -> Tensor:
        return torch.rand(*size, generator=generator)

    truth, found = [], []
    for index in range(IMAGES):
        count = 0 if index == 0 else int(rand(1) * 9)
        corner, wrong = 80 * rand(count, 2), 80 * rand(5, 2)
        boxes = torch.cat([corner, corner + 5 + 20 * rand(count, 2)], 1)
        labels = (rand(count) * (CLASSES - 1)).long()
        truth.append(Boxes(boxes, labels, rand(count) < 0.15))
        near = boxes + 1.5 * torch.randn(count, 4, generator=generator)
        scores = rand(count + 5)
        scores[:count] += 0.1
        found.append(
            Detections(
                torch.cat([near, torch.cat([wrong, wrong + 12], 1)]),
                scores.mul(10).round() / 10 if ties else scores,
                torch.cat([labels, (rand(5) * CLASSES).long()]),
            )
        )
    return truth, found


def coco_map(truth: Truth, found: Found) -> tuple[float, float, float]:
    """Return the mAP, mAP50 and mAP75 that pycocotools computes."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def corners(boxes: Tensor) -> list[list[float]]:
        return [[x1, y1, x2 - x1, y2 - y1] for x1, y1, x2, y2 in boxes.double().tolist()]

    def items(own: Any, index: int) -> list[dict[str, Any]]:
        extra: list[dict[str, Any]] = [{"iscrowd": int(crowd)} for crowd in own.crowd] if isinstance(own, Boxes) else []
        extra = extra or [{"score": float(score)} for score in getattr(own, "scores", [])]
        return [
            {"image_id": index, "category_id": int(label), "bbox": box, "area": box[2] * box[3], **more}
            for box, label, more in zip(corners(own.boxes), own.labels, extra, strict=True)
        ]

    with redirect_stdout(io.StringIO()):
        gold = COCO()
        annotations = [item for index, own in enumerate(truth) for item in items(own, index)]
        gold.dataset = {
            "images": [{"id": index} for index in range(len(truth))],
            "categories": [{"id": label} for label in range(CLASSES)],
            "annotations": [{"id": number, **item} for number, item in enumerate(annotations, 1)],
        }
        gold.createIndex()
        own = gold.loadRes([item for index, image in enumerate(found) for item in items(image, index)])
        evaluation = COCOeval(gold, own, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return tuple(evaluation.stats[:3].tolist())


def means(matches: Matches) -> list[float]:
    precisions = matches.precisions()[0]
    return [float(mean_known(values[None])[0]) for values in (precisions.mean(1), precisions[:, 0], precisions[:, 5])]


@pytest.mark.parametrize("ties", [False, True])
def test_it_is_that_of_pycocotools(ties: bool) -> None:
    truth, found = drawn(ties=ties)
    matches = match_boxes(truth, found, CLASSES)
    assert means(matches) == pytest.approx(coco_map(truth, found), abs=1e-9)
    assert np.isnan(matches.precisions()[0, CLASSES - 1]).all()
    assert matches.resampled(np.ones((1, IMAGES)))[0] == means(matches)[0]


def test_it_is_that_of_torchmetrics() -> None:
    from torchmetrics.detection import MeanAveragePrecision

    truth, found = drawn()
    # its own recalls are rounded to float32, and some are then just above the recall that is reached
    metric = MeanAveragePrecision(backend="pycocotools", rec_thresholds=np.linspace(0, 1, 101).tolist())
    metric.update(
        [{"boxes": own.boxes, "scores": own.scores, "labels": own.labels} for own in found],
        [{"boxes": own.boxes, "labels": own.labels, "iscrowd": own.crowd.long()} for own in truth],
    )
    assert means(match_boxes(truth, found, CLASSES))[0] == pytest.approx(float(metric.compute()["map"]), abs=1e-6)


def test_a_resample_is_as_if_the_images_were_there_so_often() -> None:
    truth, found = drawn()
    matches = match_boxes(truth, found, CLASSES)
    counts = np.random.default_rng(1).multinomial(IMAGES, np.full(IMAGES, 1 / IMAGES), 3).astype(np.float64)
    for row, value in zip(counts, matches.resampled(counts), strict=True):
        images = np.repeat(np.arange(IMAGES), row.astype(int)).tolist()
        again = coco_map([truth[index] for index in images], [found[index] for index in images])
        assert value == pytest.approx(again[0], abs=1e-9)


def test_each_image_alone_is_scored_on_the_classes_in_it() -> None:
    truth, found = drawn()
    by_image = match_boxes(truth, found, CLASSES).by_image()
    assert np.isnan(by_image[0])
    for index in range(1, IMAGES):
        if bool((~truth[index].crowd).any()):
            assert by_image[index] == pytest.approx(coco_map([truth[index]], [found[index]])[0], abs=1e-9)
        else:
            assert np.isnan(by_image[index])


def test_large_data_is_accumulated_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = match_boxes(*drawn(), CLASSES)
    counts = np.random.default_rng(2).integers(0, 3, (7, IMAGES)).astype(np.float64)
    whole = matches.resampled(counts)
    monkeypatch.setattr("attn_surgeon.tasks.average_precision._CHUNK", 1)
    assert matches.resampled(counts).tolist() == whole.tolist()


def test_without_detections_it_is_zero_and_without_objects_unknown() -> None:
    truth, _ = drawn()
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long))
    matches = match_boxes(truth, [nothing] * IMAGES, CLASSES)
    assert means(matches) == [0.0, 0.0, 0.0]
    nowhere = np.zeros((1, IMAGES))
    nowhere[0, 0] = IMAGES
    assert np.isnan(matches.resampled(nowhere)).all()


def test_recalls_are_compared_as_quotients() -> None:
    """0.07 · 100 is above 7 in floating point, but 7 / 100 reaches the recall 0.07."""
    totals = np.arange(1, 301)
    found = _needed(totals)
    for total, row in zip(totals.tolist(), found, strict=True):
        reached = np.arange(total + 1) / total >= RECALLS[:, None]
        assert row.tolist() == reached.argmax(1).tolist()
