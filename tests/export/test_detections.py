"""Exported detectors: objects are compared one by one, grafts are in the file, and its mAP is the network's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from attn_surgeon import disabled, export_onnx, graft_parameters, insert
from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.errors import DataError, ExportError
from attn_surgeon.export.detections import objects_difference
from attn_surgeon.export.dynamic_axes import read_axes
from attn_surgeon.export.onnx.convert import convert_to_onnx
from attn_surgeon.export.onnx.format import OnnxOptions, write_onnx
from attn_surgeon.export.onnx.session import as_feeds, open_session
from attn_surgeon.export.onnx.session_detector import SessionDetector
from attn_surgeon.export.parity import Parity, ParityError
from attn_surgeon.export.parity_check import explain_mismatch
from attn_surgeon.export.prepared import prepare
from attn_surgeon.export.settings import ExportRequest, ExportSettings
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.demo.box_scenes import draw_digits
from attn_surgeon.networks.demo.detector import load_demo_detector
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.base import ScoreOptions
from attn_surgeon.tasks.detectors.base import detector_of
from attn_surgeon.tasks.settings import TaskSettings

from ..tasks.detectors.helpers import FAMILIES

BOXES = np.array([[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 40.0, 30.0], [20.0, 20.0, 40.0, 30.0]])
SCORES, LABELS = np.array([0.9, 0.4, 0.4]), np.array([1, 2, 1])
NOISE = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(3))


def changed(**values: Any) -> float:
    """Return the relative difference of objects of which some values differ from PyTorch's."""
    actual = [values.get(name, own) for name, own in (("boxes", BOXES), ("scores", SCORES), ("labels", LABELS))]
    return objects_difference("", actual, [BOXES, SCORES, LABELS]).relative


def opened(network: nn.Module) -> nn.Module:
    """Return a network whose grafts were moved from the identity."""
    with torch.no_grad():
        for parameter in graft_parameters(network):
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    return network


def test_objects_agree_in_any_order_of_equal_scores() -> None:
    swapped = [0, 2, 1]
    assert changed() == 0
    assert changed(boxes=BOXES[swapped], scores=SCORES[swapped], labels=LABELS[swapped]) == 0


def test_the_difference_is_that_of_the_scores_or_of_the_boxes() -> None:
    assert changed(scores=SCORES + np.array([0, 3e-5, 0])) == pytest.approx(3e-5)
    assert changed(scores=SCORES + np.array([2e-4, 0, 0])) == pytest.approx(2e-4)
    moved = BOXES + np.array([[0.0], [0.05], [0.0]])  # an IoU of 19.95 × 9.95 / (400 − 19.95 × 9.95)
    assert changed(boxes=moved) == pytest.approx((1 - 198.5025 / 201.4975) / 100)
    assert changed(boxes=moved) > 1e-4 > changed(boxes=BOXES + 0.02)
    absolute = objects_difference("", [moved, SCORES, LABELS], [BOXES, SCORES, LABELS]).absolute
    assert absolute == pytest.approx(0.05)


def test_another_number_or_another_label_is_no_agreement() -> None:
    assert changed(labels=np.array([1, 2, 3])) == np.inf
    assert changed(boxes=BOXES[:2], scores=SCORES[:2], labels=LABELS[:2]) == np.inf
    twice = [0, 0, 1]  # one object twice, another not at all
    assert changed(boxes=BOXES[twice], scores=SCORES[twice], labels=LABELS[twice]) == pytest.approx(0.5)


def test_the_difference_says_whether_objects_their_labels_or_only_their_scores_and_boxes_differ() -> None:
    pytorch = [BOXES, SCORES, LABELS]
    assert objects_difference("", [BOXES[:2], SCORES[:2], LABELS[:2]], pytorch).objects == "2 objects instead of 3"
    assert objects_difference("", [BOXES, SCORES, np.array([1, 2, 3])], pytorch).objects == "other labels"
    found = objects_difference("1×64×64", [BOXES + 0.02, SCORES + np.array([2e-3, 0, 0]), LABELS], pytorch)
    assert found.objects == "the same labels: scores within 0.002, IoU from 0.9920"
    with pytest.raises(ParityError, match=r"0\.002 at 1×64×64 \(the same labels: scores .*\), allowed is 0\.0001"):
        raise ParityError(Parity("PyTorch", 1e-4, (found,)), "x.onnx")


