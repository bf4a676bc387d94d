"""A third task needs one class and one registered line: brightness as a regression, trained and compared."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from attn_surgeon import insert
from attn_surgeon.artefact.open_network import LoadedNetwork
from attn_surgeon.artefact.provenance import Provenance, set_provenance
from attn_surgeon.data.corrupted import Corrupt
from attn_surgeon.data.corruptions import corrupt
from attn_surgeon.data.images import ImageData
from attn_surgeon.data.splits import Splits
from attn_surgeon.errors import DataError
from attn_surgeon.evaluate.assess import assess, open_for_networks
from attn_surgeon.evaluate.compare import ComparedNames
from attn_surgeon.export.onnx.format import OnnxOptions, write_onnx
from attn_surgeon.export.settings import ExportRequest
from attn_surgeon.finetune.control_run import fine_tune
from attn_surgeon.finetune.job import open_job
from attn_surgeon.finetune.settings import FinetuneSettings
from attn_surgeon.networks import SourceSpec
from attn_surgeon.networks.preprocessing import Preprocessing
from attn_surgeon.progress import Progress, no_progress
from attn_surgeon.tasks import TASKS, get_task, infer_task
from attn_surgeon.tasks.base import DEFAULT_OPTIONS, Metric, Score, ScoreOptions, Task
from attn_surgeon.tasks.settings import TaskSettings

GREY = Preprocessing((0.0,), (1.0,), (8, 8), channels=1)


class Brightness(Task):
    """How bright an image is, from 0 to 1."""

    name = "brightness"
    metric = image_metric = Metric("closeness", "closeness")
    mixable = False
    unused_settings = ("label_smoothing", "distill")

    def recognises(self, spec: str) -> bool:
        return spec.endswith(".brightness")

    def open_splits(self, spec: str, preprocessing: Preprocessing, settings: TaskSettings) -> Splits:
        return Splits(_images(32), _images(12))

    def open_split(
        self,
        network: LoadedNetwork,
        spec: str,
        split: str,
        settings: TaskSettings,
        *,
        preprocessing: Preprocessing | None = None,
        by_index: bool = False,
    ) -> ImageData:
        return _images(12)

    def outputs(self, network: LoadedNetwork) -> int:
        return 1

    def fit_head(self, network: LoadedNetwork, class_names: tuple[str, ...], settings: TaskSettings) -> LoadedNetwork:
        return network

    def logits(self, output: Any) -> Tensor:
        return torch.as_tensor(output)

    def loss(self, output: Any, targets: Tensor, settings: TaskSettings) -> Tensor:
        return (self.logits(output)[:, 0] - targets).square().mean()

    def score(
        self,
        model: nn.Module,
        data: ImageData,
        options: ScoreOptions = DEFAULT_OPTIONS,
        progress: Progress = no_progress,
    ) -> Score:
        images, targets = data.dataset.tensors  # type: ignore[attr-defined]
        model.eval()
        with torch.no_grad():
            errors = (model(images)[:, 0] - targets).abs().double()
        progress(len(images), len(images))
        outcomes = (1 - errors.clamp(max=1)).tolist()
        return Score(sum(outcomes) / len(outcomes), float(errors.square().mean()), tuple(outcomes))

    def samples(self, data: ImageData) -> Iterator[Tensor]:
        for images, _ in DataLoader(data.dataset, 4, generator=torch.Generator()):
            yield images

    def corruptions(self, data: ImageData, seed: int) -> Corrupt:
        images, targets = data.dataset.tensors  # type: ignore[attr-defined]
        pictures = [Image.fromarray((255 * image[0]).byte().numpy()) for image in images]

        def corrupted(kind: str, strength: int) -> ImageData:
            made = [
                np.asarray(corrupt(picture, kind, strength, (seed, index), pictures), dtype=np.float32) / 255
                for index, picture in enumerate(pictures)
            ]
            return replace(data, dataset=TensorDataset(torch.from_numpy(np.stack(made))[:, None], targets))

        return corrupted


def _images(count: int) -> ImageData:
    generator = torch.Generator().manual_seed(count)
    targets = torch.rand(count, generator=generator)
    images = (targets[:, None, None, None] + 0.05 * torch.randn(count, 1, 8, 8, generator=generator)).clamp(0, 1)
    return ImageData(TensorDataset(images, targets), ("brightness",))


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> LoadedNetwork:
    """Register the task; return a network with a graft that predicts badly."""
    monkeypatch.setitem(TASKS, "brightness", f"{__name__}:Brightness")
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU())
    plain = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1))
    provenance = Provenance(SourceSpec("object", "net"), GREY)
    model = insert(plain, "se", after="0", example=torch.zeros(1, 1, 8, 8))
    return LoadedNetwork(set_provenance(model, provenance))


def test_a_third_task_is_fine_tuned_with_a_control(network: LoadedNetwork, tmp_path: Path) -> None:
    settings = FinetuneSettings(task="brightness", epochs=12, batch_size=8, lr=3e-2)
    job = open_job(network, "lamps.brightness", settings, control=True, seeds=2)
    result = fine_tune(job.at(tmp_path))
    assert json.loads((tmp_path / "comparison.json").read_text()) == json.loads(json.dumps(result))
    assert (result["task"], result["metric"]) == ("brightness", "closeness")
    for run in result["runs"]:
        for arm in ("grafts", "control"):
            assert run[arm]["closeness"] > max(0.9, result["before"])
    assert result["difference"]["how"] == "over 2 training runs of each, 12 images"
    assert result["by_image"]["better"] + result["by_image"]["worse"] <= 12
    line = json.loads((tmp_path / "seed-0-grafts" / "metrics.jsonl").read_text().splitlines()[-1])
    assert line["val_closeness"] == result["runs"][0]["grafts"]["closeness"]


def test_a_third_task_is_evaluated_against_another_network_and_on_corrupted_images(network: LoadedNetwork) -> None:
    task = get_task(infer_task("lamps.brightness"))
    assert isinstance(task, Brightness)
    shifted = replace(network, model=network.base())
    with torch.no_grad():
        shifted.model.get_submodule("3").bias.fill_(0.9)  # type: ignore[operator]
    networks = [network, shifted]
    data = open_for_networks(task, networks, "lamps.brightness", "val", TaskSettings())
    found = assess(task, networks, data, compared=ComparedNames("a", "b"), corruption_seed=1)
    ours, theirs = (task.score(one.model, own) for one, own in zip(networks, data, strict=True))
    document = found.document
    assert (document["closeness"], document["compare"]["closeness"]) == (ours.metric, theirs.metric)
    assert document["compare"]["difference"]["estimate"] == pytest.approx(ours.metric - theirs.metric)
    assert document["compare"]["wilcoxon"]["better"] + document["compare"]["wilcoxon"]["worse"] == 12
    assert "than b on images like these" in document["compare"]["verdict"]
    assert len(document["robust"]["trials"]) == 20
    assert document["robust"]["trials"][0]["closeness"] != document["robust"]["trials"][4]["closeness"]
    assert "than b on corrupted images" in document["robust"]["gain"]["verdict"]
    assert task.rows(document)[1] == ("closeness", f"{100 * ours.metric:.2f} %")


def test_settings_without_meaning_for_a_task_are_refused(network: LoadedNetwork) -> None:
    plain = FinetuneSettings(task="brightness")
    for name, settings in (
        ("label_smoothing", replace(plain, label_smoothing=0.1)),
        ("distill", replace(plain, distill=0.5)),
    ):
        with pytest.raises(DataError, match=f"{name} has no meaning for brightness"):
            open_job(network, "lamps.brightness", settings, control=False, seeds=1)


def test_an_exported_file_is_scored_by_the_task_of_the_data(network: LoadedNetwork, tmp_path: Path) -> None:
    target = {"fp32": tmp_path / "net.onnx"}
    options = OnnxOptions(data="lamps.brightness")
    result = write_onnx(ExportRequest(network=network, options=options, targets=target))
    (row,) = result.measured
    task = get_task("brightness")
    expected = task.score(network.model, task.open_split(network, "lamps.brightness", "val", TaskSettings())).metric
    assert row.to_dict()["closeness"] == pytest.approx(expected, abs=1e-6)
    assert "top1" not in row.to_dict()


def test_a_registered_task_is_a_valid_setting(network: LoadedNetwork) -> None:
    assert TaskSettings(task="brightness").task == "brightness"
