"""The detection task: the losses of the network, mAP, training with a control, comparison and pictures."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from attn_surgeon.artefact.load import load
from attn_surgeon.artefact.open_network import LoadedNetwork, open_network
from attn_surgeon.artefact.provenance import set_provenance
from attn_surgeon.artefact.save import save
from attn_surgeon.data.boxes.boxes import Boxes
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError, TrainingError
from attn_surgeon.evaluate.assess import assess, open_for_networks
from attn_surgeon.evaluate.compare import ComparedNames
from attn_surgeon.finetune import loop
from attn_surgeon.finetune.control_run import fine_tune
from attn_surgeon.finetune.job import open_job
from attn_surgeon.finetune.loop import train
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.surgery.installed_grafts import list_grafts
from attn_surgeon.tasks import get_task
from attn_surgeon.tasks.base import ScoreOptions
from attn_surgeon.tasks.settings import TaskSettings

from ..data.boxes.files import CLASSES, splits, write_coco, write_voc
from .cell_detector import RAW, SETTINGS, cell_detector, loaded
from .test_average_precision import coco_map

TASK = get_task("detection")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_voc(tmp_path_factory.mktemp("cells"), splits(train=6, val=4))


@pytest.fixture(scope="module")
def learned(root: Path, tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """Return a detector that finds some of the objects."""
    return trained(root, tmp_path_factory.mktemp("learned"), epochs=10, lr=2e-2, graft_lr_mult=1.0, warmup=0.05)


@pytest.fixture(autouse=True)
def own_precision() -> Iterator[None]:
    """Forget the precision of the training before: Accelerate has one for a process."""
    from accelerate.state import AcceleratorState

    yield
    AcceleratorState._reset_state(reset_partial_state=True)


def opened(root: Path, settings: TaskSettings = SETTINGS) -> Splits:
    return TASK.open_splits(str(root), RAW, settings)


def trained(root: Path, folder: Path, **changes: Any) -> nn.Module:
    settings = replace(SETTINGS, **changes)
    network = TASK.fit_head(loaded(), CLASSES, settings)
    folder.mkdir(exist_ok=True)
    return train(network.model, opened(root, settings), settings, folder, network.example).model


def test_the_loss_of_a_batch_is_that_of_the_network_without_crowds(root: Path) -> None:
    model, data = loaded().model.train(), opened(root).train.dataset
    (first, boxes), (second, others) = data[0], data[1]
    crowded = Boxes(boxes.boxes, boxes.labels, torch.tensor([True, False]))
    torch.manual_seed(1)
    loss, output = TASK.batch_loss(model, [first, second], [crowded, others], SETTINGS)
    torch.manual_seed(1)
    targets = [
        {"boxes": boxes.boxes[1:], "labels": boxes.labels[1:] + 1},
        {"boxes": others.boxes, "labels": others.labels + 1},
    ]
    with torch.no_grad():
        losses = model([first, second], targets)
    assert float(loss.detach()) == float(sum(losses.values()))
    assert output is None


def test_the_score_is_that_of_pycocotools_and_changes_nothing(root: Path, learned: nn.Module) -> None:
    model, data = learned, opened(root).val
    flags = [module.training for module in model.modules()]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    score = TASK.score(model, data)
    images: Any = data.dataset
    expected = coco_map([images.truth(index) for index in range(4)], list(score.predictions.found))
    assert (score.metric, score.figures["map50"], score.figures["map75"]) == pytest.approx(expected)
    assert score.metric > 0
    assert TASK.score(model, data).loss == score.loss
    assert TASK.score(model, data, ScoreOptions(with_loss=False)).metric == score.metric
    assert all(module.training for module in model.modules())
    for module, flag in zip(model.modules(), flags, strict=True):
        module.training = flag
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_images_of_another_size_score_the_same_boxes(root: Path) -> None:
    model, plain = loaded().model, opened(root).val
    larger = TASK.open_splits(str(root), RAW, replace(SETTINGS, longer_side=96)).val
    assert larger.dataset[0][0].shape == (3, 80, 96)
    first, second = (TASK.score(model, data).predictions.found for data in (plain, larger))
    for one, other in zip(first, second, strict=True):
        assert len(one.boxes) == len(other.boxes) > 0
        assert float(other.boxes.max()) <= 48


def test_a_network_is_trained_with_a_control(root: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, epochs=3, augment=True)
    job = open_job(loaded(), str(root), settings, control=True, seeds=2)
    result = fine_tune(job.at(tmp_path))
    document = json.loads((tmp_path / "comparison.json").read_text())
    assert document["metric"] == "map"
    assert document["difference"]["how"] == "over 2 training runs of each, 4 images, by bootstrap"
    for run in result["runs"]:
        for arm in ("grafts", "control"):
            assert 0 <= run[arm]["map"] <= run[arm]["map50"] <= 1
            assert list(run[arm]["ap"]) == list(CLASSES)
        assert run["difference"] == run["grafts"]["map"] - run["control"]["map"]
    lines = (tmp_path / "seed-0-grafts" / "metrics.jsonl").read_text().splitlines()
    losses = [json.loads(line)["train_loss"] for line in lines]
    assert losses[-1] < losses[0]
    assert Image.open(io.BytesIO((tmp_path / "seed-0-grafts" / "detections.png").read_bytes())).size[0] == 900
    best = load(tmp_path / "seed-1-grafts" / "last.safetensors", model=cell_detector())
    score = TASK.score(best, opened(root).val)
    assert score.metric == result["runs"][1]["grafts"]["map"]


def test_a_killed_run_continues_to_the_same_weights(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trained(root, tmp_path / "whole", ema=0.9, accumulate=2, augment=True, checkpoint_steps=1)
    steps, step = [], loop._step

    def interrupted(*args: Any) -> None:
        steps.append(args)
        if len(steps) == 5:
            raise KeyboardInterrupt
        step(*args)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "_step", interrupted)
        trained(root, tmp_path / "killed", ema=0.9, accumulate=2, augment=True, checkpoint_steps=1)
    again = trained(root, tmp_path / "killed", ema=0.9, accumulate=2, augment=True, checkpoint_steps=1)
    assert all(map(torch.equal, whole.state_dict().values(), again.state_dict().values()))


@pytest.mark.parametrize("changes", [{"amp": "bf16"}, {"freeze": "base"}, {"workers": 1}, {"grad_checkpointing": True}])
def test_the_settings_of_training_work_for_detectors(changes: dict[str, Any], root: Path, tmp_path: Path) -> None:
    start = TASK.fit_head(loaded(), CLASSES, SETTINGS).model
    model = trained(root, tmp_path / "run", epochs=1, **changes)
    moved = {
        name
        for (name, old), new in zip(start.named_parameters(), model.parameters(), strict=True)
        if not torch.equal(old, new)
    }
    (graft,) = list_grafts(model)
    head = {name for name, _ in model.named_parameters() if name.startswith("roi_heads.box_predictor.")}
    assert head <= moved
    assert any(name.startswith(graft.path) for name in moved)
    others = {name for name in moved if not name.startswith(graft.path)} - head
    assert bool(others) == (changes.get("freeze") != "base")
    assert bool(torch.cat([own.flatten() for own in model.parameters()]).isfinite().all())


def test_divergence_names_the_module(root: Path, tmp_path: Path) -> None:
    network = TASK.fit_head(loaded(), CLASSES, SETTINGS)
    with torch.no_grad():
        network.model.get_submodule("backbone.0").weight.fill_(torch.inf)  # type: ignore[operator]
    (tmp_path / "run").mkdir()
    with pytest.raises((TrainingError, ValueError), match="not finite"):
        train(network.model, opened(root), SETTINGS, tmp_path / "run", network.example)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"mixup": 0.2}, "the targets of detection cannot be mixed"),
        ({"distill": 0.5}, "distill has no meaning for detection"),
        ({"label_smoothing": 0.1}, "label_smoothing has no meaning for detection"),
        ({"crop": 32}, "crop has no meaning for detection"),
    ],
)
def test_settings_without_meaning_are_refused(changes: dict[str, Any], problem: str, root: Path) -> None:
    with pytest.raises(DataError, match=problem):
        open_job(loaded(), str(root), replace(SETTINGS, **changes))
    with pytest.raises(DataError, match="this data is for detection"):
        open_job(loaded(), str(root), replace(SETTINGS, task="classification"))


def test_two_networks_are_compared_by_a_paired_bootstrap(root: Path, learned: nn.Module) -> None:
    network = replace(loaded(), model=learned)
    networks = [network, replace(network, model=network.base())]
    data = open_for_networks(TASK, networks, str(root), "val", SETTINGS)
    document = assess(TASK, networks, data, compared=ComparedNames("a", None), corruption_seed=1).document
    scores = [TASK.score(one.model, own) for one, own in zip(networks, data, strict=True)]
    compared = document["compare"]
    assert compared["difference"]["estimate"] == pytest.approx(scores[0].metric - scores[1].metric)
    assert compared["difference"]["how"] == "over 4 images, by bootstrap"
    assert document["map_interval"]["low"] <= document["map"] <= document["map_interval"]["high"]
    rows = dict(TASK.rows(document))
    assert rows["mAP"].startswith(f"{100 * scores[0].metric:.2f} %  (95 % ")
    assert "bootstrap over 4 images" in rows["mAP"]
    trials = document["robust"]["trials"]
    assert len(trials) == 20
    clean = sum(scores[0].outcomes) / 4
    assert trials[4]["map_by_image"] != pytest.approx(clean)
    pictures = TASK.pictures(networks[0].model, data[0], scores[0])
    assert list(pictures) == ["detections.png"]


def test_an_image_without_objects_loses_its_highest_score(tmp_path: Path) -> None:
    data = splits(train=2, val=2)
    data["val"]["v0"] = []
    found = opened(write_voc(tmp_path, data)).val
    score = TASK.score(loaded().model, found)
    highest = float(score.predictions.found[0].scores.max())
    assert score.outcomes[0] == pytest.approx(1 - highest)


def test_classes_are_matched_by_name_then_by_number(root: Path, tmp_path: Path) -> None:
    network = TASK.fit_head(loaded(), CLASSES, SETTINGS)
    named = replace(network.provenance, class_names=("__background__", "rod", "cell"))
    swapped = replace(network, model=set_provenance(network.model, named))
    data = TASK.open_split(swapped, str(root), "val", SETTINGS)
    assert data.class_names == ("rod", "cell")
    plain: Any = opened(root).val.dataset
    images: Any = data.dataset
    assert images.truth(0).labels.tolist() == [1 - label for label in plain.truth(0).labels.tolist()]
    other = replace(network.provenance, class_names=("a", "b"))
    unnamed = replace(network, model=set_provenance(network.model, other))
    found = TASK.open_split(unnamed, str(root), "val", SETTINGS)
    assert found.notes[-1] == "the data's class names are not the network's: matched by index"
    more = loaded(6)
    with pytest.raises(DataError, match="the network has 5 outputs, the data 2 classes"):
        TASK.open_split(more, str(root), "val", SETTINGS)
    assert "to the first 2" in TASK.open_split(more, str(root), "val", SETTINGS, by_index=True).notes[-1]


FACTORY = """
from tests.tasks.cell_detector import cell_detector