def test_nothing_found_is_nothing_compared() -> None:
    nothing = [np.zeros((0, 4)), np.zeros(0), np.zeros(0, dtype=np.int64)]
    found = objects_difference("", nothing, nothing)
    assert (found.relative, found.silent) == (0, True)


@pytest.mark.parametrize("family", ["Faster R-CNN", "SSD"])
def test_a_file_finds_what_pytorch_finds_at_every_size(family: str, tmp_path: Path) -> None:
    network: Any = FAMILIES[family](4).eval()
    if family == "Faster R-CNN":
        network.roi_heads.score_thresh = 0.0
    file = export_onnx(network, tmp_path / "x.onnx", example=torch.rand(1, 3, 64, 64), dynamic="height,width")
    assert [item.size for item in file.parity.differences] == ["1×64×64", "1×64×96", "1×96×64", "1×96×96"]
    assert file.parity.passed
    assert not any(item.silent for item in file.parity.differences)


def test_grafts_are_in_the_file(tmp_path: Path) -> None:
    network = opened(insert(load_demo_detector(), "cbam", after="backbone.layer2", example=NOISE))
    scene = torch.from_numpy(draw_digits("val", 4).pixels)[None, None] / 255
    file = export_onnx(network, tmp_path / "x.onnx", example=NOISE)
    with open_session(file.path) as session:
        boxes, scores, labels = session.run(as_feeds("images", scene))
    with torch.no_grad():
        own = network([scene[0]])[0]
        with disabled(network):
            closed = network([scene[0]])[0]
    pytorch = [own[name].numpy() for name in ("boxes", "scores", "labels")]
    without = [closed[name].numpy() for name in ("boxes", "scores", "labels")]
    assert objects_difference("", [boxes, scores, labels], pytorch).relative < 1e-4
    assert objects_difference("", [boxes, scores, labels], without).relative > 1e-2


def test_another_network_is_no_agreement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network: Any = load_demo_detector()

    def with_another_bias(module: Any, *rest: Any) -> Any:
        module.module.network.head.classification_head.cls_logits.bias.data += 0.1
        model = original(module, *rest)
        module.module.network.head.classification_head.cls_logits.bias.data -= 0.1
        return model

    original = convert_to_onnx
    monkeypatch.setattr("attn_surgeon.export.onnx.format.convert_to_onnx", with_another_bias)
    with pytest.raises(ParityError):
        export_onnx(network, tmp_path / "x.onnx", example=NOISE)


def test_the_average_precision_of_a_file_is_the_networks(tmp_path: Path) -> None:
    network = open_network("demo-detector")
    request = ExportRequest(
        network=LoadedNetwork(network.model),
        settings=ExportSettings(axes=read_axes("none"), preprocess=True),
        options=OnnxOptions(data="demo-boxes", limit=25),
        targets={"fp32": tmp_path / "x.onnx"},
    )
    [measured] = write_onnx(request).measured
    task = get_task("detection")
    data = task.open_split(network, "demo-boxes", "val", TaskSettings(task="detection", limit=25))
    expected = task.score(network.model, data, ScoreOptions(with_loss=False))
    assert (measured.metric, measured.images) == (task.metric, 25)
    assert measured.score == pytest.approx(expected.metric, abs=1e-4)
    assert expected.metric > 0.2


def test_images_of_another_size_than_the_files_are_refused() -> None:
    prepared = prepare(open_network("demo-detector"), ExportSettings(axes=read_axes("width")))
    session: Any = None
    with pytest.raises(
        DataError, match="the file takes images of 64×64 pixels, one of the data has 96×64; data; export"
    ):
        SessionDetector(session, prepared)([torch.zeros(1, 96, 64)])


