"""What a step minimises: mixing drawn from seed and step alone, and the distance to a teacher."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attn_surgeon.errors import TrainingError
from attn_surgeon.finetune.objective import Objective, distillation_loss
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.tasks import get_task

TASK = get_task("classification")
IMAGES, LABELS = torch.randn(6, 1, 8, 8), torch.tensor([0, 1, 2, 0, 1, 2])


def mixed(step: int = 0, images: Tensor = IMAGES, **settings: float) -> tuple[Tensor, Tensor]:
    return Objective(TASK, FinetuneSettings(**settings), 3).mixed(images, LABELS[: len(images)], step)  # type: ignore[arg-type]


def test_nothing_is_mixed_unless_asked() -> None:
    images, labels = mixed()
    assert images is IMAGES
    assert torch.equal(labels, LABELS)


def test_mixup_blends_each_image_with_its_opposite_by_the_share_of_its_label() -> None:
    images, shares = mixed(mixup=1.0)
    (share,) = {round(float(row[label]), 5) for row, label in zip(shares, LABELS, strict=True) if row.max() < 1} or {
        1.0
    }
    flipped = share * IMAGES + (1 - share) * IMAGES.flip(0)
    torch.testing.assert_close(images, flipped, rtol=0, atol=1e-4)
    torch.testing.assert_close(shares.sum(1), torch.ones(6))


def test_cutmix_takes_a_box_of_the_area_of_the_mixing_ratio() -> None:
    images, shares = mixed(cutmix=1.0)
    foreign = (images == IMAGES.flip(0)) & (images != IMAGES)
    own = images == IMAGES
    assert bool((foreign | own).all())
    assert float(shares[0, 2]) == pytest.approx(float(foreign[0].float().mean()), abs=1e-5)


def test_mixing_is_drawn_from_seed_and_step_alone_and_leaves_the_streams() -> None:
    np.random.seed(5)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    first = mixed(3, mixup=1.0)
    assert np.array_equal(np.random.get_state()[1], before)  # type: ignore[index]
    np.random.seed(6)
    assert torch.equal(mixed(3, mixup=1.0)[0], first[0])
    assert not torch.equal(mixed(4, mixup=1.0)[0], first[0])
    assert not torch.equal(mixed(3, mixup=1.0, seed=1)[0], first[0])


def test_an_odd_batch_leaves_out_the_image_without_a_partner() -> None:
    images, shares = mixed(images=IMAGES[:5], mixup=1.0)
    assert len(images) == len(shares) == 4


def test_the_distance_to_a_teacher_is_the_divergence_of_softened_scores() -> None:
    scores, taught = torch.randn(4, 5), torch.randn(4, 5)
    p, q = (np.exp(values.double().numpy() / 3.0) for values in (taught, scores))
    p, q = p / p.sum(1, keepdims=True), q / q.sum(1, keepdims=True)
    expected = 9 * (p * np.log(p / q)).sum(1).mean()
    assert float(distillation_loss(scores, taught, 3.0)) == pytest.approx(expected, rel=1e-5)
    assert float(distillation_loss(scores, scores, 3.0)) == 0


def test_a_share_of_the_loss_keeps_to_the_teacher() -> None:
    teacher = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    scores = torch.randn(6, 3)
    settings = FinetuneSettings(distill=0.25, temperature=2.0)
    with torch.no_grad():
        loss = Objective(TASK, settings, 3, teacher)(lambda images: scores, IMAGES, LABELS)
        expected = 0.75 * nn.functional.cross_entropy(scores, LABELS) + 0.25 * distillation_loss(
            scores, teacher(IMAGES), 2.0
        )
    assert float(loss) == pytest.approx(float(expected), rel=1e-6)
    with pytest.raises(TrainingError, match="a different head"):
        Objective(TASK, settings, 3, teacher)(lambda images: torch.randn(6, 4), IMAGES, LABELS)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_binary_cross_entropy_counts_every_class(smoothing: float) -> None:
    scores = torch.randn(6, 3)
    wanted = np.full((6, 3), smoothing / 3)
    wanted[np.arange(6), LABELS.numpy()] += 1 - smoothing
    p = 1 / (1 + np.exp(-scores.double().numpy()))
    expected = -(wanted * np.log(p) + (1 - wanted) * np.log(1 - p)).mean()
    loss = TASK.loss(scores, LABELS, FinetuneSettings(loss="bce", label_smoothing=smoothing))
    assert float(loss) == pytest.approx(expected, rel=1e-5)
