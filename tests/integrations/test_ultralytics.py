"""ultralytics' training keeps grafts: the first round, further ones, resumed ones, and what reads their checkpoints."""

from __future__ import annotations

import copy
import doctest
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import attn_surgeon
from attn_surgeon.artefact.provenance import provenance_of
from attn_surgeon.errors import LostGraftError, SourceError, TrainingError

from ..hosts.networks import settled
from .yolos import (
    CLASSES,
    SETTINGS,
    SITES,
    StoppedError,
    grafted,
    integration,
    places,
    plain_yolo,
    started,
    values,
    write_data,
    write_yaml,
)

pytest.importorskip("ultralytics")
pytestmark = pytest.mark.outside


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Path:
    """Train for one epoch, and return the folder of the checkpoints."""
    folder = tmp_path_factory.mktemp("trained")
    yolo = grafted(folder)
    yolo.train(data=str(data), epochs=1, project=str(folder), name="run", **SETTINGS)
    assert places(yolo.model) == [f"after {site}" for site in SITES]
    return folder / "run" / "weights"


@pytest.mark.parametrize("name", ["best.pt", "last.pt"])
def test_checkpoints_hold_grafts_that_change_the_output(weights: Path, name: str) -> None:
    network = plain_yolo(weights / name).model
    assert places(network) == [f"after {site}" for site in SITES]
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for site in SITES:
        with attn_surgeon.disabled(network, site):
            without = network(image)[0]
        assert not torch.equal(network(image)[0], without)


def test_an_artefact_of_a_trained_network_is_loaded_without_the_pickle(
    weights: Path, tmp_path: Path, data: Path
) -> None:
    network = plain_yolo(weights / "best.pt").model
    attn_surgeon.save(network, tmp_path / "m.safetensors")
    again = attn_surgeon.load(tmp_path / "m.safetensors")
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(again(image)[0], network(image)[0])
    assert provenance_of(again).class_names == CLASSES
    start = started(integration().YOLO(again), data, project=str(tmp_path)).model
    assert all(torch.equal(value, values(start)[name]) for name, value in values(network).items())


def test_a_head_of_other_width_than_the_yaml_says_is_not_taken_for_it(tmp_path: Path, data: Path) -> None:
    yolo = integration().YOLO(write_yaml(tmp_path, classes=80))
    yolo.save(tmp_path / "wide.pt")
    network = started(integration().YOLO(tmp_path / "wide.pt"), data, project=str(tmp_path)).model
    if network.model[-1].cv3[0][0].conv.out_channels == 16:
        pytest.skip("this version of ultralytics does not keep the width")
    assert provenance_of(network).source.kind == "object"


def test_training_starts_from_the_network_that_ultralytics_trains(tmp_path: Path, data: Path) -> None:
    plain = started(plain_yolo(write_yaml(tmp_path)), data, seed=3, project=str(tmp_path)).model
    network = started(grafted(tmp_path), data, seed=3, project=str(tmp_path)).model
    start = values(network)
    assert all(torch.equal(value, start[name]) for name, value in values(plain).items())
    image = torch.rand(2, 3, 64, 64)
    assert torch.equal(network.eval()(image)[0], plain.eval()(image)[0])


@pytest.mark.parametrize("make", ["the checkpoint", "the network"])
def test_a_second_round_starts_from_the_trained_grafts(weights: Path, tmp_path: Path, data: Path, make: str) -> None:
    checkpoint = plain_yolo(weights / "best.pt").model
    yolo = integration().YOLO(weights / "best.pt" if make == "the checkpoint" else checkpoint)
    start = values(started(yolo, data, project=str(tmp_path)).model)
    assert all(torch.equal(value, start[name]) for name, value in values(checkpoint).items())
    assert any("attn_surgeon" in name for name in start)