def network(num_classes=5):
    return cell_detector(num_classes)

def fixed():
    return cell_detector(5)
"""


@pytest.fixture
def source(tmp_path: Path) -> Callable[[str], LoadedNetwork]:
    """Return a function that opens a network of a file's factory, with a graft."""
    (tmp_path / "net.py").write_text(FACTORY)

    def opened_source(factory: str) -> LoadedNetwork:
        from attn_surgeon import insert

        network = open_network(f"{tmp_path / 'net.py'}:{factory}", weights="none")
        set_provenance(network.model, replace(network.provenance, preprocessing=RAW))
        operated = insert(network.model, "se", after="backbone", example=network.example)
        return replace(network, model=set_provenance(operated, network.provenance))

    return opened_source


def test_a_head_for_other_classes_is_new_and_an_artefact_rebuilds_it(
    source: Callable[[str], LoadedNetwork], tmp_path: Path
) -> None:
    network = source("network")
    fitted = TASK.fit_head(network, CLASSES, SETTINGS)
    assert TASK.outputs(fitted) == 2
    assert fitted.provenance.source.args == {"num_classes": 3}
    assert fitted.fresh == ("roi_heads.box_predictor.bbox_pred", "roi_heads.box_predictor.cls_score")
    assert "is new: 2 classes in place of 4" in fitted.notes[-1]
    assert len(list_grafts(fitted.model)) == 1
    save(fitted.model, tmp_path / "m.safetensors")
    again = load(tmp_path / "m.safetensors", trust=True)
    image = torch.rand(1, 3, 40, 48)
    first, second = (model.eval()(image)[0]["scores"] for model in (fitted.model, again))
    assert torch.equal(first, second)
    assert TASK.fit_head(fitted, CLASSES, SETTINGS).notes == fitted.notes
    renamed = TASK.fit_head(fitted, ("ring", "rod"), SETTINGS)
    assert renamed.notes[-1].endswith("is new: it is for other classes")
    with pytest.raises(TrainingError) as refused:
        TASK.fit_head(source("fixed"), CLASSES, SETTINGS)
    assert refused.value.what == "the head has 4 outputs, the data 2 classes, and the head cannot be replaced"