@pytest.mark.slow
def test_a_detr_is_exported_whole_and_its_file_detects_what_it_does(tmp_path: Path) -> None:
    from ..tasks.detectors.tiny_detr import DETRS

    images = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(seed)) for seed in range(2)]
    place = "model.backbone.model.encoder.stages.2"
    network = opened(insert(DETRS["DETR"](10).eval(), "se", after=place, example=images[0][None]))
    file = export_onnx(network, tmp_path / "x.onnx", example=images[0][None], dynamic="batch")
    assert file.parity.passed
    prepared = prepare(LoadedNetwork(network), ExportSettings(axes=read_axes("batch")))
    with open_session(file.path) as session, torch.no_grad():
        module = SessionDetector(session, prepared)
        found = detector_of(module).predict(module, images)
        pytorch = detector_of(network).predict(network, images)
        with disabled(network):
            without = detector_of(network).predict(network, images)
    assert detector_of(module).classes(module) == 10
    for own, other, plain in zip(found, pytorch, without, strict=True):
        assert torch.allclose(own.boxes, other.boxes, atol=1e-2)
        assert torch.allclose(own.scores, other.scores, atol=1e-5)
        assert torch.equal(own.labels, other.labels)
        assert not torch.allclose(own.scores, plain.scores, atol=1e-5)


class Checked(nn.Module):
    """A network with a check of computed values, as transformers' detectors have them."""

    def forward(self, x: Tensor) -> Tensor:
        utils = pytest.importorskip("transformers.utils")
        utils.torch_compilable_check(x.isfinite(), "not finite")
        return x.flatten(1) * 2


def test_checks_of_transformers_are_not_exported(tmp_path: Path) -> None:
    assert export_onnx(Checked(), tmp_path / "x.onnx", example=torch.rand(1, 3, 8, 8)).parity.passed


def test_a_mismatch_of_an_untrained_detector_names_its_equal_scores() -> None:
    from ..tasks.detectors.tiny_detr import DETRS

    pixels = Preprocessing((0.0,) * 3, (1.0,) * 3, (64, 64))
    network = set_provenance(DETRS["RT-DETR"](3).eval(), Provenance(SourceSpec("object", "detr"), pixels))
    prepared = prepare(LoadedNetwork(network), ExportSettings(axes=read_axes("none")))
    [size] = prepared.sizes()
    assert re.fullmatch(
        r"rounding alone changes PyTorch's own outputs by \d\S*: an untrained detector picks the best of nearly equal"
        r" scores; train it first",
        explain_mismatch(prepared, size, 1e-4),
    )


@pytest.mark.slow
@pytest.mark.parametrize("family", ["RT-DETR", "RT-DETRv2", "D-FINE", "DEIMv2", "LW-DETR", "RF-DETR"])
def test_detectors_that_choose_proposals_are_exported(family: str, tmp_path: Path) -> None:
    from ..tasks.detectors.tiny_detr import EVERY

    network, generator = EVERY[family](3).eval(), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in network.parameters():  # some of them score all proposals alike at first
            if weight.ndim > 1 and family.startswith("RT-DETR"):
                weight.normal_(std=0.3, generator=generator)
    file = export_onnx(network, tmp_path / "x.onnx", example=torch.rand(1, 3, 64, 64), dynamic="batch")
    assert file.parity.passed


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"precision": "fp16"}, "a network that selects boxes is exported in fp32 alone, not in fp16"),
        ({"dynamic": "batch"}, "the file takes one image at a time; dynamic; leave the batch out"),
        ({"dynamic": "batch=1:4"}, "the file takes one image at a time; dynamic; leave the batch out"),
        ({"softmax": True}, "the network returns boxes with scores, not logits"),
        ({"opset": 22}, "opset 22 is out of range for a network that selects boxes; opset; supported: 18 to 20"),
    ],
)
def test_what_a_detectors_file_cannot_be_is_refused(options: Any, error: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=error):
        export_onnx(load_demo_detector(), tmp_path / "x.onnx", example=NOISE, **options)
    assert not list(tmp_path.iterdir())