def test_an_interrupted_training_is_resumed_with_its_grafts(tmp_path: Path, data: Path) -> None:
    yolo = grafted(tmp_path)

    def stop(trainer: Any) -> None:
        if trainer.epoch == 1:
            raise StoppedError

    yolo.add_callback("on_train_epoch_start", stop)
    with suppress(StoppedError):
        yolo.train(data=str(data), epochs=3, project=str(tmp_path), name="run", **SETTINGS)
    last = tmp_path / "run" / "weights" / "last.pt"
    saved = values(plain_yolo(last).model)
    with pytest.raises(LostGraftError, match=r"has no graft after model\.3"):
        integration().YOLO(last).insert("se", after="model.3", imgsz=64).train(resume=True)
    assert any(value.any() for name, value in saved.items() if "attn_surgeon" in name and name.endswith("bias"))
    resumed = integration().YOLO(last)
    begun: list[dict[str, Tensor]] = []
    resumed.add_callback("on_train_start", lambda trainer: begun.append(values(trainer.model)))
    resumed.train(resume=True)
    assert all(torch.equal(value, begun[0][name]) for name, value in saved.items())
    assert resumed.trainer.epoch == 2
    assert places(plain_yolo(last).model) == [f"after {site}" for site in SITES]


def test_a_crash_while_a_checkpoint_is_written_leaves_the_one_before(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, yolo = Path.write_bytes, grafted(tmp_path)

    def crash(path: Path, content: bytes) -> int:
        write(path, content[: len(content) // 2])
        raise StoppedError

    def arm(trainer: Any) -> None:
        if trainer.epoch == 1:
            monkeypatch.setattr(Path, "write_bytes", crash)

    yolo.add_callback("on_train_epoch_start", arm)
    with pytest.raises(StoppedError):
        yolo.train(data=str(data), epochs=3, project=str(tmp_path), name="run", **SETTINGS)
    monkeypatch.undo()
    folder = tmp_path / "run" / "weights"
    assert torch.load(folder / "last.pt", weights_only=False)["epoch"] == 0
    assert sorted(path.name for path in folder.iterdir() if path.suffix == ".pt") == ["best.pt", "last.pt"]
    assert places(plain_yolo(folder / "last.pt").model) == [f"after {site}" for site in SITES]


def test_the_average_has_the_grafts(tmp_path: Path, data: Path) -> None:
    trainer = started(grafted(tmp_path), data, project=str(tmp_path))
    with torch.no_grad():
        for parameter in attn_surgeon.graft_parameters(trainer.model):
            parameter.add_(1.0)
    before = values(trainer.ema.ema)
    trainer.ema.update(trainer.model)
    changed = [name for name, value in values(trainer.ema.ema).items() if not torch.equal(value, before[name])]
    assert {name for name in changed if "attn_surgeon" in name} == {
        name for name, _ in trainer.model.named_parameters() if "attn_surgeon" in name
    }


def test_ultralytics_own_class_refuses_to_train_a_network_without_the_grafts(weights: Path, data: Path) -> None:
    with pytest.raises(LostGraftError, match="would be without attn_surgeon's grafts"):
        plain_yolo(weights / "best.pt").train(data=str(data), epochs=1, **SETTINGS)


def test_a_network_that_was_assigned_is_not_rebuilt_without_its_grafts(weights: Path, data: Path) -> None:
    yolo = plain_yolo(weights / "best.pt")
    yolo.model = attn_surgeon.remove(yolo.model)
    yolo.model = attn_surgeon.insert(yolo.model, "se", after="model.3", example=torch.zeros(1, 3, 64, 64))
    with pytest.raises(LostGraftError, match="insert into the network that is built"):
        yolo.train(data=str(data), epochs=1, **SETTINGS)


def test_a_network_assigned_to_a_yolo_of_a_yaml_is_not_replaced_in_silence(tmp_path: Path, data: Path) -> None:
    yolo = plain_yolo(write_yaml(tmp_path))
    yolo.model = attn_surgeon.insert(yolo.model, "se", after="model.3", example=torch.zeros(1, 3, 64, 64))
    with pytest.raises(LostGraftError, match="without the grafts of the one assigned"):
        yolo.train(data=str(data), epochs=1, project=str(tmp_path), **SETTINGS)
    assert places(started(integration().YOLO(yolo.model), data, project=str(tmp_path)).model) == ["after model.3"]
    yolo.model = attn_surgeon.remove(yolo.model)
    assert places(started(yolo, data, project=str(tmp_path)).model) == []


def test_validation_runs_the_grafts_and_leaves_the_network_as_it_is(weights: Path, data: Path) -> None:
    yolo = integration().YOLO(weights / "best.pt")
    before = values(yolo.model)
    ran: list[int] = []
    for graft in attn_surgeon.list_grafts(yolo.model):
        graft.block.register_forward_hook(lambda *_: ran.append(1))
    yolo.val(data=str(data), imgsz=64, plots=False, verbose=False)
    assert len(ran) >= len(SITES)
    assert values(yolo.model).keys() == before.keys()


def test_a_branch_that_fusing_removes_is_refused_at_once(tmp_path: Path) -> None:
    path = write_yaml(tmp_path)
    path.write_text(f"end2end: True\n{path.read_text()}")
    lost = r"fuse the network.*after model\.8\.one2one_cv2.*exclude the sites in the branch"
    with pytest.raises(LostGraftError, match=lost):
        integration().YOLO(path).insert("se", after="model.8.**.conv", imgsz=64)
    yolo = integration().YOLO(path).insert("se", after="model.8.**.conv", exclude="model.8.one2one_*.**", imgsz=64)
    assert "after model.8.cv2.0.0.conv" in places(yolo.model)


@pytest.mark.filterwarnings("default")  # of torch's older exporter, which ultralytics calls
@torch.no_grad()
def test_grafts_between_a_convolution_and_its_activation_are_kept(tmp_path: Path, data: Path) -> None:
    import onnxruntime
    from ultralytics.nn.autobackend import AutoBackend

    yolo = grafted(tmp_path, after=["model.1.conv", "model.3.bn"], before="model.4.cv1.bn")
    with torch.enable_grad():
        yolo.train(data=str(data), epochs=1, project=str(tmp_path), name="run", **SETTINGS)
    assert places(yolo.model) == ["after model.1.conv", "after model.3.bn", "before model.4.cv1.bn"]
    image = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    for parameter in attn_surgeon.graft_parameters(yolo.model):
        parameter.normal_(generator=torch.Generator().manual_seed(0))
    network: Any = settled(yolo.model, image.repeat(2, 1, 1, 1)).eval()
    expected = network(image)[0]
    for place in places(network):
        with attn_surgeon.disabled(network, place.split()[1]):
            assert (network(image)[0] - expected).abs().max() > 0.01
    kept = {
        "fuse": copy.deepcopy(network).fuse(verbose=False),
        "backend": AutoBackend(copy.deepcopy(network), device=torch.device("cpu"), verbose=False),
        "torchscript": torch.jit.load(yolo.export(format="torchscript", imgsz=64)),  # type: ignore[no-untyped-call]
    }
    assert [hasattr(kept["fuse"].model[index], "bn") for index in (0, 1, 3)] == [False, True, False]
    outputs = {name: run(image) for name, run in kept.items()}
    session = onnxruntime.InferenceSession(yolo.export(format="onnx", imgsz=64, simplify=False))
    outputs["onnx"] = torch.from_numpy(session.run(None, {"images": image.numpy()})[0])
    for name, output in outputs.items():
        found = output[0] if isinstance(output, (tuple, list)) else output
        torch.testing.assert_close(found, expected, atol=1e-3, rtol=1e-5, msg=name)


def test_grafts_in_the_head_fit_the_classes_of_the_data(tmp_path: Path, data: Path) -> None:
    yolo = integration().YOLO(write_yaml(tmp_path, classes=80)).insert("se", at="convs", imgsz=64)
    assert yolo.model.model[-1].cv3[0][0].conv.out_channels != 16
    network = started(yolo, data, project=str(tmp_path)).model
    assert network.model[-1].cv3[0][0].conv.out_channels == 16
    assert places(network) == places(yolo.model)


def test_freezing_does_not_freeze_grafts(tmp_path: Path, data: Path) -> None:
    trainer = started(grafted(tmp_path), data, "on_train_batch_start", project=str(tmp_path), freeze=8)
    trainable = [name for name, parameter in trainer.model.named_parameters() if parameter.requires_grad]
    assert all(name.startswith("model.8.") or ".attn_surgeon." in name for name in trainable)
    assert sum(".attn_surgeon." in name for name in trainable) == len(attn_surgeon.graft_parameters(trainer.model))
    assert not trainer.model.model[1].bn.training
    assert trainer.args.freeze == 8


@pytest.mark.slow
def test_a_trainer_of_ones_own_is_given_the_grafts(tmp_path: Path, data: Path) -> None:
    from ultralytics.models.yolo.detect import DetectionTrainer

    class Mine(DetectionTrainer):  # type: ignore[misc]
        """A trainer of the user's."""

    yolo = grafted(tmp_path)
    found: list[Any] = []
    yolo.add_callback("on_train_start", found.append)
    yolo.train(data=str(data), epochs=1, trainer=Mine, project=str(tmp_path), **SETTINGS)
    assert isinstance(found[0], Mine)
    assert places(found[0].model) == places(yolo.model)


def test_training_that_changes_no_graft_is_an_error(tmp_path: Path, data: Path) -> None:
    settings: dict[str, Any] = SETTINGS | {"lr0": 0.0, "warmup_bias_lr": 0.0}
    with pytest.raises(TrainingError, match="changed no graft"):
        grafted(tmp_path).train(data=str(data), epochs=1, project=str(tmp_path), **settings)


def test_a_checkpoint_without_a_graft_is_an_error(tmp_path: Path, data: Path) -> None:
    yolo = grafted(tmp_path)
    yolo.add_callback("on_model_save", lambda trainer: rewritten(trainer.last))
    with pytest.raises(LostGraftError, match=r"no graft model\.2"):
        yolo.train(data=str(data), epochs=1, project=str(tmp_path), **SETTINGS)


def rewritten(path: Path) -> None:
    """Remove a graft from a checkpoint."""
    checkpoint = torch.load(path, weights_only=False)
    attn_surgeon.remove(checkpoint["ema"], "model.2", inplace=True)
    torch.save(checkpoint, path)


def test_tuning_by_ultralytics_command_line_is_refused(tmp_path: Path, data: Path) -> None:
    with pytest.raises(LostGraftError, match="tune trains by"):
        grafted(tmp_path).tune(data=str(data))


def test_weights_that_are_loaded_after_inserting_are_trained(tmp_path: Path, data: Path) -> None:
    pretrained = plain_yolo(write_yaml(tmp_path))
    pretrained.save(tmp_path / "plain.pt")
    yolo = grafted(tmp_path).load(tmp_path / "plain.pt")
    start = values(started(yolo, data, project=str(tmp_path)).model)
    assert all(torch.equal(value.half().float(), start[name]) for name, value in values(pretrained.model).items())
    assert any("attn_surgeon" in name for name in start)


def test_removed_grafts_stay_removed(weights: Path, tmp_path: Path, data: Path) -> None:
    yolo = integration().YOLO(weights / "best.pt")
    yolo.model = attn_surgeon.remove(yolo.model, "model.2")
    assert places(started(yolo, data, project=str(tmp_path)).model) == ["after model.4.m.0.cv2"]


@pytest.mark.slow
def test_the_example_of_insert_runs() -> None:
    from attn_surgeon.integrations.ultralytics import model

    assert doctest.testmod(model).failed == 0


def test_other_networks_are_refused() -> None:
    with pytest.raises(SourceError, match="Linear is no network of ultralytics"):
        integration().YOLO(nn.Linear(2, 2))
