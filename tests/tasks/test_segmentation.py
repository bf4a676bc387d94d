"""Segmentation: losses against a second formula, scores against a plain count, and runs that go on as they were."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchmetrics.classification import MulticlassJaccardIndex

from attn_surgeon import insert
from attn_surgeon.artefact.load import load
from attn_surgeon.data.masks import IGNORED
from attn_surgeon.data.segmentation_images import open_scene_splits
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError
from attn_surgeon.finetune import loop
from attn_surgeon.finetune.control_run import fine_tune, network_of
from attn_surgeon.finetune.gradient_checkpointing import checkpointed
from attn_surgeon.finetune.graft_effects import openings
from attn_surgeon.finetune.job import FinetuneJob, open_job
from attn_surgeon.finetune.loop import train
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.gallery import chosen
from attn_surgeon.tasks.overlap import hits_and_unions, ious, mean_iou_by_image
from attn_surgeon.tasks.statistics import image_interval, wilcoxon

from ..data.cells import EXAMPLE, RGB, SETTINGS, labeller, loaded, write
from ..finetune.helpers import same

TASK = get_task("segmentation")
PLAIN = FinetuneSettings(task="segmentation", dice=0.0)


@pytest.fixture
def parts(tmp_path: Path) -> Splits:
    return open_scene_splits(str(write(tmp_path / "data")), RGB, SETTINGS)


def scores_and_masks(classes: int = 3) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(0, classes, (2, 6, 5), generator=generator, dtype=torch.uint8)
    masks[:, :2] = IGNORED
    return torch.randn(2, classes, 6, 5, generator=generator), masks


def pixels(scores: Tensor, masks: Tensor) -> Iterator[tuple[Tensor, int]]:
    """List the scores and class of each pixel that counts."""
    for image, row, column in np.ndindex(*masks.shape):
        if masks[image, row, column] != IGNORED:
            yield scores[image, :, row, column], int(masks[image, row, column])


def test_cross_entropy_is_the_mean_over_the_pixels_that_count() -> None:
    scores, masks = scores_and_masks()
    each = [-(own - own.logsumexp(0))[label] for own, label in pixels(scores, masks)]
    torch.testing.assert_close(TASK.loss(scores, masks, PLAIN), torch.stack(each).mean())


def test_binary_cross_entropy_is_the_mean_over_pixels_and_classes() -> None:
    scores, masks = scores_and_masks()
    each = [
        -(F.logsigmoid(value) if label == number else F.logsigmoid(-value))
        for own, label in pixels(scores, masks)
        for number, value in enumerate(own)
    ]
    torch.testing.assert_close(TASK.loss(scores, masks, replace(PLAIN, loss="bce")), torch.stack(each).mean())


def test_dice_is_that_of_vnet_over_the_classes_there_are() -> None:
    scores, masks = scores_and_masks()
    scores = torch.cat([scores, torch.zeros_like(scores[:, :1])], 1)  # a fourth class that no mask shows
    shares = [(own.softmax(0), label) for own, label in pixels(scores, masks)]
    terms = []
    for number in range(3):
        both = sum(2 * own[number] for own, label in shares if label == number)
        terms.append(both / (sum(own[number] ** 2 for own, _ in shares) + sum(label == number for _, label in shares)))
    expected = 1 - torch.stack([torch.as_tensor(term) for term in terms]).mean()
    whole, plain = TASK.loss(scores, masks, replace(PLAIN, dice=0.5)), TASK.loss(scores, masks, PLAIN)
    torch.testing.assert_close(whole - plain, 0.5 * expected)


def test_ignored_pixels_have_no_gradient() -> None:
    scores, masks = scores_and_masks()
    scores.requires_grad_()
    for settings in (FinetuneSettings(), FinetuneSettings(loss="bce"), FinetuneSettings(label_smoothing=0.1)):
        (gradient,) = torch.autograd.grad(TASK.loss(scores, masks, settings), scores)
        assert not gradient[:, :, :2].any()
        assert bool(gradient[:, :, 2:].all())
        nothing = TASK.loss(scores, torch.full_like(masks, IGNORED), settings)
        assert float(nothing.detach()) == 0
        assert not torch.autograd.grad(nothing, scores)[0].any()


def test_one_score_a_pixel_is_binary_cross_entropy() -> None:
    scores, masks = scores_and_masks(2)
    alone, known = scores[:, :1], masks != IGNORED
    expected = F.binary_cross_entropy_with_logits(alone[:, 0][known], masks[known].float())
    torch.testing.assert_close(TASK.loss(alone, masks, PLAIN), expected)
    assert torch.equal(TASK.logits(alone).argmax(1), (alone[:, 0] > 0).long())


def test_an_auxiliary_classifier_counts_two_fifths() -> None:
    scores, masks = scores_and_masks()
    other = scores.flip(0)
    both = TASK.loss({"out": scores, "aux": other}, masks, FinetuneSettings())
    torch.testing.assert_close(
        both, TASK.loss(scores, masks, FinetuneSettings()) + 0.4 * TASK.loss(other, masks, FinetuneSettings())
    )


def test_small_scores_are_enlarged_to_the_mask() -> None:
    scores, masks = scores_and_masks()
    large = F.interpolate(scores[:, :, ::2, ::2], (6, 5), mode="bilinear", align_corners=False)
    assert torch.equal(
        TASK.loss(scores[:, :, ::2, ::2], masks, FinetuneSettings()), TASK.loss(large, masks, FinetuneSettings())
    )


def test_the_loss_is_taken_in_full_precision() -> None:
    scores, masks = scores_and_masks()
    half = scores.bfloat16()
    assert torch.equal(TASK.loss(half, masks, FinetuneSettings()), TASK.loss(half.float(), masks, FinetuneSettings()))


@pytest.mark.parametrize("output", [torch.zeros(2, 3), {"other": torch.zeros(2, 3, 4, 4)}, [torch.zeros(2, 3, 4, 4)]])
def test_what_scores_no_pixels_is_refused(output: Any) -> None:
    with pytest.raises(DataError, match=r"scores \(N, classes, H, W\)"):
        TASK.logits(output)


def test_scores_are_those_of_a_plain_count(parts: Splits) -> None:
    """For windows that overlap, masks with pixels to ignore, and a class that no mask shows."""
    parts = replace(parts, val=replace(parts.val, class_names=("a", "b", "c", "d")))
    scenes: Any = parts.val.dataset
    for index in range(len(scenes)):
        scenes.picture(index)[1][:3] = IGNORED
    # sees single pixels, so that windows do not matter
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval()
    model.load_state_dict({"2.bias": torch.tensor([0.0, 0.0, 0.0, -100.0])}, strict=False)
    found = TASK.score(model, parts.val)
    hits, unions, right, metric = np.zeros(4), np.zeros(4), 0, MulticlassJaccardIndex(4, ignore_index=IGNORED)
    losses = []
    for index, outcome in enumerate(found.outcomes):
        image, mask = scenes[index]
        with torch.no_grad():
            scores = model(image[None])[0]
        guess, truth, known = scores.argmax(0).numpy(), mask.numpy(), mask.numpy() != IGNORED
        own_hits = np.array([((guess == c) & (truth == c) & known).sum() for c in range(4)])
        own_unions = np.array([(((guess == c) | (truth == c)) & known).sum() for c in range(4)])
        assert outcome == pytest.approx((own_hits[own_unions > 0] / own_unions[own_unions > 0]).mean(), abs=1e-12)
        hits, unions, right = hits + own_hits, unions + own_unions, right + int((guess == truth)[known].sum())
        losses.append(F.cross_entropy(scores[None], mask[None].long(), ignore_index=IGNORED))
        metric.update(torch.from_numpy(guess), mask.long())
    assert found.metric == pytest.approx((hits[:3] / unions[:3]).mean(), abs=1e-12)
    assert found.metric == pytest.approx(float(metric.compute()), abs=1e-6)
    expected = dict(zip("abc", hits[:3] / unions[:3], strict=True)) | {"d": None}
    assert {name: found.figures["iou"][name] for name in "abcd"} == pytest.approx(expected)
    assert found.figures["pixel_accuracy"] == pytest.approx(right / (4 * 21 * 20), abs=1e-6)
    assert found.loss == pytest.approx(float(torch.stack(losses).mean()), rel=1e-5)


def test_training_learns_and_the_artefact_scores_what_was_recorded(parts: Splits, tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=12, crops=4, lr=1e-2)
    model = labeller()
    before = TASK.score(model, parts.val).metric
    done = train(model, replace(parts, draws=(0, 1, 2, 3) * 4), settings, tmp_path, EXAMPLE)
    assert done.score.metric > max(0.85, before + 0.2)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["val_miou"] == done.score.metric
    again = load(tmp_path / "last.safetensors", model=labeller(grafts=False))
    assert TASK.score(again, parts.val) == done.score


def test_a_run_that_was_stopped_and_resumed_equals_an_uninterrupted_one(
    parts: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(SETTINGS, checkpoint_steps=1)
    folders = [tmp_path / name for name in ("whole", "stopped")]
    for folder in folders:
        folder.mkdir()
    whole = train(labeller(), parts, settings, folders[0], EXAMPLE)
    step, taken = loop._step, []

    def ending(*given: Any) -> None:
        taken.append(1)
        if len(taken) == 4:
            raise KeyboardInterrupt
        step(*given)

    monkeypatch.setattr(loop, "_step", ending)
    with pytest.raises(KeyboardInterrupt):
        train(labeller(), parts, settings, folders[1], EXAMPLE)
    monkeypatch.setattr(loop, "_step", step)
    rest = train(labeller(), parts, settings, folders[1], EXAMPLE)
    assert same(rest.model, whole.model)
    assert rest.score == whole.score


def test_features_can_be_computed_twice_where_a_graft_follows_what_works_in_place() -> None:
    """A graft on a ReLU of a sequence makes no block of it: run again, it would change its input again."""
    layers = [nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(inplace=True)]
    plain = nn.Sequential(nn.Sequential(*layers), nn.Conv2d(4, 3, 1))
    model = insert(plain, "cbam", after="0", example=EXAMPLE)
    gradients = []
    for context in (nullcontext(), checkpointed(model)):
        with context:
            whole = model.train()(EXAMPLE).square().sum()
            gradients.append(torch.autograd.grad(whole, list(model.parameters()), allow_unused=True))
    kept = [(one, two) for one, two in zip(*gradients, strict=True) if one is not None]
    assert len(kept) > 6
    for one, two in kept:
        torch.testing.assert_close(two, one)


def test_a_comparison_is_over_images_for_one_seed_and_over_seeds_for_more(parts: Splits, tmp_path: Path) -> None:
    start = TASK.fit_head(loaded(), parts.train.class_names, SETTINGS)
    settings = replace(SETTINGS, epochs=1)
    results = []
    for seeds in (1, 2):
        folder = tmp_path / str(seeds)
        results.append(fine_tune(FinetuneJob(start, parts, settings, folder, control=True, seeds=seeds)))
    outcomes = {}
    for arm in ("grafts", "control"):
        model = network_of(start, grafts=arm == "grafts")
        model.load_state_dict(torch.load(tmp_path / "1" / f"seed-0-{arm}" / "checkpoint.pt")["model"])
        outcomes[arm] = TASK.score(model, parts.val)
        assert results[0]["runs"][0][arm]["iou"] == outcomes[arm].figures["iou"]
        assert (tmp_path / "1" / f"seed-0-{arm}" / "predictions.png").stat().st_size > 1000
    differences = [a - b for a, b in zip(outcomes["grafts"].outcomes, outcomes["control"].outcomes, strict=True)]
    by_image = [outcomes[arm].pseudo_values or () for arm in ("grafts", "control")]
    found, expected = results[0]["difference"], image_interval([a - b for a, b in zip(*by_image, strict=True)])
    assert (found["low"], found["high"]) == (expected.low, expected.high)
    assert found["estimate"] == pytest.approx(outcomes["grafts"].metric - outcomes["control"].metric)
    assert found["how"] == f"over {len(differences)} images"
    assert results[0]["wilcoxon"]["p"] == wilcoxon(differences)
    assert "mcnemar" not in results[0]
    metrics = [[run[arm]["miou"] for arm in ("grafts", "control")] for run in results[1]["runs"]]
    assert results[1]["difference"]["estimate"] == pytest.approx(np.mean([a - b for a, b in metrics]))
    assert "2 training runs of each" in results[1]["difference"]["how"]


def test_one_image_is_not_significant_and_equal_images_are_left_out() -> None:
    assert image_interval([0.2]).low < -0.5 < 0.5 < image_interval([0.2]).high
    assert wilcoxon([0.0, 0.0]) == 1.0
    # all 2⁵ signs of five differences are equally likely, and two are as one-sided as this
    assert wilcoxon([0.1, 0.2, 0.0, 0.3, 0.4, 0.5]) == pytest.approx(2 / 32)


def test_openings_are_measured_on_the_middle_of_each_image(parts: Splits) -> None:
    scenes: Any = parts.val.dataset
    shown = list(TASK.samples(parts.val))
    assert len(shown) == 4
    assert torch.equal(shown[1][0], scenes[1][0][:, 4:20, 2:18])
    assert set(openings(labeller(), TASK, parts.val).values()) == {0.0}


def test_the_windows_are_the_crops_and_travel_in_the_artefact(parts: Splits) -> None:
    start = TASK.fit_head(loaded(), parts.train.class_names, replace(SETTINGS, crop=12))
    assert start.preprocessing.size == (12, 12)
    assert start.example.shape == (1, 3, 12, 12)
    assert start.provenance.class_names == ("0", "1", "2")


def test_a_size_that_the_network_does_not_take_is_reported(parts: Splits) -> None:
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([x, F.max_pool2d(x, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)], 1)

    with pytest.raises(DataError, match=r"does not run on windows of 15×15: .*crop"):
        TASK.fit_head(replace(loaded(), model=Picky()), ("a", "b"), replace(SETTINGS, crop=15))


def test_mixing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be mixed; cutmix"):
        open_job(loaded(), str(write(tmp_path)), replace(SETTINGS, cutmix=1.0))


def test_the_worst_and_the_best_are_chosen() -> None:
    assert chosen([0.5, 0.1, 0.9, 0.3, 0.8, 0.2, 0.7, 0.6]) == [1, 5, 3, 6, 4, 2]
    assert chosen([0.5, 0.1]) == [1, 0]


def test_what_an_image_adds_to_the_metric_is_what_is_missing_without_it() -> None:
    counts = torch.randint(0, 50, (6, 3, 3), generator=torch.Generator().manual_seed(0))
    counts[:, 2] *= torch.tensor([0, 0, 0, 1, 0, 0])[:, None]  # class 2 is in one image, and predicted in it alone
    counts[:, :, 2] *= torch.tensor([0, 0, 0, 1, 0, 0])[:, None]
    whole = float(ious(counts.sum(0)).nanmean())
    without = [float(ious(counts.sum(0) - own).nanmean()) for own in counts]
    expected = np.array([6 * whole - 5 * value for value in without])
    found = mean_iou_by_image(*map(torch.stack, zip(*map(hits_and_unions, counts), strict=True)))
    assert found.tolist() == pytest.approx((expected - expected.mean() + whole).tolist())
    assert float(found.mean()) == pytest.approx(whole)
    alone = mean_iou_by_image(*(values[None] for values in hits_and_unions(counts[3])))
    assert alone.tolist() == pytest.approx([float(ious(counts[3]).nanmean())])
