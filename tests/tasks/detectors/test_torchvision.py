"""Torchvision's detectors: losses and detections are those of the library's own call; heads for other classes."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from attn_surgeon import insert, list_grafts
from attn_surgeon.data.boxes.boxes import Boxes
from attn_surgeon.errors import DataError, TrainingError
from attn_surgeon.tasks.detectors.base import detector_of, register_detector
from attn_surgeon.tasks.detectors.torchvision import TorchvisionDetector

from .helpers import FAMILIES, images, targets

ALL = pytest.mark.parametrize("family", FAMILIES)
LABELS = [torch.tensor([1, 3]), torch.zeros(0, dtype=torch.long)]  # 0 is the background


def library_losses(network: Any) -> dict[str, torch.Tensor]:
    own = [{"boxes": item.boxes[:2], "labels": labels} for item, labels in zip(targets(), LABELS, strict=True)]
    if getattr(network, "roi_heads", None) and network.roi_heads.has_mask():
        for item in own:
            item["masks"] = torch.ones(len(item["boxes"]), 64, 64, dtype=torch.uint8)
        own[1]["masks"] = own[1]["masks"][:, :48]
    losses: dict[str, torch.Tensor] = network(images(), own)
    return losses


@ALL
def test_the_loss_is_that_of_the_library(family: str) -> None:
    network = FAMILIES[family](4).train()
    torch.manual_seed(3)
    expected = library_losses(network)
    expected.pop("loss_mask", None)
    torch.manual_seed(3)
    loss = detector_of(network).losses(network, images(), targets())
    assert torch.equal(loss, sum(expected.values(), torch.zeros(())))
    loss.backward()  # type: ignore[no-untyped-call]
    still = {name for name, p in network.named_parameters() if p.grad is None and "mask" not in name}
    assert not still


@ALL
def test_detections_are_those_of_the_library_without_background(family: str) -> None:
    network = FAMILIES[family](4).eval()
    with torch.no_grad():
        expected = network(images())
        found = detector_of(network).predict(network, images())
    assert any(len(item.scores) for item in found)
    for own, output in zip(found, expected, strict=True):
        kept = output["labels"] > 0
        assert torch.equal(own.boxes, output["boxes"][kept])
        assert torch.equal(own.scores, output["scores"][kept])
        assert torch.equal(own.labels, output["labels"][kept] - 1)


@ALL
def test_a_head_for_other_classes_is_like_the_constructors_and_the_rest_is_kept(family: str) -> None:
    network, fresh = FAMILIES[family](4), FAMILIES[family](7)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    detector = detector_of(network)
    assert detector.classes(network) == 3
    again = detector.with_classes(deepcopy(network), tuple("abcdef"), 5)
    network = detector.with_classes(network, tuple("abcdef"), 5)
    assert detector.classes(network) == 6
    state, shapes = network.state_dict(), {key: value.shape for key, value in fresh.state_dict().items()}
    assert {key: value.shape for key, value in state.items()} == shapes
    assert list(state) == list(before)
    changed = {key for key in state if state[key].shape != before[key].shape}
    assert changed
    assert all(torch.equal(state[key], before[key]) for key in state if key not in changed)
    assert all(torch.equal(state[key], again.state_dict()[key]) for key in changed)
    for key in changed:  # drawn from the same distribution as the constructor's
        own, other = state[key].float(), fresh.state_dict()[key].float()
        assert own.std().item() == pytest.approx(other.std().item(), rel=0.2, abs=0.02), key
        assert own.mean().item() == pytest.approx(other.mean().item(), abs=0.03), key
    with torch.no_grad():
        found = detector.predict(network.eval(), images())
    assert all(int(item.labels.max()) < 6 for item in found if len(item.labels))


def test_another_seed_draws_other_weights() -> None:
    network: Any = FAMILIES["RetinaNet"](4)
    heads = [
        detector_of(network)
        .with_classes(deepcopy(network), ("a", "b"), seed)
        .state_dict()["head.classification_head.cls_logits.weight"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])


def test_grafts_elsewhere_are_kept_and_grafts_at_the_head_are_refused_by_name() -> None:
    network = FAMILIES["RetinaNet"](4).eval()
    kept = insert(network, "se", after=["backbone.2", "head.classification_head.conv.0"], example=(images(),))
    places = [graft.place for graft in list_grafts(kept)]
    detector_of(kept).with_classes(kept, tuple("abcdefgh"), 0)
    assert [graft.place for graft in list_grafts(kept)] == places
    assert len(detector_of(kept).predict(kept, images())) == 2
    refused = insert(network, "se", after="head.classification_head.cls_logits", example=(images(),))
    with pytest.raises(TrainingError, match=r"grafts are in it: after head\.classification_head\.cls_logits;"):
        detector_of(refused).with_classes(refused, ("a",), 0)


class Wrapper(nn.Module):
    """Has the attribute by which a compiled network is known."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self._orig_mod = model
        self.calls = 0

    def forward(self, *args: Any) -> Any:
        self.calls += 1
        return self._orig_mod(*args)


@pytest.mark.parametrize("wrap", [Wrapper, nn.DataParallel])
def test_a_wrapper_is_called_and_looked_through(wrap: Any) -> None:
    network = FAMILIES["Mask R-CNN"](4)
    torch.manual_seed(3)
    plain = detector_of(network).losses(network, images(), targets())
    wrapper = wrap(network)
    torch.manual_seed(3)
    assert torch.equal(detector_of(wrapper).losses(wrapper, images(), targets()), plain)
    assert getattr(wrapper, "calls", 1) == 1
    assert detector_of(wrapper).classes(wrapper) == 3
    assert detector_of(wrapper).with_classes(wrapper, ("a",), 0) is wrapper
    assert detector_of(network).classes(network) == 1


def test_empty_boxes_are_an_error_of_the_data() -> None:
    network = FAMILIES["FCOS"](4)
    flat = Boxes(torch.tensor([[4.0, 6.0, 4.0, 9.0]]), torch.tensor([0]), torch.tensor([False]))
    with pytest.raises(DataError, match="positive height and width"):
        detector_of(network).losses(network, images()[:1], [flat])


def test_networks_of_other_kinds_are_refused_and_the_families_named() -> None:
    with pytest.raises(DataError, match=r"Linear is of no family .* torchvision's detectors"):
        detector_of(nn.Linear(2, 2))


def test_a_registered_family_is_asked_first(monkeypatch: pytest.MonkeyPatch) -> None:
    class Everything(TorchvisionDetector):
        def recognises(self, model: nn.Module) -> bool:
            return True

    monkeypatch.setattr("attn_surgeon.tasks.detectors.base._REGISTERED", [])
    register_detector(own := Everything())
    assert detector_of(FAMILIES["SSD"](4)) is own
    assert detector_of(nn.Linear(2, 2)) is own


def test_another_box_predictor_is_refused() -> None:
    network: Any = FAMILIES["Faster R-CNN"](4)
    network.roi_heads.box_predictor = nn.Identity()
    with pytest.raises(TrainingError, match="the box predictor is a Identity, not a FastRCNNPredictor"):
        detector_of(network).with_classes(network, ("a",), 0)
