"""Accuracy: its numbers against NumPy, its hash, its choice of images, its manners."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import Dataset

from attn_surgeon.data.images import ImageData
from attn_surgeon.data.opening import open_dataset
from attn_surgeon.data.subsets import balanced
from attn_surgeon.errors import DataError
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.surgery.isolation import mode
from attn_surgeon.tasks.accuracy import measure_accuracy, ranks

CLASSES = tuple("abcdefgh")


class Rows(Dataset[tuple[Tensor, int]]):
    """Serve rows of numbers as images."""

    def __init__(self, count: int = 50, classes: int = 8, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.rows = torch.randn(count, classes, generator=generator)
        self.classes = torch.randint(classes, (count,), generator=generator).tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.rows[index], self.classes[index]


def data(**options: Any) -> ImageData:
    """Wrap rows as image data."""
    return ImageData(Rows(**options), CLASSES[: options.get("classes", 8)])


def test_the_numbers_are_those_of_numpy() -> None:
    rows = Rows()
    logits, labels = rows.rows.double().numpy(), np.array(rows.classes)
    normal = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    order = np.argsort(-logits, axis=1)
    found = measure_accuracy(nn.Identity(), ImageData(rows, CLASSES), batch_size=7)
    assert found.images == 50
    assert found.correct == int((order[:, 0] == labels).sum())
    assert found.correct5 == int((order[:, :5] == labels[:, None]).sum())
    assert (found.top1, found.top5) == (found.correct / 50, found.correct5 / 50)
    assert found.loss == pytest.approx(-normal[np.arange(50), labels].mean(), rel=1e-12)
    assert found.seconds > 0


def test_the_hash_is_over_all_logits_in_order() -> None:
    rows = Rows()
    expected = hashlib.sha256(rows.rows.numpy().astype("<f4").tobytes()).hexdigest()
    assert measure_accuracy(nn.Identity(), ImageData(rows, CLASSES), batch_size=7).logits_sha256 == expected
    rows.rows[49, 7] = torch.nextafter(rows.rows[49, 7], torch.tensor(9.0))
    assert measure_accuracy(nn.Identity(), ImageData(rows, CLASSES)).logits_sha256 != expected


@pytest.mark.parametrize(("classes", "told"), [(5, False), (6, True)])
def test_top5_needs_six_classes(classes: int, told: bool) -> None:
    found = measure_accuracy(nn.Identity(), data(classes=classes))
    assert (found.top5 is not None, found.correct5 is not None) == (told, told)


def test_of_equal_logits_the_first_wins() -> None:
    logits = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    assert ranks(logits, torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]


def test_nan_is_never_right() -> None:
    logits = torch.tensor([[float("nan"), 0.0], [1.0, float("nan")]])
    assert ranks(logits, torch.tensor([0, 0])).tolist() == [2, 2]


def test_more_outputs_than_classes_are_fine_and_fewer_are_not() -> None:
    rows = Rows()
    assert measure_accuracy(nn.Identity(), ImageData(rows, CLASSES[:7])).images == 50
    with pytest.raises(DataError, match="has 8 outputs, the data 9 classes"):
        measure_accuracy(nn.Identity(), ImageData(rows, (*CLASSES, "i")))


@pytest.mark.parametrize(
    "output",
    [
        lambda x: {"loss": x.sum(), "logits": x},
        lambda x: {"aux": x.neg(), "out": x},
        lambda x: SimpleNamespace(logits=x),
    ],
)
def test_logits_are_found_by_name(output: Callable[[Tensor], Any]) -> None:
    class Wrapped(nn.Identity):
        def forward(self, input: Tensor) -> Any:  # noqa: A002
            return output(input)

    found = measure_accuracy(Wrapped(), data())
    assert found.logits_sha256 == measure_accuracy(nn.Identity(), data()).logits_sha256


def test_a_network_without_logits_is_refused() -> None:
    with pytest.raises(DataError, match="does not return logits"):
        measure_accuracy(nn.Unflatten(1, (2, 4)), data())


def test_no_images_are_refused() -> None:
    with pytest.raises(DataError, match="no images"):
        measure_accuracy(nn.Identity(), data(count=0))


def test_a_limit_takes_every_class_in_turn() -> None:
    labels = [0] * 100 + [1] * 100 + [2] * 3
    chosen = balanced(labels, 21)
    assert Counter(labels[index] for index in chosen) == {0: 9, 1: 9, 2: 3}
    assert chosen == sorted(set(chosen))
    assert chosen != list(range(9)) + list(range(100, 109)) + [200, 201, 202]


def test_a_limit_chooses_the_same_images_every_time() -> None:
    assert balanced([0, 0, 0, 0, 1, 1, 1, 1], 4) == [2, 3, 4, 7]
    assert set(balanced([0, 1] * 50, 10)) < set(balanced([0, 1] * 50, 20))


def test_a_limit_beyond_the_data_takes_all() -> None:
    assert balanced([1, 0, 1], 10) == [0, 1, 2]
    assert measure_accuracy(nn.Identity(), data(), limit=99).images == 50


def test_a_limited_evaluation_sees_only_its_choice() -> None:
    rows = Rows()
    chosen = balanced(rows.classes, 12)
    expected = hashlib.sha256(rows.rows[chosen].numpy().astype("<f4").tobytes()).hexdigest()
    found = measure_accuracy(nn.Identity(), ImageData(rows, CLASSES), limit=12, batch_size=5)
    assert (found.images, found.logits_sha256) == (12, expected)


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(DataError, match="at least 1, got 0"):
        measure_accuracy(nn.Identity(), data(), limit=0)


def test_training_flags_come_back_module_by_module() -> None:
    model = nn.Sequential(nn.Dropout(0.9), nn.Sequential(nn.BatchNorm1d(8)), nn.Identity()).train()
    model[1].eval()
    before = [module.training for module in model.modules()]
    first = measure_accuracy(model, data())
    assert [module.training for module in model.modules()] == before
    assert before == [True, True, False, False, True]
    assert measure_accuracy(model, data()).logits_sha256 == first.logits_sha256
    assert int(model[1][0].num_batches_tracked) == 0  # type: ignore[index]


def test_training_flags_come_back_after_an_error() -> None:
    model = nn.Dropout()
    with pytest.raises(ZeroDivisionError), mode(model, training=False):
        assert not model.training
        raise ZeroDivisionError
    assert model.training


def test_nothing_is_recorded_for_gradients() -> None:
    seen: list[bool] = []
    model = nn.Linear(8, 8)
    model.register_forward_hook(lambda *_: seen.append(torch.is_inference_mode_enabled()))
    measure_accuracy(model, data())
    assert seen == [True]


def test_the_global_generator_stays_where_it_is() -> None:
    before = torch.get_rng_state()
    measure_accuracy(nn.Identity(), data(), limit=9)
    assert torch.equal(torch.get_rng_state(), before)


def test_progress_counts_images() -> None:
    seen: list[tuple[int, int]] = []
    measure_accuracy(nn.Identity(), data(), batch_size=20, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(20, 50), (40, 50), (50, 50)]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named_in_one_line(tmp_path: Path, workers: int) -> None:
    (tmp_path / "ant").mkdir()
    Image.new("RGB", (2, 2)).save(tmp_path / "ant" / "a.png")
    (tmp_path / "ant" / "b.png").write_text("no image")
    opened = open_dataset(str(tmp_path), "val", Preprocessing((0.0,) * 3, (1.0,) * 3, (2, 2)))
    with pytest.raises(DataError) as caught:
        measure_accuracy(nn.Flatten(), opened, workers=workers)
    assert str(caught.value).startswith(f"cannot read this image; {tmp_path / 'ant' / 'b.png'}; repair")
    assert "\n" not in str(caught.value)