def test_coco_data_trains_as_its_own_classes(tmp_path: Path) -> None:
    root = write_coco(tmp_path, splits(train=2, val=2))
    job = open_job(loaded(), str(root), replace(SETTINGS, epochs=1))
    assert job.network.provenance.class_names == CLASSES
    data: ImageData = job.splits.val
    assert isinstance(TASK.score(job.network.model, data).metric, float)


def test_samples_run_through_the_network(root: Path) -> None:
    model = loaded().model.eval()
    batches: list[Tensor] = list(TASK.samples(opened(root).val))
    assert [tuple(batch.shape) for batch in batches] == [(1, 3, 40, 48)] * 4
    calls: list[Any] = []
    model.register_forward_hook(lambda own, args, output: calls.append(output))
    TASK.run(model, batches[0])
    assert [len(output) for output in calls] == [1]


def test_without_pycocotools_the_extra_is_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attn_surgeon.optional_dependencies.is_installed", lambda module: False)
    with pytest.raises(Exception, match=r"detection needs pycocotools; pip install 'attn-surgeon\[detection\]'"):
        opened(root)


def test_a_setting_of_the_longer_side_is_kept_in_the_artefact(root: Path, tmp_path: Path) -> None:
    settings: FinetuneSettings = replace(SETTINGS, longer_side=64)
    job = open_job(loaded(), str(root), settings)
    save(job.network.model, tmp_path / "m.safetensors")
    kept = replace(loaded(), model=load(tmp_path / "m.safetensors", model=cell_detector()))
    image = TASK.open_split(kept, str(root), "val", TaskSettings(task="detection")).dataset[0][0]
    assert image.shape == (3, 53, 64)
